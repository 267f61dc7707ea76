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
Limits: one per process and dependency. At high rates it takes seconds until failures outweigh earlier successes.
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
        share: float = 0.5,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.state = State.CLOSED
        self._name, self._failures, self._timeout_s, self._rest_s = name, failures, timeout_s, rest_s
        self._at_least, self._share, self._clock = at_least, share, clock
        self._window = _Window(window_s / BUCKETS)
        self._generation, self._probing, self._rests_until = 0, False, 0.0
        metrics.BREAKER_STATE.labels(name).set(State.CLOSED.value)

    async def call(
        self, action: Callable[[], Awaitable[T]], fallback: Callable[[Exception], Awaitable[T]] | None = None
    ) -> T:
        """Raises what `action` raises, CallTimedOutError or CircuitOpenError; a `fallback` answers in their place."""
        try:
            return await self._watched(action, self._enter())
        except (CircuitOpenError, CallTimedOutError, *self._failures) as error:
            if fallback is None:
                raise
            return await fallback(error)

    def close(self) -> None:
        """Somebody else has heard from the dependency: no need to wait for a probe."""
        if self.state is not State.CLOSED:
            self._change(State.CLOSED)

    def _enter(self) -> int:
        if self.state is State.OPEN and self._clock() >= self._rests_until:
            self._change(State.HALF_OPEN)
        if self.state is State.OPEN or self._probing:
            raise CircuitOpenError(f"{self._name} is left alone: it did not answer")
        self._probing = self.state is State.HALF_OPEN
        return self._generation

    async def _watched(self, action: Callable[[], Awaitable[T]], generation: int) -> T:
        failed, why = None, ""  # stays so when the call is cancelled
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await action()
            failed = False
            return answer
        except TimeoutError as error:
            failed, why = True, "no answer in time"
            raise CallTimedOutError(f"{self._name} did not answer in time") from error
        except Exception as error:
            failed, why = isinstance(error, self._failures), str(error)
            raise
        finally:
            if generation == self._generation:
                self._count(failed, why)

    def _count(self, failed: bool | None, why: str) -> None:
        self._probing = False
        if failed is None:
            return
        if self.state is State.HALF_OPEN:
            self._change(State.OPEN if failed else State.CLOSED, why)
            return
        window = self._window
        window.add(self._clock(), failed)  # a success never opens it
        if failed and window.calls >= self._at_least and window.failures > self._share * window.calls:
            self._change(State.OPEN, why)

    def _change(self, state: State, why: str = "") -> None:
        log.warning("breaker_changed", breaker=self._name, before=self.state.name, now=state.name, why=why)
        self.state = state
        self._generation += 1
        self._probing = False
        self._window = _Window(self._window.bucket_s)
        self._rests_until = self._clock() + self._rest_s
        metrics.BREAKER_STATE.labels(self._name).set(state.value)
        metrics.BREAKER_CHANGES.labels(self._name, state.name.lower()).inc()


class _Window:
    """Calls and failures of the last BUCKETS buckets of time."""

    def __init__(self, bucket_s: float) -> None:
        self.bucket_s, self.calls, self.failures = bucket_s, 0, 0
        self._buckets: deque[list[int]] = deque()  # [number of the bucket, calls, failures]

    def add(self, now: float, failed: bool) -> None:
        number = int(now / self.bucket_s)
        if not self._buckets or self._buckets[-1][0] != number:
            self._buckets.append([number, 0, 0])
        self._buckets[-1][1] += 1
        self._buckets[-1][2] += failed
        self.calls, self.failures = self.calls + 1, self.failures + failed
        while self._buckets[0][0] <= number - BUCKETS:
            _, calls, failures = self._buckets.popleft()
            self.calls, self.failures = self.calls - calls, self.failures - failures
