"""What a breaker tells, its fallback, a port behind it; and calls that start and end in any order."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from common.resilience.circuit_breaker import CircuitBreaker, CircuitOpenError, State
from common.resilience.through import through
from eventually import eventually
from unit.common.breaking import REST_S, AwayError, Clock, Dependency, call, fail, half_open, opened, succeed


async def test_a_breaker_for_which_one_call_speaks_for_many_opens_at_once_and_for_less_than_half(clock: Clock) -> None:
    breaker = CircuitBreaker("test", failures=(AwayError,), timeout_s=5, window_s=1, at_least=1, share=0.1, clock=clock)
    await call(breaker, succeed, 9)
    await call(breaker, fail)
    assert breaker.state is State.CLOSED  # a tenth is not more than that

    await call(breaker, fail)

    assert breaker.state is State.OPEN


async def test_it_can_be_closed_by_who_has_heard_from_the_dependency(breaker: CircuitBreaker, clock: Clock) -> None:
    await opened(breaker)

    breaker.close()

    assert await breaker.call(succeed) == "answer"


async def test_a_probe_under_way_when_it_is_closed_counts_for_nothing_and_blocks_nobody(
    breaker: CircuitBreaker, clock: Clock, dependency: Dependency
) -> None:
    await half_open(breaker, clock)
    dependency.gate.clear()
    probe = asyncio.create_task(call(breaker, dependency))
    await eventually(lambda: dependency.calls == 1, within=5)

    breaker.close()
    dependency.error = AwayError()
    dependency.gate.set()
    await probe

    assert breaker.state is State.CLOSED
    assert await breaker.call(succeed) == "answer"


async def test_every_change_is_logged_and_measured(breaker: CircuitBreaker, clock: Clock) -> None:
    def measured() -> tuple[float | None, ...]:
        changes = (
            REGISTRY.get_sample_value("headrace_breaker_changes_total", {"breaker": "test", "to": to}) or 0
            for to in ("open", "half_open", "closed")
        )
        return REGISTRY.get_sample_value("headrace_breaker_state", {"breaker": "test"}), *changes

    _, *before = measured()
    with capture_logs() as logs:
        await half_open(breaker, clock)
        assert measured()[0] == State.OPEN.value
        await call(breaker, succeed)

    assert [(entry["before"], entry["now"], entry["why"]) for entry in logs] == [
        ("CLOSED", "OPEN", "no answer"),
        ("OPEN", "HALF_OPEN", ""),
        ("HALF_OPEN", "CLOSED", ""),
    ]
    assert measured() == (State.CLOSED.value, *((count or 0) + 1 for count in before))


@pytest.mark.parametrize("broken", ["refused", "failed", "timed out"])
async def test_the_fallback_answers_refused_and_failed_calls_and_hears_why(
    clock: Clock, dependency: Dependency, broken: str
) -> None:
    breaker = CircuitBreaker("test", failures=(AwayError,), timeout_s=0.01, clock=clock)
    dependency.error = AwayError()
    if broken == "refused":
        await opened(breaker)
    elif broken == "timed out":
        dependency.gate.clear()

    async def fallback(error: Exception) -> str:
        return type(error).__name__

    answer = await breaker.call(dependency, fallback)

    assert answer == {"refused": "CircuitOpenError", "failed": "AwayError", "timed out": "CallTimedOutError"}[broken]
    assert dependency.calls == (0 if broken == "refused" else 1)


async def test_the_fallback_answers_no_error_that_is_an_answer(breaker: CircuitBreaker, dependency: Dependency) -> None:
    async def fallback(error: Exception) -> str:
        return "fallback"

    dependency.error = KeyError("no such order")

    with pytest.raises(KeyError):
        await breaker.call(dependency, fallback)


STEPS = st.lists(
    st.one_of(st.sampled_from(["start", "succeed", "fail", "cancel"]), st.floats(0, 6)), min_size=20, max_size=300
)


@settings(deadline=None)
@given(steps=STEPS)
def test_whatever_happens_at_most_one_call_passes_while_it_is_not_closed(steps: list[str | float]) -> None:
    asyncio.run(_run(steps))


async def _run(steps: list[str | float]) -> None:
    """Calls start, end and are cancelled in any order. Who got through after it opened is a probe: one at a time."""
    clock = Clock()
    breaker = CircuitBreaker("test", timeout_s=60, failures=(AwayError,), rest_s=REST_S, at_least=3, clock=clock)
    under_way: list[tuple[asyncio.Task[Any], asyncio.Future[str]]] = []
    probe: asyncio.Task[Any] | None = None
    for step in steps:
        if isinstance(step, float):
            clock.now += step
        elif step == "start":
            closed, was = breaker.state is State.CLOSED, breaker.state
            gate: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            task = asyncio.create_task(breaker.call(_waiting(gate)))
            await asyncio.sleep(0)
            if not task.done():
                assert closed or probe is None or probe.done(), "a second probe"
                assert was is not State.OPEN or breaker.state is State.HALF_OPEN
                under_way.append((task, gate))
                probe = None if closed else task
        elif under_way:
            task, gate = under_way.pop(0)
            _end(str(step), task, gate)
            await asyncio.wait({task}, timeout=5)
        under_way = [(task, gate) for task, gate in under_way if not task.done()]
        if breaker.state is State.CLOSED:
            probe = None
    for task, _ in under_way:
        task.cancel()
    await asyncio.gather(*(task for task, _ in under_way), return_exceptions=True)


def _waiting(gate: "asyncio.Future[str]") -> Callable[[], Coroutine[Any, Any, str]]:
    async def wait() -> str:
        return await gate

    return wait


def _end(step: str, task: "asyncio.Task[Any]", gate: "asyncio.Future[str]") -> None:
    if step == "cancel":
        task.cancel()
    elif step == "fail":
        gate.set_exception(AwayError())
    else:
        gate.set_result("answer")


async def test_through_a_breaker_a_port_keeps_its_methods_and_arguments(breaker: CircuitBreaker) -> None:
    class Port:
        async def ask(self, what: str, *, how: str) -> str:
            return f"{what} {how}"

    port = through(Port(), breaker.call)

    assert await port.ask("a", how="b") == "a b"
    await opened(breaker)
    with pytest.raises(CircuitOpenError):
        await port.ask("a", how="b")
