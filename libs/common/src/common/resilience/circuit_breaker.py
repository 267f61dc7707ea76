"""Circuit breaker: leave alone what does not answer, and learn from a single call whether it does again.

Problem: who goes on calling a dependency that hangs holds a connection, a permit and a caller for the whole time-out
of each call, and soon hangs too; and the dependency, once it is back, is met by all of them at once.

    state      a call                           what changes it
    closed     goes through, its result counts  more than half of at least 20 calls in 10 s failed -> open
    open       is refused at once               `rest_s` are over -> half-open, with the next call
    half-open  one goes through, the probe      it succeeds -> closed, counting anew; it fails -> open;
                                                it is cancelled -> half-open, and the next call is the probe

Rule: a failure is one of the named errors, or no answer within `timeout_s`; any other error is an answer. A cancelled
call says nothing. Each change of state begins a new generation: what a call of an older one brings counts for nothing.
Guarantee: while open nothing is called; while half-open exactly one call is under way.
Limits: one breaker per process and dependency. A dependency that fails one call in two stays closed, and at high rates
it takes seconds until failures outweigh the successes in the window: every call needs its time-out all the same.
Source: Nygard, "Release It!", 2007; the cases at the edges are those of the tests of opossum (Node.js).
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import TypeVar

import structlog

from common.errors import InfrastructureError
from common.telemetry import metrics

log = structlog.get_logger()

BUCKETS = 10
T = TypeVar("T")


class CircuitOpenError(InfrastructureError):
    """The breaker is open, or a probe is under way: nothing was called."""


class CallTimedOutError(InfrastructureError):
    """No answer in time: what was asked may have been done."""


class State(Enum):
    CLOSED, HALF_OPEN, OPEN = range(3)  # the values of the metric


class CircuitBreaker:
    """`name` is a label of metrics: one of few. `clock` counts seconds."""

    def __init__(
        self,
        name: str,
        *,
        timeout_s: float,
        failures: tuple[type[Exception], ...] = (InfrastructureError,),
        rest_s: float = 5.0,
        window_s: float = 10.0,
        at_least: int = 20,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.state = State.CLOSED
        self._name, self._failures, self._timeout_s, self._rest_s = name, failures, timeout_s, rest_s
        self._at_least, self._clock = at_least, clock
        self._window = _Window(window_s / BUCKETS)
        self._generation = 0
        self._probing = False
        self._rests_until = 0.0
        metrics.BREAKER_STATE.labels(name).set(State.CLOSED.value)

    async def call(
        self, action: Callable[[], Awaitable[T]], fallback: Callable[[Exception], Awaitable[T]] | None = None
    ) -> T:
        """What `action` answers. Raises what it raises, CallTimedOutError or CircuitOpenError; with a `fallback`,
        refused and failed calls are answered by that."""
        try:
            return await self._watched(action, self._enter())
        except (CircuitOpenError, CallTimedOutError, *self._failures) as error:
            if fallback is None:
                raise
            return await fallback(error)

    def _enter(self) -> int:
        if self.state is State.OPEN and self._clock() >= self._rests_until:
            self._change(State.HALF_OPEN)
        if self.state is State.OPEN or self._probing:
            raise CircuitOpenError(f"{self._name} is left alone: it did not answer")
        self._probing = self.state is State.HALF_OPEN
        return self._generation

    async def _watched(self, action: Callable[[], Awaitable[T]], generation: int) -> T:
        failed: bool | None = None  # stays so when the call is cancelled
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await action()
            failed = False
            return answer
        except TimeoutError as error:
            failed = True
            raise CallTimedOutError(f"{self._name} did not answer in time") from error
        except Exception as error:
            failed = isinstance(error, self._failures)
            raise
        finally:
            if generation == self._generation:
                self._count(failed)

    def _count(self, failed: bool | None) -> None:
        self._probing = False
        if failed is None:
            return
        if self.state is State.HALF_OPEN:
            self._change(State.OPEN if failed else State.CLOSED)
        else:
            calls, failures = self._window.add(self._clock(), failed)
            if failed and calls >= self._at_least and 2 * failures > calls:
                self._change(State.OPEN)

    def _change(self, state: State) -> None:
        log.warning("breaker_changed", breaker=self._name, before=self.state.name, now=state.name)
        self.state = state
        self._generation += 1
        self._window = _Window(self._window.bucket_s)
        self._rests_until = self._clock() + self._rest_s
        metrics.BREAKER_STATE.labels(self._name).set(state.value)
        metrics.BREAKER_CHANGES.labels(self._name, state.name.lower()).inc()


class _Window:
    """Calls and failures of the last BUCKETS buckets of time."""

    def __init__(self, bucket_s: float) -> None:
        self.bucket_s = bucket_s
        self._buckets: deque[list[int]] = deque()  # [number of the bucket, calls, failures]

    def add(self, now: float, failed: bool) -> tuple[int, int]:
        """Count a call; answer how many there were, and how many failed."""
        number = int(now / self.bucket_s)
        if not self._buckets or self._buckets[-1][0] != number:
            self._buckets.append([number, 0, 0])
        while self._buckets[0][0] <= number - BUCKETS:
            self._buckets.popleft()
        self._buckets[-1][1] += 1
        self._buckets[-1][2] += failed
        return sum(bucket[1] for bucket in self._buckets), sum(bucket[2] for bucket in self._buckets)
