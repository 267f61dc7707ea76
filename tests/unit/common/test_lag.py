"""How old the lag is, and who stands still."""

import time

import pytest
from prometheus_client import REGISTRY

from builders import a_record, reserve_stock
from common.contracts.topics import Topic
from common.kafka.lag import Lag, Standstill
from unit.common.fake_kafka import FakeKafkaConsumer, Partition

FIRST, SECOND = (Partition(Topic.INVENTORY_COMMANDS, number) for number in range(2))


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def kafka() -> FakeKafkaConsumer:
    """Two partitions, with a record that waits at the first."""
    fake = FakeKafkaConsumer(FIRST, SECOND)
    fake.append(a_record(reserve_stock()))
    return fake


async def silent_turns(kafka: FakeKafkaConsumer, seconds: int, clock: Clock, standstill: Standstill) -> bool:
    for _ in range(seconds):
        clock.now += 1
        if await standstill.stands_still(kafka, {}, full=False):
            return True
    return False


async def test_a_consumer_that_gets_nothing_for_a_minute_although_records_wait_stands_still(
    kafka: FakeKafkaConsumer,
) -> None:
    clock = Clock()
    standstill = Standstill(60, clock)

    assert not await silent_turns(kafka, 60, clock, standstill)
    assert await silent_turns(kafka, 1, clock, standstill)


async def test_one_that_has_read_everything_is_left_alone(kafka: FakeKafkaConsumer) -> None:
    clock = Clock()
    kafka.positions[FIRST] = 1

    assert not await silent_turns(kafka, 300, clock, Standstill(60, clock))


async def test_one_that_is_paused_is_left_alone_and_has_its_minute_after_that(kafka: FakeKafkaConsumer) -> None:
    clock = Clock()
    standstill = Standstill(60, clock)
    kafka.pause(FIRST)

    assert not await silent_turns(kafka, 300, clock, standstill)
    kafka.resume(FIRST)
    assert not await silent_turns(kafka, 60, clock, standstill)
    assert await silent_turns(kafka, 1, clock, standstill)


async def test_while_the_broker_does_not_answer_nobody_stands_still(kafka: FakeKafkaConsumer) -> None:
    clock = Clock()
    standstill = Standstill(60, clock)
    kafka.broker_away = True

    assert not await silent_turns(kafka, 300, clock, standstill)
    kafka.broker_away = False
    assert await silent_turns(kafka, 60, clock, standstill)


async def test_one_that_is_busy_with_another_partition_is_left_alone(kafka: FakeKafkaConsumer) -> None:
    clock = Clock()
    standstill = Standstill(60, clock)

    for full, seconds in ((True, 1), (False, 11)):  # more is at hand than it takes, or each batch takes long
        for _ in range(200):
            clock.now += seconds
            assert not await standstill.stands_still(kafka, {SECOND: [object()]}, full=full)


async def test_one_partition_that_stands_still_is_noticed_while_another_flows(kafka: FakeKafkaConsumer) -> None:
    clock = Clock()
    standstill = Standstill(60, clock)

    found: list[bool] = []
    for _ in range(62):
        clock.now += 1
        found.append(await standstill.stands_still(kafka, {SECOND: [object()]}, full=False))

    assert found.count(True) == 1


def age(partition: Partition = FIRST) -> float | None:
    labels = {"group": "test-lag", "topic": partition.topic, "partition": str(partition.partition)}
    return REGISTRY.get_sample_value("headrace_consumer_lag_seconds", labels)


def test_the_lag_in_seconds_is_the_age_of_the_oldest_record_that_is_not_applied(kafka: FakeKafkaConsumer) -> None:
    lag, sent_ms = Lag("test-lag"), int(time.time() * 1_000) - 90_000
    del kafka.log[FIRST]
    for seconds_later in range(3):
        kafka.append(a_record(reserve_stock(), timestamp_ms=sent_ms + 10_000 * seconds_later))
    first, second, third = kafka.log[FIRST]

    lag.fetched({FIRST: [first]})
    assert age() == pytest.approx(90, abs=5)
    lag.applied({FIRST: [first]}, kafka)
    assert age() == pytest.approx(90, abs=5), "more waits, and how old it is nobody has seen"
    lag.fetched({FIRST: [second]})
    assert age() == pytest.approx(80, abs=5)
    lag.applied({FIRST: [second, third]}, kafka)
    assert age() == 0


def test_a_partition_that_was_taken_away_has_no_lag_here(kafka: FakeKafkaConsumer) -> None:
    lag = Lag("test-lag")
    lag.fetched({FIRST: kafka.log[FIRST]})
    assert age() != 0

    lag.forget([FIRST])

    assert age() == 0
    labels = {"group": "test-lag", "topic": FIRST.topic, "partition": "0"}
    assert REGISTRY.get_sample_value("headrace_consumer_lag_records", labels) == 0
