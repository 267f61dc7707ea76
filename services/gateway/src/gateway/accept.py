"""Accept: many requests, one write to the log (group commit).

Problem: waiting for the broker once per request costs more than the request itself.
Rule: requests put their record in a list and wait; every tick one publish takes all of the list; each request gets the
fate of its own record. The accepted markers of a flush go to Redis together, after the ack and before the answers.
Guarantees: ACKED is only ever said after the broker's ack. A request that is cancelled takes nobody with it.
Limits: `capacity` requests wait at most; a record waits `queue_deadline_s` at most before it is published, else it is
REFUSED: surely not written. One tick (2 ms) is added to every request.
Source: group commit, DeWitt et al. 1984.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from common.kafka.publisher import Outcome
from common.records import OutgoingRecord


@dataclass(frozen=True, slots=True)
class Marker:
    """Says that an order was accepted, until Postgres can say it."""

    order_id: UUID
    customer_id: str
    accepted_at: datetime


class RecordPublisher(Protocol):
    async def publish(self, records: Sequence[OutgoingRecord]) -> list[Outcome]:
        """The outcomes, in the order of the records; bounded in time."""
        ...


class MarkerStore(Protocol):
    async def remember(self, markers: Sequence[Marker]) -> None:
        """Best effort, bounded in time: it never raises because the store is away."""
        ...

    async def find(self, order_id: UUID, customer_id: str) -> Marker | None:
        """The customer's marker of this order. Raises InfrastructureError when the store cannot say."""
        ...


@dataclass(frozen=True, slots=True)
class _Waiting:
    record: OutgoingRecord
    marker: Marker | None
    outcome: "asyncio.Future[Outcome]"


class Acceptor:
    def __init__(
        self,
        publisher: RecordPublisher,
        markers: MarkerStore,
        *,
        capacity: int = 5_000,
        tick_s: float = 0.002,
        max_in_flight: int = 4,
        queue_deadline_s: float = 0.1,
    ) -> None:
        self._publisher, self._markers = publisher, markers
        self._capacity, self._tick_s, self._queue_deadline_s = capacity, tick_s, queue_deadline_s
        self._in_flight = asyncio.Semaphore(max_in_flight)
        self._queue: list[_Waiting] = []
        self._arrived = asyncio.Event()
        self._waiting = 0

    def full(self) -> bool:
        """As many requests wait as may: refuse the next one before any work is spent on it."""
        return self._waiting >= self._capacity

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Flush for as long as the block runs; at its end, see the flushes under way to their end."""
        async with asyncio.TaskGroup() as flushes:
            ticker = flushes.create_task(self._tick(flushes))
            yield
            ticker.cancel()

    async def accept(self, record: OutgoingRecord, marker: Marker | None = None) -> Outcome:
        """Publish with the next flush; answer what became of this record. `marker` is remembered if it was acked."""
        waiting = _Waiting(record, marker, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._arrived.set()
        self._waiting += 1
        try:
            return await waiting.outcome
        finally:
            self._waiting -= 1

    async def _tick(self, flushes: asyncio.TaskGroup) -> None:
        while True:
            await self._arrived.wait()
            await asyncio.sleep(self._tick_s)
            try:
                async with asyncio.timeout(self._queue_deadline_s):
                    await self._in_flight.acquire()
            except TimeoutError:  # the broker has stood still for that long: nobody should wait behind it
                _answer(self._take(), Outcome.REFUSED)
            else:
                flushes.create_task(self._flush(self._take()))

    def _take(self) -> list[_Waiting]:
        taken, self._queue = self._queue, []
        self._arrived.clear()
        return taken

    async def _flush(self, batch: list[_Waiting]) -> None:
        outcomes = [Outcome.UNKNOWN] * len(batch)
        try:
            try:
                outcomes = await self._publisher.publish([waiting.record for waiting in batch])
            finally:
                self._in_flight.release()  # before the markers: a slow Redis must not hold up the log
            acked = [w.marker for w, o in zip(batch, outcomes, strict=True) if w.marker and o is Outcome.ACKED]
            if acked:
                await self._markers.remember(acked)
        finally:
            for waiting, outcome in zip(batch, outcomes, strict=True):
                _answer([waiting], outcome)


def _answer(batch: Sequence[_Waiting], outcome: Outcome) -> None:
    for waiting in batch:
        if not waiting.outcome.done():  # done: its request was cancelled
            waiting.outcome.set_result(outcome)
