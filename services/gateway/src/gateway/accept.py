"""Accept: many requests, one write to the log (group commit).

Problem: waiting for the broker, or for Redis, once per request costs more than the request itself.
Rule: requests put their record in a list and wait. One call asks the store for tokens and claims of the whole list;
what comes meanwhile is the next list. One publish takes what was admitted, one call settles claims and markers; then
each request gets the fate of its own record. A request alone waits for nobody, and the more come, the more share each
round trip: while a publish is under way its followers gather, but not longer than `gather_s` behind a slow one.
Guarantees: ACCEPTED is only ever said after the broker's ack. A request that is cancelled takes nobody with it.
Limits: `capacity` requests and `capacity_bytes` of records wait at most; an admitted record waits `queue_deadline_s` at
most before it is published, else it is REFUSED: surely not written.
Source: group commit, DeWitt et al. 1984.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from common.kafka.publisher import OnLateAck, Outcome
from common.records import OutgoingRecord
from common.shutdown import step
from gateway.idempotency import Admission, Call, DoorStore, Verdict

PENDING_ACKS_S = 5  # at the end of the process

_VERDICT_OF = {
    Outcome.ACKED: Admission(Verdict.ACCEPTED),
    Outcome.REFUSED: Admission(Verdict.REFUSED),
    Outcome.UNKNOWN: Admission(Verdict.UNKNOWN),
}


class RecordPublisher(Protocol):
    async def publish(self, records: Sequence[OutgoingRecord], on_late_ack: OnLateAck = None) -> list[Outcome]:
        """The outcomes, in the order of the records; bounded in time. `on_late_ack`: of UNKNOWN ones acked later."""
        ...


@dataclass(frozen=True, slots=True)
class _Waiting:
    record: OutgoingRecord
    call: Call
    answer: "asyncio.Future[Admission]"


class Acceptor:
    def __init__(
        self,
        publisher: RecordPublisher,
        store: DoorStore,
        *,
        capacity: int = 5_000,
        capacity_bytes: int = 32 * 1024 * 1024,
        max_in_flight: int = 4,
        gather_s: float = 0.02,
        queue_deadline_s: float = 0.1,
    ) -> None:
        self._publisher, self._store = publisher, store
        self._capacity, self._capacity_bytes = capacity, capacity_bytes
        self._gather_s, self._queue_deadline_s = gather_s, queue_deadline_s
        self._in_flight = asyncio.Semaphore(max_in_flight)
        self._arrivals, self._admitted = _Queue(), _Queue()
        self._waiting = self._waiting_bytes = 0
        self._stands_still = self._closed = False
        self._published = asyncio.Event()  # nothing is under way, or something of it has just ended
        self._published.set()
        self._idle = asyncio.Event()
        self._idle.set()

    def full(self, more: int = 0) -> bool:
        """With `more` of them as much waits as may, or the broker stands still: refuse the next one before any work is
        spent on it."""
        waiting = self._waiting + more
        return self._stands_still or waiting >= self._capacity or self._waiting_bytes >= self._capacity_bytes

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Flush for as long as the block runs; at its end, see the flushes under way to their end."""
        async with asyncio.TaskGroup() as flushes:
            admitting = flushes.create_task(self._admit_arrivals())
            publishing = flushes.create_task(self._publish_admitted(flushes))
            yield
            async with step("pending acks", PENDING_ACKS_S):
                await self._idle.wait()
            self._closed = True
            admitting.cancel()
            publishing.cancel()

    async def accept(self, record: OutgoingRecord, call: Call) -> Admission:
        """Take part in the next flush; answer what became of this record."""
        waiting = _Waiting(record, call, asyncio.get_running_loop().create_future())
        size = len(record.value or b"")
        self._arrivals.put([waiting])
        self._waiting += 1
        self._idle.clear()
        self._waiting_bytes += size
        try:
            return await waiting.answer
        finally:
            self._waiting -= 1
            self._waiting_bytes -= size
            if not self._waiting:
                self._idle.set()

    async def _admit_arrivals(self) -> None:
        while True:
            await self._arrivals.filled.wait()
            await self._admit(self._arrivals.take())

    async def _admit(self, batch: list[_Waiting]) -> None:
        admissions = await self._store.admit([waiting.call for waiting in batch])
        admitted: list[_Waiting] = []
        for waiting, admission in zip(batch, admissions, strict=True):
            if admission.verdict is Verdict.NEW:
                admitted.append(waiting)
            else:
                _answer(waiting, admission)
        self._admitted.put(admitted)

    async def _publish_admitted(self, flushes: asyncio.TaskGroup) -> None:
        while True:
            await self._admitted.filled.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._gather_s):
                    await self._published.wait()
            try:
                async with asyncio.timeout(self._queue_deadline_s):
                    await self._in_flight.acquire()
            except TimeoutError:  # the broker has stood still for that long: nobody should wait behind it
                self._stands_still = True
                flushes.create_task(self._settle(self._admitted.take(), None))
            else:
                flushes.create_task(self._flush(self._admitted.take(), flushes))

    async def _flush(self, batch: list[_Waiting], flushes: asyncio.TaskGroup) -> None:
        def on_late_ack(indexes: Sequence[int]) -> None:  # too late for the answer, not for claim and marker
            if not self._closed:
                acked = [batch[index] for index in indexes]
                flushes.create_task(self._settle(acked, [Outcome.ACKED] * len(acked)))

        self._published.clear()
        outcomes = [Outcome.UNKNOWN] * len(batch)
        try:
            outcomes = await self._publisher.publish([waiting.record for waiting in batch], on_late_ack)
        finally:
            self._in_flight.release()  # before the store: a slow Redis must not hold up the log
            self._published.set()
            self._stands_still = False
            await self._settle(batch, outcomes)

    async def _settle(self, batch: list[_Waiting], outcomes: list[Outcome] | None) -> None:
        outcomes = outcomes or [Outcome.REFUSED] * len(batch)
        try:
            settled = [(w.call, o) for w, o in zip(batch, outcomes, strict=True) if w.call.marker]
            if settled:
                await self._store.settle(settled)
        finally:
            for waiting, outcome in zip(batch, outcomes, strict=True):
                _answer(waiting, _VERDICT_OF[outcome])


class _Queue:
    def __init__(self) -> None:
        self._waiting: list[_Waiting] = []
        self.filled = asyncio.Event()

    def put(self, batch: list[_Waiting]) -> None:
        self._waiting += batch
        if self._waiting:
            self.filled.set()

    def take(self) -> list[_Waiting]:
        taken, self._waiting = self._waiting, []
        self.filled.clear()
        return taken


def _answer(waiting: _Waiting, admission: Admission) -> None:
    if not waiting.answer.done():  # done: its request was cancelled
        waiting.answer.set_result(admission)
