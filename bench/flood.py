"""Flood: more requests than a server can do, at a fixed rate, and when each was answered.

Open loop: the arrivals follow a schedule, whatever the server does, and a latency counts from the moment a request was
due. That the client is not what is measured must show: `late` is how late it sent, `cpu_s` what it used, `queued` how
many requests found every connection busy. Run it in a process of its own.
"""

import asyncio
import time
from array import array
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import uvloop

from bench.load import Connection, Requests, connect, cpu_s

TICK_S = 0.001
LAST_ANSWER_S = 10.0


def _doubles() -> "array[float]":
    return array("d")


@dataclass(slots=True)
class Flood:
    """Of each answer: when its request was due (seconds from the start), how long it took, and its status."""

    rate: float
    seconds: float
    due: "array[float]" = field(default_factory=_doubles)
    took: "array[float]" = field(default_factory=_doubles)
    status: "array[int]" = field(default_factory=lambda: array("H"))
    late: "array[float]" = field(default_factory=_doubles)
    queued: int = 0
    unanswered: int = 0
    refused_without_retry_after: int = 0
    cpu_s: float = 0.0

    def of(self, status: int) -> Iterator[tuple[float, float]]:
        """When it was due and how long it took, of each answer with this status."""
        return ((due, took) for due, took, s in zip(self.due, self.took, self.status, strict=True) if s == status)


def flood(port: int, requests: Requests, first: int, rate: float, connections: int, seconds: float) -> Flood:
    """Send `rate` requests a second for `seconds`, numbered from `first`; wait at most 10 s for the last answers."""
    return uvloop.run(_Flooding(Flood(rate, seconds), requests.numbered(first)).run(port, connections))


class _Flooding:
    def __init__(self, flood: Flood, requests: Iterator[bytes]) -> None:
        self._flood, self._requests = flood, requests
        self._total = int(flood.rate * flood.seconds)
        self._due_at: dict[Connection, float] = {}
        self._idle: deque[Connection] = deque()
        self._waiting: deque[float] = deque()  # due, and every connection is busy
        self._done = asyncio.Event()
        self._began = 0.0

    async def run(self, port: int, connections: int) -> Flood:
        lines = [await connect(port, self._answered) for _ in range(connections)]
        self._idle.extend(lines)
        self._began, used = time.perf_counter(), cpu_s()
        await self._offer_all()
        try:
            async with asyncio.timeout(LAST_ANSWER_S):
                await self._done.wait()
        except TimeoutError:
            self._flood.unanswered = self._total - len(self._flood.due)
        self._flood.cpu_s = cpu_s() - used
        self._due_at.clear()
        for line in lines:
            line.close()
        return self._flood

    async def _offer_all(self) -> None:
        offered, rate = 0, self._flood.rate
        while offered < self._total:
            due = min(self._total, int(self._now() * rate))
            for number in range(offered, due):
                self._offer(number / rate)
            offered = max(offered, due)
            await asyncio.sleep(TICK_S)

    def _offer(self, due: float) -> None:
        if self._idle:
            self._send(self._idle.popleft(), due)
        else:
            self._flood.queued += 1
            self._waiting.append(due)

    def _send(self, connection: Connection, due: float) -> None:
        self._due_at[connection] = due
        self._flood.late.append(self._now() - due)
        connection.send(next(self._requests))

    def _answered(self, connection: Connection, status: int) -> None:
        flood, due = self._flood, self._due_at.pop(connection, None)
        if due is not None:
            flood.due.append(due)
            flood.took.append(self._now() - due)
            flood.status.append(status)
            flood.refused_without_retry_after += status == 503 and b"\r\nretry-after: " not in connection.answer
            if len(flood.due) == self._total:
                self._done.set()
        if status == 0:
            return  # it was closed
        if self._waiting:
            self._send(connection, self._waiting.popleft())
        else:
            self._idle.append(connection)

    def _now(self) -> float:
        return time.perf_counter() - self._began
