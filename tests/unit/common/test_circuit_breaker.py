"""The states of the breaker, one after the other: the cases of opossum's tests, and those that they leave open."""

import asyncio

import pytest

from common.resilience.circuit_breaker import CallTimedOutError, CircuitBreaker, CircuitOpenError, State
from eventually import eventually
from unit.common.breaking import REST_S, AwayError, Clock, Dependency, call, fail, half_open, opened, succeed

# closed


async def test_closed_it_passes_answers_and_errors_on(breaker: CircuitBreaker) -> None:
    assert await breaker.call(succeed) == "answer"
    with pytest.raises(AwayError):
        await breaker.call(fail)


@pytest.mark.parametrize(
    ("successes", "failures", "state"),
    [
        (0, 19, State.CLOSED),  # fewer than 20 calls say nothing
        (0, 20, State.OPEN),
        (9, 10, State.CLOSED),
        (9, 11, State.OPEN),
        (10, 10, State.CLOSED),  # half is not more than half
        (100, 100, State.CLOSED),
        (100, 101, State.OPEN),
        (1_000, 0, State.CLOSED),
    ],
)
async def test_closed_it_opens_when_more_than_half_of_at_least_20_calls_fail(
    breaker: CircuitBreaker, successes: int, failures: int, state: State
) -> None:
    await call(breaker, succeed, successes)
    await call(breaker, fail, failures)

    assert breaker.state is state


async def test_closed_what_happened_10_seconds_ago_is_forgotten(breaker: CircuitBreaker, clock: Clock) -> None:
    await call(breaker, succeed, 1_000)
    clock.now += 9
    await call(breaker, fail, 19)
    assert breaker.state is State.CLOSED

    clock.now += 1
    await call(breaker, fail)

    assert breaker.state is State.OPEN


async def test_closed_failures_spread_over_more_than_10_seconds_do_not_open_it(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    for _ in range(100):
        await call(breaker, fail)
        clock.now += 0.6

    assert breaker.state is State.CLOSED


async def test_closed_old_failures_are_forgotten_too(breaker: CircuitBreaker, clock: Clock) -> None:
    await call(breaker, fail, 19)
    clock.now += 10
    await call(breaker, succeed, 15)

    await call(breaker, fail, 10)

    assert breaker.state is State.CLOSED


async def test_closed_a_success_never_opens_it(breaker: CircuitBreaker) -> None:
    await call(breaker, fail, 19)
    await call(breaker, succeed)
    assert breaker.state is State.CLOSED

    await call(breaker, fail)

    assert breaker.state is State.OPEN


async def test_closed_an_error_that_is_not_named_is_an_answer(breaker: CircuitBreaker, dependency: Dependency) -> None:
    dependency.error = ValueError("no such order")

    for _ in range(100):
        with pytest.raises(ValueError, match="no such order"):
            await breaker.call(dependency)

    assert breaker.state is State.CLOSED


async def test_closed_calls_without_an_answer_in_time_open_it(clock: Clock, dependency: Dependency) -> None:
    dependency.gate.clear()
    breaker = CircuitBreaker("test", timeout_s=0.01, clock=clock)

    outcomes = await asyncio.gather(*(breaker.call(dependency) for _ in range(20)), return_exceptions=True)

    assert {type(outcome) for outcome in outcomes} == {CallTimedOutError}
    assert breaker.state is State.OPEN


async def test_closed_a_cancelled_call_says_nothing(breaker: CircuitBreaker, dependency: Dependency) -> None:
    dependency.gate.clear()
    calls = [asyncio.create_task(breaker.call(dependency)) for _ in range(100)]
    await eventually(lambda: dependency.calls == 100, within=5)

    for waiting in calls:
        waiting.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    await call(breaker, fail, 19)

    assert breaker.state is State.CLOSED


# open


async def test_open_it_refuses_at_once_and_calls_nothing(
    breaker: CircuitBreaker, clock: Clock, dependency: Dependency
) -> None:
    await opened(breaker)
    clock.now += REST_S - 0.001

    for _ in range(100):
        with pytest.raises(CircuitOpenError):
            await breaker.call(dependency)

    assert (dependency.calls, breaker.state) == (0, State.OPEN)


@pytest.mark.parametrize("error", [None, AwayError()])
async def test_open_a_call_from_before_neither_closes_it_nor_lengthens_its_rest(
    breaker: CircuitBreaker, clock: Clock, dependency: Dependency, error: Exception | None
) -> None:
    dependency.gate.clear()
    late = asyncio.create_task(call(breaker, dependency))
    await eventually(lambda: dependency.calls == 1, within=5)
    await opened(breaker)
    clock.now += REST_S - 1

    dependency.error = error
    dependency.gate.set()
    await late
    assert breaker.state is State.OPEN
    clock.now += 1

    assert await breaker.call(succeed) == "answer"


# half-open


async def test_half_open_a_probe_that_succeeds_closes_it_and_counting_begins_anew(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    await half_open(breaker, clock)

    await call(breaker, succeed)
    assert breaker.state is State.CLOSED
    await call(breaker, fail, 18)
    assert breaker.state is State.CLOSED
    await call(breaker, fail, 2)

    assert breaker.state is State.OPEN


async def test_half_open_a_probe_that_fails_opens_it_for_a_whole_rest(
    breaker: CircuitBreaker, clock: Clock, dependency: Dependency
) -> None:
    await half_open(breaker, clock)

    await call(breaker, fail)  # one is enough: the least number of calls is for the closed state
    assert breaker.state is State.OPEN
    clock.now += REST_S - 0.001

    with pytest.raises(CircuitOpenError):
        await breaker.call(dependency)


async def test_half_open_an_error_that_is_not_named_closes_it(breaker: CircuitBreaker, clock: Clock) -> None:
    async def not_found() -> str:
        raise KeyError

    await half_open(breaker, clock)

    with pytest.raises(KeyError):
        await breaker.call(not_found)

    assert breaker.state is State.CLOSED


async def test_half_open_a_probe_without_an_answer_in_time_opens_it(clock: Clock, dependency: Dependency) -> None:
    breaker = CircuitBreaker("test", timeout_s=0.01, clock=clock)
    await half_open(breaker, clock)
    dependency.gate.clear()

    with pytest.raises(CallTimedOutError):
        await breaker.call(dependency)

    assert breaker.state is State.OPEN


@pytest.mark.parametrize(("error", "after"), [(None, State.CLOSED), (AwayError(), State.OPEN)])
async def test_half_open_exactly_one_of_1000_parallel_calls_goes_through(
    breaker: CircuitBreaker, clock: Clock, dependency: Dependency, error: Exception | None, after: State
) -> None:
    await half_open(breaker, clock)
    dependency.error = error
    dependency.gate.clear()
    calls = [asyncio.create_task(breaker.call(dependency)) for _ in range(1_000)]
    await eventually(lambda: sum(task.done() for task in calls) == 999, within=10)
    assert (dependency.calls, breaker.state) == (1, State.HALF_OPEN)

    dependency.gate.set()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)

    assert sum(isinstance(outcome, CircuitOpenError) for outcome in outcomes) == 999
    assert (dependency.calls, breaker.state) == (1, after)


async def test_half_open_a_cancelled_probe_frees_its_slot(
    breaker: CircuitBreaker, clock: Clock, dependency: Dependency
) -> None:
    await half_open(breaker, clock)
    dependency.gate.clear()
    probe = asyncio.create_task(breaker.call(dependency))
    await eventually(lambda: dependency.calls == 1, within=5)

    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)
    assert breaker.state is State.HALF_OPEN

    assert await breaker.call(succeed) == "answer"
    assert breaker.state is State.CLOSED


@pytest.mark.parametrize("error", [None, AwayError()])
async def test_half_open_a_call_from_before_decides_nothing_and_frees_no_slot(
    breaker: CircuitBreaker, clock: Clock, dependency: Dependency, error: Exception | None
) -> None:
    dependency.gate.clear()
    late = asyncio.create_task(call(breaker, dependency))
    await eventually(lambda: dependency.calls == 1, within=5)
    await half_open(breaker, clock)
    probed = Dependency()
    probed.gate.clear()
    probe = asyncio.create_task(breaker.call(probed))
    await eventually(lambda: probed.calls == 1, within=5)

    dependency.error = error
    dependency.gate.set()
    await late

    assert breaker.state is State.HALF_OPEN
    with pytest.raises(CircuitOpenError):
        await breaker.call(succeed)
    probed.gate.set()
    assert await probe == "answer"


async def test_closed_again_failures_from_before_count_for_nothing(
    breaker: CircuitBreaker, clock: Clock, dependency: Dependency
) -> None:
    dependency.gate.clear()
    late = [asyncio.create_task(call(breaker, dependency)) for _ in range(100)]
    await eventually(lambda: dependency.calls == 100, within=5)
    await half_open(breaker, clock)
    await call(breaker, succeed)

    dependency.error = AwayError()
    dependency.gate.set()
    await asyncio.gather(*late)
    await call(breaker, fail, 18)

    assert breaker.state is State.CLOSED
