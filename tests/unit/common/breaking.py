"""What the tests of breakers and retries share: a dependency that fails as it is told, and a clock."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from common.errors import InfrastructureError
from common.resilience.circuit_breaker import CircuitBreaker, State

REST_S = 5.0


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class AwayError(InfrastructureError):
    """What the dependency of these tests raises."""


class Dependency:
    """Counts who gets through. `gate`: calls wait for it; `error`: what they raise then, None: they succeed."""

    def __init__(self) -> None:
        self.calls = 0
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self) -> str:
        self.calls += 1
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return "answer"


async def succeed() -> str:
    return "answer"


async def fail() -> str:
    raise AwayError("no answer")


async def call(breaker: CircuitBreaker, action: Callable[[], Awaitable[str]], times: int = 1) -> None:
    for _ in range(times):
        with suppress(AwayError):
            await breaker.call(action)


async def opened(breaker: CircuitBreaker) -> None:
    while breaker.state is State.CLOSED:
        await call(breaker, fail)
    assert breaker.state is State.OPEN


async def half_open(breaker: CircuitBreaker, clock: Clock) -> None:
    """Open, and its rest is over: the next call is the probe."""
    await opened(breaker)
    clock.now += REST_S
