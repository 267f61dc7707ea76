"""The batch consumer on a real broker. Joining a group takes seconds here, so each test asks much of one group."""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition  # pyright: ignore[reportMissingTypeStubs]
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from builders import authorize_payment, place_order, reserve_stock
from common.contracts import events
from common.contracts.codec import Message
from common.contracts.topics import Topic, dead_letter_topic
from common.dead_letter import CAUSE, CONSUMER, ORIGIN
from common.errors import InfrastructureError, PoisonError
from common.kafka.consumer import BatchConsumer
from common.kafka.publisher import Publisher
from common.records import OutgoingRecord, Record
from eventually import eventually
from integration.core.broker import OwnBroker, ids_of, outgoing, read_all, running
from local_stack.servers import Addresses

JOIN_S = 20


class FakeEffects:
    """Stands for the database of a worker: keeps what was applied, each message once, in order."""

    def __init__(self) -> None:
        self.applied: list[str] = []
        self.away = False
        self.poison: set[UUID] = set()
        self.calls: list[list[str]] = []

    async def apply(self, messages: Sequence[Message]) -> None:
        ids = [str(message.message_id) for message in messages]
        self.calls.append(ids)
        if self.away:
            raise InfrastructureError("the database is away")
        if any(message.message_id in self.poison for message in messages):
            raise PoisonError("this one cannot be applied")
        self.applied += [i for i in ids if i not in self.applied]


def consumer(
    bootstrap_servers: str, group: str, topic: str, apply: Any, publisher: Publisher, standstill_s: float = 60
) -> BatchConsumer:
    return BatchConsumer(
        bootstrap_servers=bootstrap_servers,
        group=group,
        topics=[topic],
        apply=apply,
        publisher=publisher,
        fetch_max_wait_ms=10,
        standstill_s=standstill_s,
    )


async def committed(bootstrap_servers: str, group: str, topic: str) -> dict[int, int | None]:
    reader: Any = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, group_id=group, enable_auto_commit=False)
    await reader.start()
    try:
        return {p: await reader.committed(TopicPartition(topic, p)) for p in range(6)}
    finally:
        await reader.stop()


def ends(records: Sequence[Record]) -> dict[int, int]:
    return {r.partition: r.offset + 1 for r in records}


async def test_good_records_are_applied_poison_is_buried_with_its_cause_and_offsets_are_one_beyond_the_last(
    servers: Addresses, publisher: Publisher
) -> None:
    topic, group = Topic.INVENTORY_COMMANDS, f"test-{uuid4()}"
    good = [outgoing(reserve_stock()) for _ in range(40)]
    cursed = outgoing(reserve_stock())
    alien = OutgoingRecord(topic, b"k", b"not json", [("topic", b"theirs"), ("event", b"theirs"), ("level", b"x")])
    effects = FakeEffects()
    effects.poison = {UUID(i) for i in ids_of([cursed])}
    await publisher.publish([*good[:20], cursed, alien, *good[20:]])

    async with running(consumer(servers.kafka_bootstrap_servers, group, topic, effects.apply, publisher).run):
        await eventually(lambda: set(ids_of(good)) <= set(effects.applied), within=JOIN_S)
        later = outgoing(reserve_stock())
        await publisher.publish([later])
        await eventually(lambda: ids_of([later])[0] in effects.applied, within=5)

    records = await read_all(servers.kafka_bootstrap_servers, topic)
    offsets = await committed(servers.kafka_bootstrap_servers, group, topic)
    assert {p: offset for p, offset in offsets.items() if offset} == ends(records)
    letters = await letters_of(servers, group, topic, [*good, cursed, alien, later])
    assert sorted(r.value or b"" for r in letters) == sorted([cursed.value or b"", b"not json"])
    (letter,) = [r for r in letters if r.value == cursed.value]
    (original,) = [r for r in records if r.value == cursed.value]
    assert letter.key == original.key
    assert letter.headers[: len(original.headers)] == original.headers
    assert letter.header(CAUSE) == b"PoisonError: this one cannot be applied"
    assert letter.header(ORIGIN) == f"{topic}/{original.partition}/{original.offset}".encode()
    for key in {record.key for record in good}:
        of_key = ids_of([r for r in good if r.key == key])
        assert [i for i in effects.applied if i in of_key] == of_key


async def test_a_member_that_gets_no_partition_says_why(servers: Addresses, publisher: Publisher) -> None:
    topic, group = Topic.CATALOG_ITEMS, f"test-{uuid4()}"  # one partition
    first, second = (
        consumer(servers.kafka_bootstrap_servers, group, topic, FakeEffects().apply, publisher) for _ in range(2)
    )

    with capture_logs() as lines:
        async with running(first.run), running(second.run):
            await eventually(lambda: any(line["event"] == "idle" for line in lines), within=2 * JOIN_S)

    idle = next(line for line in lines if line["event"] == "idle")
    assert (idle["group"], idle["why"]) == (group, "1 partitions feed at most 1 members of this group")


async def letters_of(servers: Addresses, group: str, topic: Topic, records: Sequence[OutgoingRecord]) -> list[Record]:
    """What `group` buried of these records; other tests may have left poison in the topic too."""
    letters = await read_all(servers.kafka_bootstrap_servers, dead_letter_topic(topic))
    keys = {record.key for record in records}
    return [r for r in letters if r.header(CONSUMER) == group.encode() and r.key in keys]


async def test_missing_infrastructure_blocks_and_then_everything_is_applied_in_order(
    servers: Addresses, publisher: Publisher
) -> None:
    topic, group = Topic.PAYMENTS_COMMANDS, f"test-{uuid4()}"
    orders = [uuid4() for _ in range(3)]
    records = [outgoing(authorize_payment(orders[n % 3], amount_minor=n + 1)) for n in range(30)]
    effects = FakeEffects()
    effects.away = True
    worker = consumer(servers.kafka_bootstrap_servers, group, topic, effects.apply, publisher)
    await publisher.publish(records)
    assert not worker.ready()

    async with running(worker.run):
        await eventually(lambda: len(effects.calls) >= 3, within=JOIN_S)
        assert worker.ready()
        assert worker.alive()
        assert set((await committed(servers.kafka_bootstrap_servers, group, topic)).values()) == {None}
        effects.away = False
        await eventually(lambda: set(ids_of(records)) <= set(effects.applied), within=15)

    for order_id in orders:
        of_order = ids_of([r for r in records if r.key == str(order_id).encode()])
        assert [i for i in effects.applied if i in of_order] == of_order
    assert not await letters_of(servers, group, topic, records)


async def test_killed_after_the_effect_and_before_the_commit_the_records_come_again(
    servers: Addresses, publisher: Publisher
) -> None:
    topic, group = Topic.INVENTORY_EVENTS, f"test-{uuid4()}"
    records = [outgoing(events.StockReserved(order_id=uuid4())) for _ in range(10)]
    await publisher.publish(records)
    first, second = FakeEffects(), FakeEffects()

    async def apply_and_die(messages: Sequence[Message]) -> None:
        await first.apply(messages)
        raise asyncio.CancelledError("killed")

    with pytest.raises(asyncio.CancelledError):
        await consumer(servers.kafka_bootstrap_servers, group, topic, apply_and_die, publisher).run(asyncio.Event())
    assert first.applied

    async with running(consumer(servers.kafka_bootstrap_servers, group, topic, second.apply, publisher).run):
        await eventually(lambda: set(ids_of(records)) <= set(second.applied), within=JOIN_S)

    assert set(first.applied) <= set(second.applied)


async def test_told_to_stop_while_the_broker_is_frozen_it_ends_in_bounded_time(own_broker: OwnBroker) -> None:
    publisher = Publisher(own_broker.bootstrap_servers, idempotence=own_broker.idempotence)
    await publisher.start()
    order = outgoing(place_order())
    await publisher.publish([order])
    effects, stop = FakeEffects(), asyncio.Event()

    async def apply_and_lose_the_broker(messages: Sequence[Message]) -> None:
        await effects.apply(messages)
        if ids_of([order])[0] in effects.applied:
            own_broker.freeze()
            stop.set()

    async with asyncio.timeout(JOIN_S + 15):
        await consumer(
            own_broker.bootstrap_servers, f"test-{uuid4()}", Topic.ORDERS_COMMANDS, apply_and_lose_the_broker, publisher
        ).run(stop)
        await publisher.stop()

    assert ids_of([order])[0] in effects.applied


@pytest.mark.timeout(120)
async def test_a_consumer_whose_fetcher_stopped_is_rebuilt_and_goes_on_where_it_was(
    servers: Addresses, publisher: Publisher
) -> None:
    topic, group = Topic.PAYMENTS_EVENTS, f"test-{uuid4()}"
    before, after = ([outgoing(events.PaymentVoided(order_id=uuid4())) for _ in range(10)] for _ in range(2))
    effects = FakeEffects()
    worker = consumer(servers.kafka_bootstrap_servers, group, topic, effects.apply, publisher, standstill_s=2)
    await publisher.publish(before)

    async with running(worker.run):
        await eventually(lambda: set(ids_of(before)) <= set(effects.applied), within=JOIN_S)
        fetcher = worker._consumer._fetcher  # pyright: ignore[reportPrivateUsage]
        fetcher._fetch_task.cancel()
        await asyncio.gather(
            *fetcher._pending_tasks, return_exceptions=True
        )  # what was asked for before could bring them
        await publisher.publish(after)
        await eventually(lambda: set(ids_of(after)) <= set(effects.applied), within=2 * JOIN_S)
        assert worker.alive()

    assert REGISTRY.get_sample_value("headrace_consumers_rebuilt_total", {"group": group}) == 1
    delivered = [message for call in effects.calls for message in call]
    assert len(delivered) == len(set(delivered)), "it went on behind what was committed"


async def test_a_broker_that_is_away_at_the_start_is_infrastructure(publisher: Publisher) -> None:
    with pytest.raises(InfrastructureError):
        await consumer("127.0.0.1:1", "test", Topic.ORDERS_COMMANDS, FakeEffects().apply, publisher).run(
            asyncio.Event()
        )
