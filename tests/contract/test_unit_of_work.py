"""One suite for the unit of work of Postgres and for its fake."""

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from builders import NOW, TRACEPARENT, a_line, a_message, an_order, place_order
from common.contracts.codec import Emitted, decode, headers_of
from common.contracts.events import OrderCancelRequested
from common.postgres import transaction
from common.records import Record
from fakes import FakeDatabase
from orders.adapters.postgres import UnitOfWorkFactory, unit_of_work
from orders.adapters.queries import OrderQueries
from orders.domain.order import Order, OrderStatus
from orders.domain.ports import Step, UnitOfWork
from orders.domain.saga import Saga, SagaState


class Fake:
    def __init__(self) -> None:
        self.database = FakeDatabase()

    def begin(self, consumer: str = "test") -> UnitOfWorkFactory:
        return self.database.unit_of_work(consumer)

    async def sent(self) -> list[Emitted]:
        return self.database.outbox

    async def timeline(self, order: Order) -> list[Step]:
        return sorted((s for s in self.database.timeline if s.order_id == order.order_id), key=lambda s: s.handled_at)


class Real:
    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine

    def begin(self, consumer: str = "test") -> UnitOfWorkFactory:
        return unit_of_work(self.engine, consumer)

    async def sent(self) -> list[Emitted]:
        async with transaction(self.engine) as connection:
            rows = (await connection.execute(text("SELECT * FROM orders.outbox ORDER BY id"))).all()
        headers = headers_of(uuid4(), None)
        return [
            Emitted(decode(Record(r.topic, 0, 0, 0, r.key.encode(), r.payload, headers)).body, r.traceparent)
            for r in rows
        ]

    async def timeline(self, order: Order) -> list[Step] | None:
        return await OrderQueries(self.engine).timeline(order.order_id, order.customer_id)


Store = Fake | Real


@pytest.fixture(params=["fake", "postgres"])
def store(request: pytest.FixtureRequest) -> Store:
    return Fake() if request.param == "fake" else Real(request.getfixturevalue("engine"))


async def add(store: Store, *orders: Order) -> None:
    async with store.begin()() as work:
        await work.add_orders(orders)


async def stored(store: Store, order_id: UUID) -> Order:
    async with store.begin()() as work:
        return (await work.load([order_id]))[order_id].order


async def give_saga(store: Store, order: Order, **changes: object) -> None:
    async with store.begin()() as work:
        process = (await work.load([order.order_id]))[order.order_id]
        process.saga = replace(Saga(order.order_id, SagaState.RESERVING, deadline=NOW), **changes)  # type: ignore[arg-type]
        process.traceparent = process.traceparent or TRACEPARENT
        await work.save([process])


async def test_an_order_is_read_back_as_it_was_written(store: Store) -> None:
    lines = (a_line("b", 2, 300), a_line("a", 1, 0), a_line("b", 3, 300))
    order = an_order(lines=lines, client_reference="Ærø 🍏", total_minor=1_500)

    await add(store, order)

    assert await stored(store, order.order_id) == order


async def test_the_first_record_of_an_order_wins(store: Store) -> None:
    order = an_order()
    await add(store, order)

    await add(store, replace(order, customer_id="somebody else", lines=(a_line("x"), a_line("y"))))

    assert await stored(store, order.order_id) == order


async def test_a_message_is_new_once_also_within_one_batch_and_in_its_order(store: Store) -> None:
    messages = [a_message(place_order()) for _ in range(5)]
    again = a_message(place_order(), messages[0].message_id)

    async with store.begin()() as work:
        first = await work.take_new([*messages[:3], again])
    async with store.begin()() as work:
        second = await work.take_new([*messages[1:], messages[4]])

    assert first == messages[:3]
    assert second == messages[3:]


async def test_each_consumer_remembers_for_itself(store: Store) -> None:
    message = a_message(place_order())
    async with store.begin("one")() as work:
        await work.take_new([message])

    async with store.begin("another")() as work:
        assert await work.take_new([message]) == [message]


async def test_nothing_at_all_is_kept_of_a_transaction_that_fails(store: Store) -> None:
    order, message = an_order(), a_message(place_order())

    async def fail(work: UnitOfWork) -> None:
        await work.take_new([message])
        await work.add_orders([order])
        await work.emit([Emitted(order.placed(), None)])
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        async with store.begin()() as work:
            await fail(work)

    async with store.begin()() as work:
        assert await work.owners([order.order_id]) == {}
        assert await work.take_new([message]) == [message]
    assert await store.sent() == []


async def test_owners_are_told_of_orders_that_exist_and_of_no_others(store: Store) -> None:
    order = an_order(customer_id="ada")
    await add(store, order)

    async with store.begin()() as work:
        assert await work.owners([order.order_id, uuid4()]) == {order.order_id: "ada"}
        assert await work.load([uuid4()]) == {}


async def test_an_order_without_a_saga_gets_a_new_one(store: Store) -> None:
    order = an_order()
    await add(store, order)

    async with store.begin()() as work:
        process = (await work.load([order.order_id]))[order.order_id]

    assert (process.saga, process.traceparent) == (Saga(order.order_id), None)


async def test_order_and_saga_are_saved_together(store: Store) -> None:
    order = an_order()
    await add(store, order)
    saga = Saga(order.order_id, SagaState.RELEASING, "payment_declined", 3, NOW)
    async with store.begin()() as work:
        process = (await work.load([order.order_id]))[order.order_id]
        process.order.move(OrderStatus.NEEDS_ATTENTION, NOW + timedelta(seconds=1), "inventory")
        process.saga, process.traceparent = saga, TRACEPARENT
        await work.save([process])

    async with store.begin()() as work:
        again = (await work.load([order.order_id]))[order.order_id]

    assert again == process
    assert (again.order.status, again.order.reason, again.order.version) == ("needs_attention", "inventory", 2)


async def test_due_are_the_sagas_whose_deadline_has_come_and_no_more_than_asked_for(store: Store) -> None:
    due = [an_order() for _ in range(3)]
    later, ended = an_order(), an_order()
    await add(store, *due, later, ended, an_order())
    for order in due:
        await give_saga(store, order)
    await give_saga(store, later, deadline=NOW + timedelta(milliseconds=1))
    await give_saga(store, ended, state=SagaState.ENDED, deadline=None)

    async with store.begin()() as work:
        assert set(await work.load_due(NOW, 10)) == {order.order_id for order in due}
        assert len(await work.load_due(NOW, 2)) == 2


async def test_what_is_emitted_leaves_in_its_order_with_its_trace(store: Store) -> None:
    order = an_order()
    emitted = [
        Emitted(order.placed(), TRACEPARENT),
        Emitted(OrderCancelRequested(order_id=order.order_id), None),
        Emitted(order.move(OrderStatus.CANCELLED, NOW), TRACEPARENT),
    ]
    async with store.begin()() as work:
        await work.emit(emitted[:2])
        await work.emit(emitted[2:])

    assert await store.sent() == emitted


async def test_a_step_is_written_and_when_its_record_comes_again_it_has_one_attempt_more(store: Store) -> None:
    order = an_order(customer_id="ada")
    await add(store, order)
    position: dict[str, Any] = {"topic": "orders.commands", "partition": 3, "logged_at": NOW}
    first = Step(order.order_id, "PlaceOrder", NOW, status="placed", version=1, trace_id="7" * 32, **position, offset=1)
    copy = replace(first, offset=2, status=None, version=None, note="copy")
    async with store.begin()() as work:
        await work.record([first, Step(order.order_id, "StepTimedOut", NOW + timedelta(seconds=1), attempt=4)])

    for _ in range(2):
        async with store.begin()() as work:
            await work.record([], [replace(first, note="copy"), copy])

    assert await store.timeline(order) == [
        replace(first, attempt=3),
        replace(copy, attempt=2),
        Step(order.order_id, "StepTimedOut", NOW + timedelta(seconds=1), attempt=4),
    ]


async def test_empty_batches_are_fine(store: Store) -> None:
    async with store.begin()() as work:
        assert await work.take_new([]) == []
        assert await work.owners([]) == {}
        assert await work.load([]) == {}
        await work.add_orders([])
        await work.save([])
        await work.emit([])
        await work.record([], [])
