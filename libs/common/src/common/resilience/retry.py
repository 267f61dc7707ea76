"""Retry: try again what failed by chance, without adding to what fails by overload.

Problem: when each layer tries three times, a dependency that cannot keep up gets three times the load, or 27 times.
Rule: in one layer only, at most 3 tries, for the named errors, after full jitter, and only if another try can end
within the deadline of the whole call. Each call earns a tenth of a retry and each retry costs one (the budget); at most
`SAVED` are saved. An open breaker inside ends it: its error is not a named one.
Guarantees: over the life of the process at most 1.1 tries per call, however many calls fail; in any stretch of time at
most 1.1, and what was saved before. A call ends within `deadline_s` if each try ends within `try_s`.
Limits: one budget per process and dependency; a new process has earned nothing yet. Only what may be repeated.
Source: "Handling Overload" in Beyer et al., "Site Reliability Engineering", 2016; the saved budget is Finagle's.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from common.resilience.backoff import full_jitter
from common.telemetry import metrics

TRIES = 3
COST = 10  # calls that earn one retry
SAVED = 10  # retries
BASE_S, CAP_S = 0.05, 1.0
T = TypeVar("T")


class Retry:
    """`dependency` is a label: one of few. `try_s`: the time-out that one try has."""

    def __init__(
        self,
        dependency: str,
        *,
        errors: tuple[type[Exception], ...],
        try_s: float,
        deadline_s: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._dependency, self._errors, self._clock, self._sleep = dependency, errors, clock, sleep
        self._start_within_s = deadline_s - try_s
        self._earned = 0

    async def call(self, action: Callable[[], Awaitable[T]]) -> T:
        """What `action` answers, or raises when it is not tried again."""
        self._earned = min(self._earned + 1, COST * SAVED)

        async def attempt() -> T:  # tenacity would not await what a plain function returns
            return await action()

        retrying = AsyncRetrying(
            retry=retry_if_exception_type(self._errors),
            wait=_wait_s,
            stop=partial(self._ends, self._clock()),
            sleep=self._sleep,
            reraise=True,
        )
        return await retrying(attempt)

    def _ends(self, started: float, state: RetryCallState) -> bool:
        next_try = self._clock() - started + state.upcoming_sleep
        if state.attempt_number >= TRIES or next_try > self._start_within_s:
            return True
        if self._earned < COST:
            metrics.RETRIES.labels(self._dependency, "no_budget").inc()
            return True
        self._earned -= COST
        metrics.RETRIES.labels(self._dependency, "made").inc()
        return False


def _wait_s(state: RetryCallState) -> float:
    return full_jitter(state.attempt_number - 1, base_s=BASE_S, cap_s=CAP_S)
