"""The publisher and the reader on a real broker: a verdict on every record, and the whole topic back."""

import asyncio
from dataclasses import replace
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer  # pyright: ignore[reportMissingTypeStubs]

from builders import catalog_item, place_order
from common.contracts.topics import Topic, TopicSpec
from common.errors import InfrastructureError
from common.kafka.admin import create_topics
from common.kafka.publisher import Outcome, Publisher
from common.kafka.reader import TopicReader
from common.records import OutgoingRecord
from eventually import eventually
from integration.core.broker import OwnBroker, ids_of, outgoing, read_all, running
from local_stack.servers import Addresses


@pytest.fixture
async def topic(servers: Addresses) -> str:
    """A new topic of six partitions."""
    name = f"test.{uuid4()}"
    await create_topics(servers.kafka_bootstrap_servers, [TopicSpec(name, 6, None)])
    return name


def record(topic: str, key: str, value: bytes = b"x") -> OutgoingRecord:
    return OutgoingRecord(topic, key.encode(), value, [("n", b"1")])


async def test_every_record_is_acked_and_stands_in_the_topic_in_the_order_of_its_key(
    servers: Addresses, publisher: Publisher, topic: str
) -> None:
    records = [record(topic, f"key-{n % 20}", str(n).encode()) for n in range(1_000)]

    outcomes = await publisher.publish(records)

    stored = await read_all(servers.kafka_bootstrap_servers, topic)
    assert set(outcomes) == {Outcome.ACKED}
    assert len(stored) == 1_000
    for key in {r.key for r in records}:
        assert [r.value for r in stored if r.key == key] == [r.value for r in records if r.key == key]
    assert len({r.partition for r in stored}) == 6


async def test_a_key_goes_to_the_partition_that_every_other_kafka_client_picks(
    servers: Addresses, publisher: Publisher, topic: str
) -> None:
    keys = [str(uuid4()) for _ in range(20)]
    await publisher.publish([record(topic, key) for key in keys])
    async with AIOKafkaProducer(bootstrap_servers=servers.kafka_bootstrap_servers) as other:
        for key in keys:
            await other.send_and_wait(topic, b"x", key=key.encode())  # pyright: ignore[reportUnknownMemberType]

    stored = await read_all(servers.kafka_bootstrap_servers, topic)

    assert len({(r.key, r.partition) for r in stored}) == len(keys)


async def test_more_than_fits_into_one_batch_goes_in_several_and_in_order(
    servers: Addresses, publisher: Publisher, topic: str
) -> None:
    records = [record(topic, "one key", str(n).encode().rjust(200_000)) for n in range(12)]

    assert set(await publisher.publish(records)) == {Outcome.ACKED}

    stored = await read_all(servers.kafka_bootstrap_servers, topic)
    assert [r.value for r in stored] == [r.value for r in records]


async def test_a_record_that_is_too_large_is_refused_alone(
    servers: Addresses, publisher: Publisher, topic: str
) -> None:
    small, large = record(topic, "one key"), record(topic, "one key", b"x" * 1_100_000)

    outcomes = await publisher.publish([small, large, small])

    assert outcomes == [Outcome.ACKED, Outcome.REFUSED, Outcome.ACKED]
    assert len(await read_all(servers.kafka_bootstrap_servers, topic)) == 2


async def test_a_frozen_broker_makes_it_unknown_in_bounded_time_and_the_record_may_still_arrive(
    own_broker: OwnBroker,
) -> None:
    """Trap 2: a send that timed out is not a send that failed."""
    publisher = Publisher(own_broker.bootstrap_servers, idempotence=own_broker.idempotence, ack_timeout_s=0.3)
    await publisher.start()
    order = outgoing(place_order())
    assert await publisher.publish([outgoing(place_order(), uuid4())]) == [Outcome.ACKED]

    late: list[int] = []

    own_broker.freeze()
    async with asyncio.timeout(3):
        outcomes = await publisher.publish([order, replace(order)], late.extend)
    assert late == []
    own_broker.thaw()

    async def arrived() -> bool:
        return ids_of(await read_all(own_broker.bootstrap_servers, order.topic)).count(ids_of([order])[0]) == 2

    assert outcomes == [Outcome.UNKNOWN] * 2
    await eventually(arrived, within=10)
    await eventually(lambda: late == [0, 1], within=10)
    await publisher.stop()


async def test_a_producer_whose_sender_died_is_replaced(servers: Addresses, topic: str) -> None:
    """Trap 4: without that, every send hangs until the process is restarted."""
    publisher = Publisher(
        servers.kafka_bootstrap_servers, idempotence=servers.kafka_enable_idempotence, ack_timeout_s=1
    )
    await publisher.start()
    sender: asyncio.Task[None] = publisher._producer._sender.sender_task  # pyright: ignore[reportPrivateUsage]
    sender.cancel()
    await asyncio.wait({sender})
    assert not publisher.healthy

    assert await publisher.publish([record(topic, "a")]) == [Outcome.ACKED]

    assert publisher.healthy
    await publisher.stop()


async def test_a_producer_that_gets_no_ack_for_too_long_is_replaced_once_the_broker_is_back(
    own_broker: OwnBroker,
) -> None:
    publisher = Publisher(
        own_broker.bootstrap_servers, idempotence=own_broker.idempotence, ack_timeout_s=0.3, rebuild_after_s=0.2
    )
    await publisher.start()
    assert await publisher.publish([outgoing(place_order())]) == [Outcome.ACKED]

    own_broker.freeze()
    assert await publisher.publish([outgoing(place_order())]) == [Outcome.UNKNOWN]
    await eventually(lambda: not publisher.healthy, within=5)
    await publisher.heal()  # in vain: there is no broker to build it on
    still_unhealthy = not publisher.healthy
    own_broker.thaw()

    async def healed() -> bool:
        await publisher.heal()
        return publisher.healthy

    await eventually(healed, within=15)
    assert still_unhealthy
    assert await publisher.publish([outgoing(place_order())]) == [Outcome.ACKED]
    await publisher.stop()


async def test_a_broker_that_is_away_at_the_start_is_infrastructure() -> None:
    publisher = Publisher("127.0.0.1:1", idempotence=False)

    with pytest.raises(InfrastructureError):
        await publisher.start()

    await publisher.stop()


async def test_topics_are_created_once(servers: Addresses) -> None:
    specs = [TopicSpec(f"test.{uuid4()}", 1, None) for _ in range(2)]

    assert await create_topics(servers.kafka_bootstrap_servers, specs) == [spec.name for spec in specs]
    assert await create_topics(servers.kafka_bootstrap_servers, specs) == []


async def test_topics_cannot_be_created_where_nobody_answers() -> None:
    with pytest.raises(InfrastructureError):
        await create_topics("127.0.0.1:1", [])


async def test_two_who_create_the_same_topics_at_once_do_not_disturb_each_other(servers: Addresses) -> None:
    specs = [TopicSpec(f"test.{uuid4()}", 1, None) for _ in range(10)]

    async with asyncio.TaskGroup() as tasks:
        for _ in range(2):
            tasks.create_task(create_topics(servers.kafka_bootstrap_servers, specs))

    assert await create_topics(servers.kafka_bootstrap_servers, specs) == []


async def test_a_reader_is_caught_up_at_the_end_and_goes_on_reading(servers: Addresses, publisher: Publisher) -> None:
    bodies = [catalog_item(f"{uuid4()}") for _ in range(3)]
    await publisher.publish([outgoing(body) for body in bodies[:2]])
    seen: list[bytes | None] = []
    reader = TopicReader(
        bootstrap_servers=servers.kafka_bootstrap_servers,
        topic=Topic.CATALOG_ITEMS,
        handle=lambda records: seen.extend(r.key for r in records),
        fetch_max_wait_ms=10,
    )

    async with running(reader.run):
        await eventually(reader.caught_up.is_set, within=10)
        assert {body.sku.encode() for body in bodies[:2]} <= set(seen)
        await publisher.publish([outgoing(bodies[2])])
        await eventually(lambda: bodies[2].sku.encode() in seen, within=10)


async def test_a_reader_of_an_empty_topic_is_caught_up_at_once(servers: Addresses, topic: str) -> None:
    assert await read_all(servers.kafka_bootstrap_servers, topic) == []


async def test_a_reader_without_a_broker_says_so() -> None:
    reader = TopicReader(bootstrap_servers="127.0.0.1:1", topic="x", handle=lambda _: None)

    with pytest.raises(InfrastructureError):
        await reader.run(asyncio.Event())
