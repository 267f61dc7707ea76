"""Retries: few, spread, in time, and never a tenth more than the calls that were offered."""

import asyncio
from contextlib import suppress
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.resilience.circuit_breaker import CircuitBreaker, CircuitOpenError
from common.resilience.retry import COST, SAVED, TRIES, Retry
from unit.common.breaking import AwayError, Clock, Dependency

OUTAGE_S = 60
CALLS_PER_S = 20


class Sleep:
    """Sleeping moves the clock, and is remembered."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self.slept = clock, list[float]()

    async def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._clock.now += seconds
        await asyncio.sleep(0)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sleep(clock: Clock) -> Sleep:
    return Sleep(clock)


@pytest.fixture
def dependency() -> Dependency:
    return Dependency()


@pytest.fixture
def retry(clock: Clock, sleep: Sleep) -> Retry:
    return make_retry(clock, sleep)


def make_retry(clock: Clock, sleep: Sleep, *, deadline_s: float = 10.0) -> Retry:
    return Retry("test", errors=(AwayError,), try_s=2.0, deadline_s=deadline_s, clock=clock, sleep=sleep)


async def offer(retry: Retry, dependency: Dependency, calls: int) -> None:
    for _ in range(calls):
        with suppress(AwayError, CircuitOpenError):
            await retry.call(dependency)


async def earn(retry: Retry, retries: int) -> None:
    await offer(retry, Dependency(), retries * COST)


async def test_what_fails_once_is_tried_again(retry: Retry) -> None:
    await earn(retry, 1)
    outcomes = iter([AwayError(), None])

    async def action() -> str:
        if error := next(outcomes):
            raise error
        return "answer"

    assert await retry.call(action) == "answer"


async def test_what_always_fails_is_tried_three_times_and_its_own_error_is_raised(
    retry: Retry, dependency: Dependency
) -> None:
    await earn(retry, SAVED)
    dependency.error = AwayError()

    with pytest.raises(AwayError):
        await retry.call(dependency)

    assert dependency.calls == TRIES


async def test_an_error_that_is_not_named_is_not_tried_again(retry: Retry, dependency: Dependency) -> None:
    await earn(retry, SAVED)
    dependency.error = ValueError()

    with pytest.raises(ValueError):  # noqa: PT011 - it is the very error
        await retry.call(dependency)

    assert dependency.calls == 1


async def test_a_cancelled_call_is_not_tried_again(retry: Retry, dependency: Dependency) -> None:
    await earn(retry, SAVED)
    dependency.gate.clear()
    call = asyncio.create_task(retry.call(dependency))
    await asyncio.sleep(0)

    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await call
    assert dependency.calls == 1


async def test_no_two_callers_wait_equally_long_and_none_longer_than_the_bound(
    retry: Retry, dependency: Dependency, sleep: Sleep
) -> None:
    dependency.error = AwayError()

    await offer(retry, dependency, 2_000)

    assert len(set(sleep.slept)) == len(sleep.slept) > 100
    assert 0 < min(sleep.slept) < 0.005
    assert 0.04 < max(sleep.slept) <= 0.05


@pytest.mark.parametrize(("each_takes_s", "tries"), [(0.1, 3), (2.0, 3), (4.5, 2), (8.1, 1)])
async def test_another_try_is_made_only_if_it_can_end_before_the_deadline(
    retry: Retry, clock: Clock, each_takes_s: float, tries: int
) -> None:
    await earn(retry, SAVED)
    started, made = clock.now, SimpleNamespace(tries=0)

    async def action() -> str:
        made.tries += 1
        assert clock.now - started <= 8  # it has 2 s, and all of it 10
        clock.now += each_takes_s
        raise AwayError

    with pytest.raises(AwayError):
        await retry.call(action)

    assert made.tries == tries


async def test_retries_stop_when_the_breaker_opens(retry: Retry, dependency: Dependency, clock: Clock) -> None:
    breaker = CircuitBreaker("test", timeout_s=2, failures=(AwayError,), at_least=2, clock=clock)
    await earn(retry, SAVED)
    dependency.error = AwayError()

    with pytest.raises(CircuitOpenError):
        await retry.call(lambda: breaker.call(dependency))

    assert dependency.calls == 2


@settings(deadline=None)
@given(failing=st.lists(st.booleans(), max_size=150))
def test_at_any_time_there_were_at_most_a_tenth_as_many_retries_as_calls(failing: list[bool]) -> None:
    async def offered() -> None:
        clock, dependency = Clock(), Dependency()
        retry = make_retry(clock, Sleep(clock))
        for calls, fails in enumerate(failing, 1):
            dependency.error = AwayError() if fails else None
            await offer(retry, dependency, 1)
            assert dependency.calls - calls <= calls // 10

    asyncio.run(offered())


async def test_in_an_outage_of_60_s_a_dependency_gets_at_most_1_1_times_the_offered_calls(
    retry: Retry, dependency: Dependency, clock: Clock
) -> None:
    dependency.error = AwayError()

    offered = await outage(retry, dependency, clock)

    assert offered < dependency.calls <= 1.1 * offered


async def test_in_an_outage_after_good_times_it_gets_what_was_saved_on_top(
    retry: Retry, dependency: Dependency, clock: Clock
) -> None:
    await earn(retry, 100 * SAVED)
    dependency.error = AwayError()

    offered = await outage(retry, dependency, clock)

    assert dependency.calls <= 1.1 * offered + SAVED


async def test_with_a_breaker_an_outage_of_60_s_costs_a_fraction_of_the_offered_calls(
    retry: Retry, dependency: Dependency, clock: Clock
) -> None:
    breaker = CircuitBreaker("test", timeout_s=2, failures=(AwayError,), clock=clock)
    await earn(retry, 100 * SAVED)
    dependency.error = AwayError()

    offered = await outage(retry, dependency, clock, breaker)

    assert dependency.calls <= 20 + SAVED + OUTAGE_S / 5  # until it opens, then a probe every 5 s
    assert offered == OUTAGE_S * CALLS_PER_S


async def outage(retry: Retry, dependency: Dependency, clock: Clock, breaker: CircuitBreaker | None = None) -> int:
    """A minute of calls at an even rate; answers how many."""
    start, offered = clock.now, 0
    while offered < OUTAGE_S * CALLS_PER_S:
        clock.now = start + offered / CALLS_PER_S  # who sleeps does not hold up the others
        offered += 1
        with suppress(AwayError, CircuitOpenError):
            await retry.call(dependency if breaker is None else lambda: breaker.call(dependency))
    return offered
