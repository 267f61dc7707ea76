"""The loop of the batch consumer against everything that a group may do to it meanwhile."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
from aiokafka.errors import (  # pyright: ignore[reportMissingTypeStubs]
    CommitFailedError,
    IllegalGenerationError,
    IllegalStateError,
    RequestTimedOutError,
)

from builders import a_record, reserve_stock
from common.contracts.codec import Message
from common.contracts.topics import Topic
from common.dead_letter import ORIGIN
from common.errors import InfrastructureError, PoisonError
from common.kafka import consumer as consumer_module
from common.kafka.consumer import BatchConsumer
from common.kafka.publisher import OnLateAck, Outcome, Publisher
from common.records import OutgoingRecord
from eventually import eventually
from integration.core.broker import running
from unit.common.fake_kafka import FakeKafkaConsumer, Partition

FIRST, SECOND = (Partition(Topic.INVENTORY_COMMANDS, number) for number in range(2))


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> FakeKafkaConsumer:
    fake = FakeKafkaConsumer(FIRST, SECOND)

    def instead(**_: Any) -> FakeKafkaConsumer:
        return fake

    monkeypatch.setattr(consumer_module, "AIOKafkaConsumer", instead)
    monkeypatch.setattr(consumer_module, "full_jitter", at_once)
    return fake


def at_once(_failures: int, *, base_s: float, cap_s: float) -> float:
    return 0.02


class Effects:
    def __init__(self) -> None:
        self.applied: list[int] = []
        self.tries = 0
        self.away = False
        self.meanwhile: list[Any] = []  # what happens while the next batches are applied

    async def apply(self, messages: Sequence[Message]) -> None:
        self.tries += 1
        if self.meanwhile:
            await self.meanwhile.pop(0)()
        if self.away:
            raise InfrastructureError("the database is away")
        self.applied += [message.record.offset for message in messages]


class FakePublisher(Publisher):
    """Acks everything; keeps where the dead letters came from."""

    def __init__(self) -> None:
        self.origins: list[str] = []

    async def publish(self, records: Sequence[OutgoingRecord], on_late_ack: OnLateAck = None) -> list[Outcome]:
        self.origins += [(dict(record.headers)[ORIGIN] or b"").decode() for record in records]
        return [Outcome.ACKED] * len(records)


def a_worker(apply: Any, publisher: Publisher | None = None) -> BatchConsumer:
    return BatchConsumer(
        bootstrap_servers="",
        group="test-loop",
        topics=[Topic.INVENTORY_COMMANDS],
        apply=apply,
        publisher=publisher or FakePublisher(),
        fetch_max_wait_ms=1,
    )


def append(kafka: FakeKafkaConsumer, partition: Partition = FIRST) -> None:
    kafka.append(a_record(reserve_stock(), partition=partition.partition))


@pytest.mark.parametrize("error", [CommitFailedError, IllegalGenerationError, IllegalStateError, RequestTimedOutError])
async def test_offsets_that_the_group_refuses_do_not_end_the_loop(
    kafka: FakeKafkaConsumer, error: type[Exception]
) -> None:
    effects = Effects()
    kafka.commit_errors = [error()]

    async with running(a_worker(effects.apply).run):
        append(kafka)
        await eventually(lambda: effects.applied == [0], within=5)
        append(kafka)
        await eventually(lambda: kafka.commits == [{FIRST: 2}], within=5)

    assert effects.applied == [0, 1]


async def test_while_it_is_blocked_it_polls_in_every_turn_commits_nothing_and_goes_on_where_it_was(
    kafka: FakeKafkaConsumer,
) -> None:
    effects = Effects()
    effects.away = True
    for _ in range(3):
        append(kafka)

    async with running(a_worker(effects.apply).run):
        await eventually(lambda: effects.tries >= 3, within=5)
        assert kafka.polls > effects.tries, "it polled while everything was paused"
        assert kafka.commits == []
        effects.away = False
        await eventually(lambda: kafka.commits == [{FIRST: 3}], within=5)

    assert effects.applied == [0, 1, 2]


async def test_a_partition_that_is_lost_while_it_is_blocked_is_left_to_its_new_owner(kafka: FakeKafkaConsumer) -> None:
    effects = Effects()
    effects.away = True

    async def lose_it() -> None:
        kafka.ours.discard(FIRST)  # the listener is not called: a seek must expect that

    effects.meanwhile = [lose_it]
    append(kafka)

    async with running(a_worker(effects.apply).run):
        await eventually(lambda: effects.tries == 1, within=5)
        effects.away = False
        append(kafka, SECOND)
        await eventually(lambda: kafka.commits == [{SECOND: 1}], within=5)


async def test_a_batch_that_outlived_its_assignment_commits_no_offset(
    kafka: FakeKafkaConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    effects = Effects()
    worker = a_worker(effects.apply)
    monkeypatch.setattr(consumer_module, "LONGEST_WAIT_FOR_BATCH_S", 0.01)
    effects.meanwhile = [partial(worker.on_partitions_revoked, {FIRST})]
    append(kafka)
    append(kafka, SECOND)

    async with running(worker.run):
        await eventually(lambda: kafka.commits == [{SECOND: 1}], within=5)

    assert len(effects.applied) == 2


async def test_poison_that_names_the_guilty_costs_one_more_try_however_many_they_are(kafka: FakeKafkaConsumer) -> None:
    effects, publisher = Effects(), FakePublisher()

    async def refuse_odd_offsets(messages: Sequence[Message]) -> None:
        odd = [message for message in messages if message.record.offset % 2]
        if odd:
            effects.tries += 1
            raise PoisonError("odd", odd)
        await effects.apply(messages)

    for _ in range(100):
        append(kafka)

    async with running(a_worker(refuse_odd_offsets, publisher).run):
        await eventually(lambda: kafka.commits == [{FIRST: 100}], within=5)

    assert effects.applied == [*range(0, 100, 2)]
    assert effects.tries == 2
    assert publisher.origins == [f"{FIRST.topic}/0/{offset}" for offset in range(1, 100, 2)]


async def test_poison_that_names_nobody_is_found_by_halving(kafka: FakeKafkaConsumer) -> None:
    effects, publisher = Effects(), FakePublisher()

    async def refuse_one(messages: Sequence[Message]) -> None:
        if any(message.record.offset == 77 for message in messages):
            raise PoisonError("one of you")
        await effects.apply(messages)

    for _ in range(100):
        append(kafka)

    async with running(a_worker(refuse_one, publisher).run):
        await eventually(lambda: kafka.commits == [{FIRST: 100}], within=5)

    assert effects.applied == [offset for offset in range(100) if offset != 77]
    assert publisher.origins == [f"{FIRST.topic}/0/77"]


async def test_a_rebalance_that_does_not_end_leaves_the_loop_alive_and_able_to_stop(
    kafka: FakeKafkaConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer_module, "LONGEST_FETCH_S", 0.01)
    kafka.hangs = True
    worker = a_worker(Effects().apply)

    async with asyncio.timeout(5), running(worker.run):
        await eventually(lambda: kafka.polls >= 3, within=5)
        assert worker.alive()
