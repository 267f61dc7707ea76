"""Reads topics from their beginning and goes on: the log as it is, whatever anybody was told of it."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

from common.errors import InfrastructureError
from common.kafka.progress import GroupProgress
from common.kafka.reader import TopicReader
from common.records import Record
from tests.eventually import eventually
from tests.prove.evidence import TOPICS, Entry, Place, entry_of
from tests.prove.stack import Addresses

AGAIN_S = 0.5
FETCH_MAX_WAIT_MS = 500  # a calm reader: it must not be what keeps the broker busy


class LogTail:
    """`entries` in the order in which they came; `next_offset` of each partition: how far we have read."""

    def __init__(self, where: Addresses, topics: Sequence[str], clock: Callable[[], float]) -> None:
        self._where, self._topics, self._clock = where, topics, clock
        self.entries: list[Entry] = []
        self.dead_letters: list[Record] = []
        self.next_offset: dict[Place, int] = {}
        self.on_entry: Callable[[Entry], None] = lambda _: None

    @classmethod
    @asynccontextmanager
    async def reading(
        cls, where: Addresses, topics: Sequence[str], clock: Callable[[], float]
    ) -> "AsyncGenerator[LogTail]":
        tail, stop = cls(where, topics, clock), asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for topic in topics:
                tasks.create_task(tail._follow(topic, stop))
            try:
                yield tail
            finally:
                stop.set()

    async def ends(self) -> dict[Place, int]:
        """Where each partition ends now. Raises InfrastructureError."""
        asked = [GroupProgress(self._where.kafka_bootstrap_servers, "prove", topic).ends() for topic in self._topics]
        found = await asyncio.gather(*asked)
        return {(topic, p): end for topic, ends in zip(self._topics, found, strict=True) for p, end in ends.items()}

    async def caught_up(self, ends: dict[Place, int], within_s: float) -> None:
        """Wait until everything before `ends` was read. Raises InfrastructureError."""
        try:
            await eventually(
                lambda: all(self.next_offset.get(at, 0) >= end for at, end in ends.items()), within=within_s
            )
        except AssertionError as error:
            raise InfrastructureError(f"the log could not be read to its end in {within_s} s") from error

    async def _follow(self, topic: str, stop: asyncio.Event) -> None:
        """Read until told to stop; from the beginning again if the reader gives up."""
        while not stop.is_set():
            reader = TopicReader(
                bootstrap_servers=self._where.kafka_bootstrap_servers,
                topic=topic,
                handle=self._take,
                fetch_max_wait_ms=FETCH_MAX_WAIT_MS,
            )
            with suppress(InfrastructureError):
                await reader.run(stop)
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), AGAIN_S)

    def _take(self, records: Sequence[Record]) -> None:
        for record in records:
            place = (record.topic, record.partition)
            if record.offset < self.next_offset.get(place, 0):
                continue  # read before
            self.next_offset[place] = record.offset + 1
            if record.topic in TOPICS:
                self.entries.append(entry := entry_of(record, self._clock()))
                self.on_entry(entry)
            else:
                self.dead_letters.append(record)
