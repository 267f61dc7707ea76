"""Load: many kept-alive connections that send ready-made requests, and what came back.

Closed loop: each connection sends its next request when it has its answer; it shows how much a server can do.
Open loop: requests are due at a fixed rate, whatever the server does, and the latency counts from the moment a request
was due. A server that stalls is then seen by all who would have come meanwhile (no coordinated omission: Gil Tene).
Limits: HTTP/1.1, one request at a time on a connection, answers with a Content-Length. Run it in a process of its own.
"""

import asyncio
import resource
import selectors
import time
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import uvloop

NO_ANSWER_S = 10.0
_HEAD_END = b"\r\n\r\n"
_LENGTH = b"content-length:"


@dataclass(frozen=True, slots=True)
class Requests:
    """The requests: each is a head (in turn), the number of this request, and the tail."""

    heads: list[bytes]
    tail: bytes

    def numbered(self, first: int) -> Iterator[bytes]:
        count, tail = len(self.heads), self.tail
        number = first
        while True:
            yield b"%b%d%b" % (self.heads[number % count], number, tail)
            number += 1


@dataclass(slots=True)
class Answers:
    """What came back. Latencies in seconds, `cpu_s` what this client cost; status 0: no answer."""

    seconds: float = 0.0
    cpu_s: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter[int])
    latencies: "array[float]" = field(default_factory=lambda: array("d"))

    def percentile_ms(self, percent: float) -> float:
        ordered = sorted(self.latencies)
        return 1000 * ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def closed_loop(port: int, requests: Requests, first: int, connections: int, seconds: float) -> Answers:
    """Send for `seconds` over `connections`; the requests are numbered from `first`."""
    return uvloop.run(_closed_loop(port, requests.numbered(first), connections, seconds))


def open_loop(port: int, requests: list[bytes], rate: float, connections: int, seconds: float) -> Answers:
    """Send `rate` requests a second for `seconds`, in turn, each over an idle one of the `connections`."""
    # uvloop and epoll round timers to 1 ms, which would be most of what is measured here; select does not.
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        return runner.run(_open_loop(port, requests, rate, connections, seconds))


class Connection(asyncio.Protocol):
    """One connection: `send` a request, and `answered(self, status)` is called when its `answer` is complete."""

    def __init__(self, answered: Callable[["Connection", int], None]) -> None:
        self._answered = answered
        self._received = self.answer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one without inheriting from it

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._answered(self, 0)

    def send(self, request: bytes) -> None:
        if self._transport is not None:
            self._transport.write(request)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        head_end = received.find(_HEAD_END)
        if head_end < 0 or len(received) < head_end + 4 + _length(received, head_end):
            self._received = received
            return
        self._received, self.answer = b"", received
        self._answered(self, int(received[9:12]))


def _length(received: bytes, head_end: int) -> int:
    start = received.find(_LENGTH, 0, head_end)
    if start < 0:  # as uvicorn writes it; another server may not
        start = received.lower().find(_LENGTH, 0, head_end)
    if start < 0:
        return 0
    start += len(_LENGTH)
    return int(received[start : received.index(b"\r\n", start)])


async def _closed_loop(port: int, requests: Iterator[bytes], connections: int, seconds: float) -> Answers:
    answers, done = Answers(), asyncio.Event()
    clock, statuses, keep = time.perf_counter, answers.statuses, answers.latencies.append
    sent_at: dict[Connection, float] = {}
    ends = 0.0

    def answered(connection: Connection, status: int) -> None:
        now, sent = clock(), sent_at.pop(connection, None)
        if sent is not None:
            statuses[status] += 1
            keep(now - sent)
        if now < ends and status:
            sent_at[connection] = now
            connection.send(next(requests))
        elif not sent_at:
            done.set()

    lines = [await connect(port, answered) for _ in range(connections)]
    began, cpu = clock(), cpu_s()
    ends = began + seconds
    for line in lines:
        sent_at[line] = clock()
        line.send(next(requests))
    await _until(done, seconds + NO_ANSWER_S)
    answers.seconds, answers.cpu_s = clock() - began, cpu_s() - cpu
    return _ended(answers, lines, sent_at)


async def _open_loop(port: int, requests: list[bytes], rate: float, connections: int, seconds: float) -> Answers:
    answers, done = Answers(), asyncio.Event()
    clock, total = time.perf_counter, int(rate * seconds)
    due_at: dict[Connection, float] = {}
    idle: deque[Connection] = deque()
    waiting: deque[tuple[float, bytes]] = deque()  # due, and every connection is busy

    def send(connection: Connection, due: float, request: bytes) -> None:
        due_at[connection] = due
        connection.send(request)

    def answered(connection: Connection, status: int) -> None:
        due = due_at.pop(connection, None)
        if due is not None:
            answers.statuses[status] += 1
            answers.latencies.append(clock() - due)
        if status and waiting:
            send(connection, *waiting.popleft())
        elif status:
            idle.append(connection)
        if answers.statuses.total() == total:
            done.set()

    lines = [await connect(port, answered) for _ in range(connections)]
    idle.extend(lines)
    began, cpu = clock(), cpu_s()
    for number in range(total):
        due = began + number / rate
        if (wait_s := due - clock()) > 0:
            await asyncio.sleep(wait_s)
        if idle:
            send(idle.popleft(), due, requests[number % len(requests)])
        else:
            waiting.append((due, requests[number % len(requests)]))
    await _until(done, NO_ANSWER_S)
    answers.statuses[0] += len(waiting)
    answers.seconds, answers.cpu_s = clock() - began, cpu_s() - cpu
    return _ended(answers, lines, due_at)


async def connect(port: int, answered: Callable[[Connection, int], None]) -> Connection:
    make = partial(Connection, answered)
    _, connection = await asyncio.get_running_loop().create_connection(make, "127.0.0.1", port)
    return connection


async def _until(done: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await done.wait()
    except TimeoutError:
        return  # who got no answer is counted by `_ended`


def _ended(answers: Answers, lines: list[Connection], unanswered: dict[Connection, float]) -> Answers:
    answers.statuses[0] += len(unanswered)
    unanswered.clear()
    answers.statuses += Counter()  # drops the zeros
    for line in lines:
        line.close()
    return answers


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
