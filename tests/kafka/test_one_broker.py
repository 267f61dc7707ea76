"""What only a real Kafka can show: the idempotent producer, a broker that dies and comes back, real rebalances."""

import time
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from common.contracts.topics import TopicSpec
from common.kafka.admin import create_topics
from common.kafka.publisher import Outcome, Publisher
from common.records import OutgoingRecord
from integration.core.broker import running
from kafka.container import BROKER_PORT, Kafka
from kafka.load import Load, assert_nothing_is_lost_or_doubled
from kafka.members import order_writers
from local_stack.servers import Addresses

pytestmark = pytest.mark.timeout(180)


async def test_the_idempotent_producer_is_on(kafka: Kafka, publisher: Publisher) -> None:
    """The broker itself says that it knows who wrote, and counts."""
    topic = f"test.{uuid4()}"
    await create_topics(kafka.bootstrap_servers, [TopicSpec(topic, 1, None)])
    assert await publisher.publish([OutgoingRecord(topic, b"k", b"v", [])] * 20) == [Outcome.ACKED] * 20

    tool, address = "/opt/kafka/bin/kafka-transactions.sh", f"kafka-1:{BROKER_PORT}"
    asked = ("--bootstrap-server", address, "describe-producers", "--topic", topic, "--partition", "0")
    names, *producers = kafka.nodes[0].run(tool, *asked)

    (producer,) = [dict(zip(names.split(), line.split(), strict=False)) for line in producers]
    assert int(producer["ProducerId"]) >= 0
    assert producer["LastSequence"] == "19"


async def test_a_broker_killed_under_load_loses_nothing_that_was_acked_and_nothing_is_applied_twice(
    kafka: Kafka, servers: Addresses, engine: AsyncEngine, publisher: Publisher, tmp_path: Path
) -> None:
    load = Load(publisher)
    async with order_writers(servers, tmp_path, 2):
        async with running(load.run):
            await load.goes_on(20, within=30)
            kafka.nodes[0].kill()
            kafka.nodes[0].come_back()
            await load.goes_on(20, within=60)

        await assert_nothing_is_lost_or_doubled(engine, load, within=45)


async def test_20_joins_leaves_and_kills_within_2_minutes_lose_and_double_nothing(
    servers: Addresses, engine: AsyncEngine, publisher: Publisher, tmp_path: Path
) -> None:
    load = Load(publisher)
    async with order_writers(servers, tmp_path, 3) as members:
        async with running(load.run):
            await load.goes_on(10, within=30)
            begin = time.monotonic()
            for _ in range(5):
                await members.kill()
                await members.join()
                await members.leave()
                await members.join()
            lasted_s = time.monotonic() - begin
            await load.goes_on(10, within=30)

        await assert_nothing_is_lost_or_doubled(engine, load, within=45)
    assert lasted_s < 120
