"""The timeline of an order: written with the effect, once, and read by its customer only."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# (the generated stubs carry no types)

import itertools
from datetime import timedelta
from typing import Any
from uuid import uuid4

import grpc
import grpc.aio
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from builders import CUSTOMER, NOW, TRACEPARENT, a_line, a_message, place_order
from common.contracts import commands, events, orders_pb2_grpc
from common.contracts import orders_pb2 as pb
from common.contracts.codec import Message
from common.errors import PoisonError
from gateway.adapters.orders_client import GrpcOrders, create_channel
from integration.core.database import execute, sent_bodies, value
from orders.adapters.postgres import unit_of_work
from orders.adapters.queries import OrderQueries
from orders.domain.ports import Step
from orders.domain.saga import STEP_TIMEOUT
from orders.grpc_server import grpc_server
from orders.timeline import CONFLICT, COPY
from orders.use_cases import advance_sagas, ask_again, write_orders

_moments = itertools.count()


def clock() -> Any:
    """Each time it is asked a millisecond later."""
    return NOW + next(_moments) * timedelta(milliseconds=1)


async def write(engine: AsyncEngine, *messages: Message) -> None:
    await write_orders(unit_of_work(engine, "order_writer"), clock, messages)


async def advance(engine: AsyncEngine, *messages: Message) -> None:
    await advance_sagas(unit_of_work(engine, "saga_runner"), clock, messages)


async def steps_of(engine: AsyncEngine, order: commands.PlaceOrder) -> list[Step]:
    found = await OrderQueries(engine).timeline(order.order_id, CUSTOMER)
    assert found is not None
    return found


async def placed(engine: AsyncEngine) -> tuple[commands.PlaceOrder, Message]:
    """An order, and the message that placed it."""
    order = place_order()
    message = a_message(order, order.order_id)
    await write(engine, message)
    return order, message


async def test_a_confirmed_order_shows_every_step_in_its_order(engine: AsyncEngine) -> None:
    order, message = await placed(engine)
    (event,) = await sent_bodies(engine, "orders")
    heard = [a_message(event)]
    for reply in (events.StockReserved, events.PaymentAuthorized, events.PaymentCaptured):
        heard.append(a_message(reply(order_id=order.order_id)))

    await advance(engine, heard[0])
    await advance(engine, *heard[1:])

    steps = await steps_of(engine, order)
    assert [(s.what, s.status, s.version) for s in steps] == [
        ("PlaceOrder", "placed", 1),
        ("OrderPlaced", None, None),
        ("StockReserved", "reserved", 2),
        ("PaymentAuthorized", "authorized", 3),
        ("PaymentCaptured", "confirmed", 4),
    ]
    records = [m.record for m in (message, *heard)]
    assert [(s.topic, s.partition, s.offset) for s in steps] == [(r.topic, r.partition, r.offset) for r in records]
    assert [s.handled_at for s in steps] == sorted(s.handled_at for s in steps)
    assert {(s.attempt, s.trace_id, s.note, s.logged_at) for s in steps} == {(1, TRACEPARENT[3:35], None, NOW)}


async def test_a_batch_that_is_redelivered_stands_once_and_counts_its_attempts(engine: AsyncEngine) -> None:
    order, message = await placed(engine)
    (event,) = await sent_bodies(engine, "orders")
    begun = a_message(event)

    for _ in range(2):
        await write(engine, message)
    for _ in range(3):
        await advance(engine, begun)

    steps = await steps_of(engine, order)
    assert [(s.what, s.attempt, s.note) for s in steps] == [("PlaceOrder", 3, None), ("OrderPlaced", 3, None)]


async def test_another_body_under_the_same_key_changes_nothing_and_stands_in_the_timeline_once(
    engine: AsyncEngine,
) -> None:
    order, _ = await placed(engine)
    other = place_order(order.order_id, lines=(a_line(quantity=7),), total_minor=7_000)
    message = a_message(other, order.order_id)

    await write(engine, message)
    await write(engine, message)  # the same record again

    first, second = await steps_of(engine, order)
    assert (first.what, first.note) == ("PlaceOrder", None)
    assert (second.what, second.note, second.status, second.attempt) == ("PlaceOrder", CONFLICT, None, 2)
    assert (second.topic, second.offset) == (message.record.topic, message.record.offset)
    assert await value(engine, "SELECT total_minor FROM orders.orders") == order.total_minor


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({}, COPY),
        ({"lines": (a_line(unit_price_minor=9),), "total_minor": 9, "accepted_at": NOW + timedelta(days=1)}, COPY),
        ({"currency": "EUR"}, CONFLICT),
        ({"client_reference": "x"}, CONFLICT),
        ({"lines": (a_line(), a_line("more"))}, CONFLICT),
    ],
)
async def test_only_what_the_client_said_makes_a_conflict(
    engine: AsyncEngine, changes: dict[str, Any], note: str
) -> None:
    order = place_order()
    first, second = a_message(order, order.order_id), a_message(place_order(order.order_id, **changes), order.order_id)

    await write(engine, first, second)  # also within one batch

    assert sorted((s.offset, s.note) for s in await steps_of(engine, order)) == [
        (first.record.offset, None),
        (second.record.offset, note),
    ]


async def test_a_conflict_under_another_message_id_is_seen_too(engine: AsyncEngine) -> None:
    order, _ = await placed(engine)

    await write(engine, a_message(place_order(order.order_id, currency="EUR")))

    assert [s.note for s in await steps_of(engine, order)] == [None, CONFLICT]


async def test_a_cancel_is_a_step_of_the_customer_and_of_no_stranger(engine: AsyncEngine) -> None:
    order, _ = await placed(engine)
    wishes = [(order.order_id, "stranger"), (order.order_id, CUSTOMER), (uuid4(), CUSTOMER)]

    await write(engine, *(a_message(commands.CancelOrder(order_id=i, customer_id=c)) for i, c in wishes))

    assert [s.what for s in await steps_of(engine, order)] == ["PlaceOrder", "CancelOrder"]
    assert await value(engine, "SELECT count(*) FROM orders.timeline") == 2


async def test_a_batch_that_fails_leaves_no_step(engine: AsyncEngine) -> None:
    order, _ = await placed(engine)
    reply, lost = events.StockReserved(order_id=order.order_id), events.StockReserved(order_id=uuid4())

    with pytest.raises(PoisonError):
        await advance(engine, a_message(reply), a_message(lost))

    assert [s.what for s in await steps_of(engine, order)] == ["PlaceOrder"]


async def test_a_saga_that_waited_too_long_says_that_it_asked_again(engine: AsyncEngine) -> None:
    order, _ = await placed(engine)
    (event,) = await sent_bodies(engine, "orders")
    await advance(engine, a_message(event))

    await ask_again(unit_of_work(engine, "saga_runner"), lambda: NOW + timedelta(hours=1) + STEP_TIMEOUT)

    last = (await steps_of(engine, order))[-1]
    assert (last.what, last.attempt, last.note) == ("StepTimedOut", 1, "ReserveStock is sent again")
    assert (last.topic, last.offset, last.trace_id) == (None, None, TRACEPARENT[3:35])


async def test_the_gateway_gets_the_steps_and_a_stranger_gets_what_an_unknown_order_gets(engine: AsyncEngine) -> None:
    order, message = await placed(engine)
    async with grpc_server(OrderQueries(engine), "127.0.0.1:0") as port, create_channel(f"127.0.0.1:{port}") as channel:
        client = GrpcOrders(channel)

        (step,) = await client.timeline(order.order_id, CUSTOMER) or []
        assert await client.timeline(order.order_id, "stranger") is None
        assert await client.timeline(uuid4(), CUSTOMER) is None
        request = pb.GetTimelineRequest(order_id="7", customer_id=CUSTOMER)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await orders_pb2_grpc.OrdersStub(channel).GetTimeline(request, timeout=8)

    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (step.what, step.status, step.version, step.attempt) == ("PlaceOrder", "placed", 1, 1)
    assert (step.topic, step.partition, step.offset) == ("orders.commands", 0, message.record.offset)
    assert (step.logged_at, step.trace_id, step.note) == (NOW, TRACEPARENT[3:35], None)


async def test_an_order_that_is_older_than_the_timeline_has_no_steps(engine: AsyncEngine) -> None:
    order, _ = await placed(engine)
    await execute(engine, "DELETE FROM orders.timeline")

    assert await steps_of(engine, order) == []
