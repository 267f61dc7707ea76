"""A stand-in for aiokafka's consumer: one member of a group, whose log is a list for each partition."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from aiokafka.errors import IllegalStateError  # pyright: ignore[reportMissingTypeStubs]

from common.records import Record


class Partition(NamedTuple):
    topic: str
    partition: int


@dataclass(frozen=True)
class Raw:
    """A record as aiokafka hands it out."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Any


class FakeKafkaConsumer:
    """`ours`: the partitions that it has. `broker_away`: questions are not answered."""

    def __init__(self, *ours: Partition) -> None:
        self.ours = set(ours)
        self.log: defaultdict[Partition, list[Raw]] = defaultdict(list)
        self.positions: defaultdict[Partition, int] = defaultdict(int)
        self.commits: list[dict[Partition, int]] = []
        self.commit_errors: list[Exception] = []
        self.polls = 0
        self.hangs = False  # as in a rebalance that does not end
        self.broker_away = False
        self._paused: set[Partition] = set()
        self._client = self

    def append(self, record: Record) -> None:
        partition = Partition(record.topic, record.partition)
        offset, content = len(self.log[partition]), (record.key, record.value, record.headers)
        self.log[partition].append(Raw(record.topic, record.partition, offset, record.timestamp_ms, *content))

    def subscribe(self, topics: Sequence[str], listener: Any) -> None:
        self.listener = listener

    async def start(self) -> None:
        await self.listener.on_partitions_assigned(self.ours)

    async def stop(self) -> None: ...

    async def getmany(self, *, timeout_ms: int, max_records: int) -> dict[Partition, list[Raw]]:
        self.polls += 1
        await asyncio.sleep(60 if self.hangs else 0.001)
        fetched = {p: self.log[p][self.positions[p] :][:max_records] for p in sorted(self.ours - self._paused)}
        for partition, batch in fetched.items():
            self.positions[partition] += len(batch)
        return {p: batch for p, batch in fetched.items() if batch}

    async def commit(self, offsets: dict[Partition, int]) -> None:
        if self.commit_errors:
            raise self.commit_errors.pop(0)
        self.commits.append(offsets)

    def seek(self, partition: Partition, offset: int) -> None:
        self._must_be_ours(partition)
        self.positions[partition] = offset

    def pause(self, partition: Partition) -> None:
        self._must_be_ours(partition)
        self._paused.add(partition)

    def resume(self, partition: Partition) -> None:
        self._must_be_ours(partition)
        self._paused.discard(partition)

    def assignment(self) -> set[Partition]:
        return set(self.ours)

    def paused(self) -> set[Partition]:
        return self._paused & self.ours

    def highwater(self, partition: Partition) -> int:
        return len(self.log[partition])

    async def end_offsets(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        if self.broker_away:
            raise TimeoutError
        return {p: len(self.log[p]) for p in partitions}

    async def position(self, partition: Partition) -> int:
        self._must_be_ours(partition)
        return self.positions[partition]

    def _must_be_ours(self, partition: Partition) -> None:
        if partition not in self.ours:
            raise IllegalStateError(f"{partition} is not assigned")
