"""Shutdown: one deadline for everything, a limit for each step on the way, exit 0.

Problem: a process that is told to stop has work under way, and each thing that it waits for may be frozen. Who waits
for ever, or for the sum of all time-outs, is killed in the middle of whatever it does.
Rule: the clock of 25 s starts when `stop` is set. Work under way may finish within its own limit (`finish`); every step
of closing has its own (`step`); none gets more than what is left of the whole. What is not done by then is abandoned.
Guarantees: exit 0 within 25 s, also when broker, database, cache and collector are all frozen. The log names each step
that did not end. Whoever kills should wait 30 s.
Limits: what is abandoned was not done, or nobody knows: redelivery and the inbox settle it, as after a crash. Code that
blocks the event loop, or swallows its cancellation, is not bounded.
Source: Candea and Fox, "Crash-only software", 2003; the termination of pods in Kubernetes.
"""

import asyncio
import math
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, cast

import structlog

from common.errors import InfrastructureError

log = structlog.get_logger()

EXIT_WITHIN_S = 25.0
UNWIND_S = 3.0  # of it: after the deadline of the steps, for cancelling what they leave and the end of the interpreter
_UNNAMED_S = 0.5  # of that: for the way out through the steps that are left; then what is in no step is cancelled too


class Deadline:
    """The moment, in time of the loop, at which everything is abandoned; not known before `stop` is set."""

    def __init__(self) -> None:
        self.moment = math.inf


_deadline: ContextVar[Deadline | None] = ContextVar("shutdown_deadline", default=None)


async def bounded(main: Coroutine[Any, Any, None], stop: asyncio.Event, *, within_s: float = EXIT_WITHIN_S) -> None:
    """Await `main`; once `stop` is set it has `within_s`, less what it takes to unwind, and then it is abandoned.

    Raises what `main` raises, but not for what is abandoned, and not that infrastructure is away once `stop` is set.
    """
    deadline = Deadline()
    _deadline.set(deadline)

    async def begin() -> None:
        await stop.wait()
        deadline.moment = asyncio.get_running_loop().time() + within_s - UNWIND_S
        whole.reschedule(deadline.moment + _UNNAMED_S)

    whole = asyncio.timeout(None)
    try:
        async with whole, asyncio.TaskGroup() as tasks:
            beginning = tasks.create_task(begin())
            await main
            beginning.cancel()
    except Exception as error:
        if not whole.expired() and not (stop.is_set() and _away(error)):
            raise
        # what is abandoned may fail in any way, and nobody is left who could do something about it
        log.warning("shutdown_abandoned", error=repr(error))


def _away(error: Exception) -> bool:
    if isinstance(error, ExceptionGroup):
        return all(_away(each) for each in cast("ExceptionGroup[Exception]", error).exceptions)
    return isinstance(error, InfrastructureError)


@asynccontextmanager
async def step(name: str, within_s: float) -> AsyncGenerator[None]:
    """A step of closing: the block is cancelled after `within_s`, or at the deadline of the process, and the way out
    goes on behind it."""
    limit = asyncio.timeout(remaining(within_s))
    try:
        async with limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise
        log.warning("shutdown_step_abandoned", step=name, within_s=round(within_s, 2))


def remaining(within_s: float) -> float:
    """`within_s`, or what is left until the deadline of the process if that is less."""
    deadline = _deadline.get()
    if deadline is None:
        return within_s
    return max(0.0, min(within_s, deadline.moment - asyncio.get_running_loop().time()))


async def finish(work: Coroutine[Any, Any, None], stop: asyncio.Event, name: str, within_s: float) -> None:
    """Run `work` to its end; once `stop` is set it has `within_s` to come there by itself, then it is cancelled."""
    async with asyncio.TaskGroup() as tasks:
        working = tasks.create_task(work)
        stopping = tasks.create_task(stop.wait())
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        async with step(name, within_s):
            await asyncio.wait({working})
        working.cancel()
        stopping.cancel()
