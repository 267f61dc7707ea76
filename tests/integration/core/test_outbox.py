"""From a committed row to the log: in order per key, at least once, one relay per shard."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from uuid import UUID, uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import NullPool

from builders import TRACEPARENT
from common.contracts import events
from common.contracts.codec import Emitted, decode
from common.errors import InfrastructureError
from common.kafka.publisher import OnLateAck, Outcome, Publisher
from common.outbox import SHARDS, Outbox, OutboxReader
from common.postgres import create_engine, transaction
from common.records import OutgoingRecord, Record
from eventually import eventually
from integration.core.broker import ids_of, read_all, running
from integration.core.database import execute, rows, value
from local_stack.servers import Addresses
from workers.outbox_relay import OutboxRelay

TOPIC = "payments.events"
ALL = range(SHARDS)


class FakePublisher(Publisher):
    """Gives the outcomes that it was told, by key; acks everything else."""

    def __init__(self, **outcomes: Outcome) -> None:
        self.outcomes = outcomes
        self.published: list[OutgoingRecord] = []

    async def publish(self, records: Sequence[OutgoingRecord], on_late_ack: OnLateAck = None) -> list[Outcome]:
        self.published += records
        return [self.outcomes.get((record.key or b"").decode(), Outcome.ACKED) for record in records]


@pytest.fixture
async def autocommit(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    async with engine.connect() as connection:
        yield await connection.execution_options(isolation_level="AUTOCOMMIT")


async def emit(engine: AsyncEngine, *order_ids: UUID) -> None:
    """Two messages for each order, in one transaction."""
    emitted = [
        Emitted(kind(order_id=i), TRACEPARENT)
        for i in order_ids
        for kind in (events.PaymentAuthorized, events.PaymentCaptured)
    ]
    async with transaction(engine) as connection:
        await Outbox("payments").add(connection, emitted)


async def of_orders(servers: Addresses, order_ids: Sequence[UUID]) -> list[Record]:
    keys = {str(i).encode() for i in order_ids}
    return [r for r in await read_all(servers.kafka_bootstrap_servers, TOPIC) if r.key in keys]


async def left(engine: AsyncEngine) -> int:
    return await value(engine, "SELECT count(*) FROM payments.outbox")


async def test_what_was_committed_is_published_in_the_order_of_its_key_and_then_deleted(
    servers: Addresses, engine: AsyncEngine, autocommit: AsyncConnection, publisher: Publisher
) -> None:
    orders = [uuid4() for _ in range(50)]
    await emit(engine, *orders)
    ids = [str(i) for (i,) in await rows(engine, "SELECT message_id FROM payments.outbox")]
    reader = OutboxReader("payments", publisher, batch_size=33)

    relayed = [await reader.relay_batch(autocommit, ALL) for _ in range(5)]

    assert relayed == [33, 33, 33, 1, 0]
    assert await left(engine) == 0
    messages = [decode(record) for record in await of_orders(servers, orders)]
    assert sorted(str(m.message_id) for m in messages) == sorted(ids)
    assert {m.traceparent for m in messages} == {TRACEPARENT}
    for order_id in orders:
        kinds = [m.kind for m in messages if m.body.order_id == order_id]
        assert kinds == [events.PaymentAuthorized, events.PaymentCaptured]


async def test_killed_between_the_ack_and_the_delete_the_same_messages_are_published_again(
    servers: Addresses, engine: AsyncEngine, autocommit: AsyncConnection, publisher: Publisher
) -> None:
    order_id = uuid4()
    await emit(engine, order_id)
    reader = OutboxReader("payments", publisher)
    await execute(engine, "CREATE RULE refuse AS ON DELETE TO payments.outbox DO INSTEAD SELECT 1 / 0")
    try:
        with pytest.raises(Exception, match="division by zero"):
            await reader.relay_batch(autocommit, ALL)
    finally:
        await execute(engine, "DROP RULE refuse ON payments.outbox")

    assert await reader.relay_batch(autocommit, ALL) == 2

    first, second, *again = ids_of(await of_orders(servers, [order_id]))
    assert again == [first, second]


@pytest.mark.parametrize("outcome", [Outcome.REFUSED, Outcome.UNKNOWN])
async def test_what_was_not_acked_stays_in_its_order_for_the_next_time_and_the_rest_goes(
    engine: AsyncEngine, autocommit: AsyncConnection, outcome: Outcome
) -> None:
    stuck, free = uuid4(), uuid4()
    await emit(engine, stuck, free)
    publisher = FakePublisher(**{str(stuck): outcome})
    reader = OutboxReader("payments", publisher)

    assert await reader.relay_batch(autocommit, ALL) == -1
    assert await rows(engine, "SELECT DISTINCT key FROM payments.outbox") == [(str(stuck),)]
    publisher.outcomes = {}
    assert await reader.relay_batch(autocommit, ALL) == 2

    assert publisher.published[-2:] == publisher.published[:2]


async def test_a_rolled_back_change_sends_nothing(engine: AsyncEngine) -> None:
    async def change() -> None:
        async with transaction(engine) as connection:
            emitted = [Emitted(events.PaymentVoided(order_id=uuid4()), None)]
            await Outbox("payments").add(connection, emitted)
            raise InfrastructureError("killed")

    with pytest.raises(InfrastructureError):
        await change()

    assert await left(engine) == 0


async def test_a_shard_has_one_relay_until_that_ones_session_ends(engine: AsyncEngine) -> None:
    reader = OutboxReader("payments", FakePublisher())
    async with engine.connect() as first, engine.connect() as second:
        assert await reader.lock_shards(first, [0, 1]) == [0, 1]
        assert await reader.lock_shards(second, ALL) == [2, 3]
        assert await OutboxReader("orders", FakePublisher()).lock_shards(second, [0]) == [0]

        await first.invalidate()

        async def free() -> bool:
            return await reader.lock_shards(second, [0, 1]) == [0, 1]

        await eventually(free, within=5)


@pytest.fixture
async def relays(servers: Addresses, publisher: Publisher) -> list[OutboxRelay]:
    def relay(name: str) -> OutboxRelay:
        engine = create_engine(servers.database_url, application_name=name, poolclass=NullPool)
        return OutboxRelay(engine, {"payments": OutboxReader("payments", publisher)})

    return [relay("relay_1"), relay("relay_2")]


async def kill_sessions(engine: AsyncEngine, name: str) -> None:
    sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = :name"
    assert await rows(engine, sql, name=name)


async def test_a_relay_empties_the_outbox_and_stops_when_told(
    servers: Addresses, engine: AsyncEngine, relays: list[OutboxRelay]
) -> None:
    orders = [uuid4() for _ in range(20)]

    async with running(relays[0].run):
        await eventually(relays[0].ready, within=5)
        await emit(engine, *orders)
        await eventually(lambda: nothing_left(engine), within=5)
        assert relays[0].alive()

    assert len(await of_orders(servers, orders)) == 40


async def test_a_relay_that_stands_by_takes_over_when_the_other_ends(
    engine: AsyncEngine, relays: list[OutboxRelay]
) -> None:
    stop_first, stop_second = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(relays[0].run(stop_first))
        await eventually(lambda: locks(engine, SHARDS, "relay_1"), within=5)
        tasks.create_task(relays[1].run(stop_second))
        await eventually(relays[1].ready, within=5)
        assert await locks(engine, 0, "relay_2")

        stop_first.set()

        await eventually(lambda: locks(engine, SHARDS, "relay_2"), within=5)
        await emit(engine, uuid4())
        await eventually(lambda: nothing_left(engine), within=5)
        stop_second.set()


async def test_a_relay_whose_session_is_killed_comes_back_by_itself(
    engine: AsyncEngine, relays: list[OutboxRelay]
) -> None:
    async with running(relays[0].run):
        await eventually(lambda: locks(engine, SHARDS, "relay_1"), within=5)

        await kill_sessions(engine, "relay_1")
        await emit(engine, uuid4())

        await eventually(lambda: nothing_left(engine), within=8)
        assert relays[0].alive()


async def nothing_left(engine: AsyncEngine) -> bool:
    return await left(engine) == 0


async def locks(engine: AsyncEngine, count: int, application_name: str) -> bool:
    sql = """SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
             WHERE locktype = 'advisory' AND granted AND application_name = :name"""
    return await value(engine, sql, name=application_name) == count
