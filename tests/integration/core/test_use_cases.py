"""Orders and sagas in Postgres: batches, repetitions, races."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from builders import CUSTOMER, NOW, TRACEPARENT, a_line, a_message, a_record, place_order
from common.contracts import commands, events
from common.contracts.codec import Message, decode
from common.errors import PoisonError
from common.postgres import create_engine
from eventually import eventually
from integration.core.database import execute, rows, sent, sent_bodies, value, waits_for_a_lock
from local_stack.servers import Addresses
from orders.adapters.postgres import unit_of_work
from orders.domain.saga import ATTEMPTS_BEFORE_ATTENTION, STEP_TIMEOUT, SagaState
from orders.use_cases import advance_sagas, ask_again, write_orders


def clock() -> Any:
    return NOW


@pytest.fixture
async def another_process(servers: Addresses) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(servers.database_url, application_name="another_process")
    yield engine
    await engine.dispose()


async def write(engine: AsyncEngine, *bodies: Any) -> None:
    await write_orders(unit_of_work(engine, "order_writer"), clock, [a_message(body) for body in bodies])


async def advance(engine: AsyncEngine, *bodies: Any) -> None:
    await advance_sagas(unit_of_work(engine, "saga_runner"), clock, [a_message(body) for body in bodies])


async def placed(engine: AsyncEngine, **changes: Any) -> UUID:
    """An order whose saga has begun, with an empty outbox."""
    order = place_order(**changes)
    await write(engine, order)
    (event,) = await sent_bodies(engine, "orders")
    await advance(engine, event)
    await execute(engine, "DELETE FROM orders.outbox")
    return order.order_id


async def state_of(engine: AsyncEngine, order_id: UUID) -> tuple[str, str]:
    sql = "SELECT status, state FROM orders.orders JOIN orders.sagas USING (order_id) WHERE order_id = :id"
    ((status, state),) = await rows(engine, sql, id=order_id)
    return status, state


async def test_a_batch_is_stored_with_its_lines_and_each_order_tells_it_was_placed(engine: AsyncEngine) -> None:
    orders = [place_order(lines=(a_line("a", 2, 300), a_line("b", 1, 400)), total_minor=1_000) for _ in range(50)]

    await write(engine, *orders)

    assert await value(engine, "SELECT count(*) FROM orders.orders WHERE status = 'placed' AND version = 1") == 50
    assert await value(engine, "SELECT sum(quantity * unit_price_minor) FROM orders.order_lines") == 50_000
    messages = await sent(engine, "orders")
    assert [m.body.order_id for m in messages] == [order.order_id for order in orders]
    assert {m.kind for m in messages} == {events.OrderPlaced}
    assert len({m.message_id for m in messages}) == 50


async def test_a_redelivered_batch_changes_nothing(engine: AsyncEngine) -> None:
    begin, batch = unit_of_work(engine, "order_writer"), [a_message(place_order()) for _ in range(10)]

    for _ in range(3):
        await write_orders(begin, clock, batch)

    assert await value(engine, "SELECT count(*) FROM orders.orders") == 10
    assert len(await sent(engine, "orders")) == 10


async def test_one_order_twice_in_a_batch_is_placed_once_and_the_first_wins(engine: AsyncEngine) -> None:
    order_id = uuid4()

    await write(engine, place_order(order_id, total_minor=1), place_order(order_id, total_minor=2))
    await write(engine, place_order(order_id, total_minor=3))

    assert await value(engine, "SELECT array_agg(total_minor) FROM orders.orders") == [1]
    assert await value(engine, "SELECT count(*) FROM orders.order_lines") == 1
    assert [body.total_minor for body in await sent_bodies(engine, "orders")] == [1]


@pytest.mark.parametrize(
    "changes",
    [
        {"currency": "DOLLARS"},
        {"customer_id": "c" * 201},
        {"client_reference": "a\0b"},
        {"total_minor": -1},
        {"total_minor": 2**63},
        {"lines": (a_line(quantity=0),)},
        {"lines": (a_line(quantity=2**31),)},
        {"lines": (a_line(unit_price_minor=-1),)},
        {"lines": (a_line(unit_price_minor=2**63),)},
        {"lines": (a_line("s" * 65),)},
        {"lines": (a_line("a\0b"),)},
    ],
)
async def test_an_order_that_postgres_cannot_hold_is_refused_when_it_is_read_and_would_be_poison_there_too(
    engine: AsyncEngine, changes: dict[str, Any]
) -> None:
    order = place_order(**changes)
    with pytest.raises(PoisonError):
        decode(a_record(order))

    unread = Message(order, uuid4(), None, a_record(place_order()))
    with pytest.raises(PoisonError, match=r"^2[23]"):
        await write_orders(unit_of_work(engine, "order_writer"), clock, [unread])


async def test_a_customer_may_ask_to_cancel_in_the_batch_of_the_order_or_later(engine: AsyncEngine) -> None:
    early, late = place_order(), place_order()
    await write(engine, early, commands.CancelOrder(order_id=early.order_id, customer_id=CUSTOMER), late)
    await write(engine, commands.CancelOrder(order_id=late.order_id, customer_id=CUSTOMER))

    asked = [m.body.order_id for m in await sent(engine, "orders") if m.kind is events.OrderCancelRequested]
    assert asked == [early.order_id, late.order_id]


async def test_a_cancel_by_a_stranger_or_of_an_unknown_order_is_ignored(engine: AsyncEngine) -> None:
    order = place_order()

    await write(engine, order, commands.CancelOrder(order_id=order.order_id, customer_id="stranger"))
    await write(engine, commands.CancelOrder(order_id=uuid4(), customer_id=CUSTOMER))

    assert [m.kind for m in await sent(engine, "orders")] == [events.OrderPlaced]


async def test_the_whole_way_to_confirmed_in_one_batch_with_the_trace_of_the_request(engine: AsyncEngine) -> None:
    order = place_order(lines=(a_line("a", 2),))
    await write(engine, order)
    i, (event,) = order.order_id, await sent_bodies(engine, "orders")
    replies = [events.StockReserved, events.PaymentAuthorized, events.PaymentCaptured]

    await advance(engine, event, *(kind(order_id=i) for kind in replies))

    assert await state_of(engine, i) == ("confirmed", "ended")
    assert [type(body) for body in await sent_bodies(engine, "orders")] == [
        events.OrderPlaced,
        commands.ReserveStock,
        events.OrderReserved,
        commands.AuthorizePayment,
        events.OrderAuthorized,
        commands.CapturePayment,
        events.OrderConfirmed,
    ]
    assert set(await rows(engine, "SELECT traceparent FROM orders.outbox")) == {(TRACEPARENT,)}


async def test_a_redelivered_reply_changes_nothing(engine: AsyncEngine) -> None:
    i = await placed(engine)
    begin, reply = unit_of_work(engine, "saga_runner"), a_message(events.StockReserved(order_id=i))

    for _ in range(3):
        await advance_sagas(begin, clock, [reply, reply])

    assert [type(b) for b in await sent_bodies(engine, "orders")] == [events.OrderReserved, commands.AuthorizePayment]


async def test_a_reply_for_an_unknown_order_is_poison_and_changes_nothing(engine: AsyncEngine) -> None:
    i = await placed(engine)

    batch = [a_message(events.StockReserved(order_id=order_id)) for order_id in (uuid4(), i)]
    with pytest.raises(PoisonError, match="for an unknown order") as refused:
        await advance_sagas(unit_of_work(engine, "saga_runner"), clock, batch)

    assert refused.value.guilty == batch[:1]
    assert await state_of(engine, i) == ("placed", "reserving")


@pytest.mark.parametrize("moment", [datetime(1970, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)])
async def test_an_order_from_another_time_is_poison(engine: AsyncEngine, moment: datetime) -> None:
    batch = [a_message(place_order(accepted_at=at)) for at in (NOW, moment)]
    with pytest.raises(PoisonError, match="that cannot be") as refused:
        await write_orders(unit_of_work(engine, "order_writer"), clock, batch)

    assert refused.value.guilty == batch[1:]


async def test_our_own_news_is_not_kept_in_the_inbox(engine: AsyncEngine) -> None:
    order_id = await placed(engine)
    news = events.OrderReserved(order_id=order_id, customer_id=CUSTOMER, version=2, occurred_at=NOW)

    await advance(engine, news)

    assert await value(engine, "SELECT count(*) FROM orders.inbox WHERE consumer = 'saga_runner'") == 1


async def test_a_declined_order_is_rejected_once_its_stock_is_back(engine: AsyncEngine) -> None:
    i = await placed(engine)
    declined = events.PaymentDeclined(order_id=i, reason="payment_declined")

    await advance(engine, events.StockReserved(order_id=i), declined)
    assert await state_of(engine, i) == ("reserved", "releasing")
    await advance(engine, events.StockReleased(order_id=i))

    assert await state_of(engine, i) == ("rejected", "ended")
    assert (await sent_bodies(engine, "orders"))[-1].reason == "payment_declined"


async def test_a_saga_that_waited_too_long_asks_again_and_only_then(engine: AsyncEngine) -> None:
    i = await placed(engine)
    begin = unit_of_work(engine, "saga_runner")

    assert await ask_again(begin, clock) == 0
    assert await ask_again(begin, lambda: NOW + STEP_TIMEOUT) == 1
    assert await ask_again(begin, lambda: NOW + STEP_TIMEOUT) == 0

    assert [b.order_id for b in await sent_bodies(engine, "orders")] == [i]
    assert await value(engine, "SELECT attempts FROM orders.sagas") == 1


async def test_a_saga_that_waits_in_vain_shows_that_it_needs_attention_and_goes_on_when_the_reply_comes(
    engine: AsyncEngine,
) -> None:
    i = await placed(engine)
    for n in range(1, ATTEMPTS_BEFORE_ATTENTION + 1):
        await ask_again(unit_of_work(engine, "saga_runner"), lambda n=n: NOW + n * timedelta(hours=1))
    assert await state_of(engine, i) == ("needs_attention", "reserving")
    assert await value(engine, "SELECT reason FROM orders.orders") == "inventory"

    await advance(engine, events.StockReserved(order_id=i))

    assert await state_of(engine, i) == ("reserved", "authorizing")


async def test_two_processes_with_one_order_decide_one_after_the_other_on_what_is_true_then(
    engine: AsyncEngine, another_process: AsyncEngine
) -> None:
    """The lock is on the order; the saga that is read under it must not be the one from before the wait."""
    i = await placed(engine)

    async def cancel_elsewhere() -> None:
        await advance(another_process, events.OrderCancelRequested(order_id=i))

    async with asyncio.TaskGroup() as tasks, unit_of_work(engine, "saga_runner")() as work:
        process = (await work.load([i]))[i]
        tasks.create_task(cancel_elsewhere())
        await eventually(lambda: waits_for_a_lock(engine, "another_process"), within=5)
        process.saga.state = SagaState.AUTHORIZING
        await work.save([process])

    assert await state_of(engine, i) == ("placed", "voiding")
    assert [type(b) for b in await sent_bodies(engine, "orders")] == [commands.VoidPayment]


async def test_a_timer_leaves_out_an_order_that_another_process_holds(
    engine: AsyncEngine, another_process: AsyncEngine
) -> None:
    i = await placed(engine)

    async with unit_of_work(engine, "saga_runner")() as work:
        await work.load([i])

        assert await ask_again(unit_of_work(another_process, "saga_runner"), lambda: NOW + STEP_TIMEOUT) == 0


async def test_two_order_writers_with_the_same_batch_place_each_order_once(
    engine: AsyncEngine, another_process: AsyncEngine
) -> None:
    batch = [a_message(place_order()) for _ in range(100)]

    async with asyncio.TaskGroup() as tasks:
        for e in (engine, another_process):
            tasks.create_task(write_orders(unit_of_work(e, "order_writer"), clock, batch))

    assert len(await sent(engine, "orders")) == 100
