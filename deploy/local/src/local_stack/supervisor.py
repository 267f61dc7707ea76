"""The supervisor: start processes stage by stage, restart what dies, stop everything in reverse.

Rule: a stage starts when every process of the one before is ready by its own check (a one-shot: has ended with 0).
A process that dies before it was ever ready is a failure of the stack; later it is started again after 0.2 s, doubling
to 5 s, and from 0.2 s again once it has lived for 10 s. The death of one that cannot be restarted ends the stack.
Guarantee: when `supervised` is left, by whatever way, no process that it started runs any more.
Limits: a process that hangs is not restarted, only one that ends. After a kill -9 of the supervisor see `record`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

from local_stack import record
from local_stack.network import NotReadyError
from local_stack.process import Process, Spec, State

log = logging.getLogger("local_stack")

READY_WITHIN_S = 60
BACKOFF_BASE_S, BACKOFF_CAP_S, HEALTHY_AFTER_S = 0.2, 5.0, 10.0


class StackFailedError(Exception):
    """The stack cannot go on; the message names the process and shows the end of its log."""


@asynccontextmanager
async def supervised(run_dir: Path, stages: Sequence[Sequence[Spec]]) -> AsyncGenerator[Supervisor]:
    """All processes run and are ready inside; raises `StackFailedError`, also in the middle of the block."""
    supervisor = Supervisor(run_dir, stages)
    try:
        async with asyncio.TaskGroup() as watchers:
            try:
                for stage in supervisor.stages:
                    await supervisor.start(stage, watchers)
                supervisor.enter("running")
                yield supervisor
            finally:
                await supervisor.stop()
    except BaseExceptionGroup as group:
        cause = _first_cause(group)
        if isinstance(cause, StackFailedError):
            supervisor.enter("failed", str(cause))
        raise cause from None


class Supervisor:
    def __init__(self, run_dir: Path, stages: Sequence[Sequence[Spec]]) -> None:
        logs = run_dir / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        self.stages = [[Process(spec, logs / f"{spec.name}.log") for spec in stage] for stage in stages]
        self.processes = {process.spec.name: process for stage in self.stages for process in stage}
        self._run_dir = run_dir
        self._me = record.Identity.of(os.getpid())
        self._stopping = asyncio.Event()
        self.enter("starting")

    def enter(self, phase: str, message: str = "") -> None:
        self._phase, self._message = phase, message
        self._save()

    async def start(self, stage: list[Process], watchers: asyncio.TaskGroup) -> None:
        """Start the processes of a stage side by side; returns when all are ready."""
        async with asyncio.TaskGroup() as starts:
            for process in stage:
                starts.create_task(self._start(process))
        for process in stage:
            if process.state is State.RUNNING:
                watchers.create_task(self._watch(process))

    async def stop(self) -> None:
        """Stage by stage in reverse: each gets its signal, then its time, then SIGKILL."""
        self._stopping.set()
        self.enter("stopping")
        try:
            for stage in reversed(self.stages):
                async with asyncio.TaskGroup() as stops:
                    for process in reversed(stage):
                        stops.create_task(process.stop())
        finally:
            for process in self.processes.values():
                process.kill()  # only if we were cancelled while we stopped
        self.enter("stopped")
        log.info("everything is stopped")

    async def _start(self, process: Process) -> None:
        name, begin = process.spec.name, time.monotonic()
        await self._spawn(process)
        if process.spec.check is None:
            how = await process.ended()
            if how != "exit code 0":
                raise StackFailedError(f"{name} ended with {how}:\n{process.last_lines()}")
            process.enter(State.DONE)
        else:
            await self._first_readiness(process)
        log.info("%s %s after %.1f s", name, process.state, time.monotonic() - begin)
        self._save()

    async def _spawn(self, process: Process) -> None:
        try:
            await process.spawn()
        except OSError as error:
            raise StackFailedError(f"{process.spec.name} cannot be started: {error}") from error
        self._save()

    async def _first_readiness(self, process: Process) -> None:
        name = process.spec.name
        try:
            async with asyncio.timeout(READY_WITHIN_S):
                reason = await self._ready(process)
        except TimeoutError:
            reason = f"was not ready within {READY_WITHIN_S} s ({process.not_ready})"
        if reason:
            raise StackFailedError(f"{name} {reason}:\n{process.last_lines()}")

    async def _ready(self, process: Process) -> str:
        """Wait until it is ready; returns the reason if it ended before."""
        check = process.spec.check
        while check and process.alive:
            try:
                await check()
            except NotReadyError as error:
                process.not_ready = str(error)
                await asyncio.sleep(0.03)
            else:
                process.enter(State.RUNNING)
                self._save()
                return ""
        return f"ended with {await process.ended()} before it was ready"

    async def _watch(self, process: Process) -> None:
        delay_s = BACKOFF_BASE_S
        while True:
            begin = time.monotonic()
            how = await process.ended()
            if self._stopping.is_set():
                return
            if not process.spec.restarts:
                raise StackFailedError(f"{process.spec.name} ended with {how}. {process.spec.why_fatal}")
            if time.monotonic() - begin > HEALTHY_AFTER_S:
                delay_s = BACKOFF_BASE_S
            if not await self._restart(process, how, delay_s):
                return
            delay_s = min(2 * delay_s, BACKOFF_CAP_S)

    async def _restart(self, process: Process, how: str, delay_s: float) -> bool:
        """False when the stack stops meanwhile."""
        process.restarts += 1
        process.enter(State.RESTARTING)
        self._save()
        log.warning("%s ended with %s; restart %d in %.1f s", process.spec.name, how, process.restarts, delay_s)
        try:
            async with asyncio.timeout(delay_s):
                await self._stopping.wait()
            return False
        except TimeoutError:
            pass
        await self._spawn(process)
        if self._stopping.is_set():  # it came while we spawned, and found nothing to stop
            await process.stop()
            return False
        if not await self._ready(process):
            log.info("%s runs again, pid %s", process.spec.name, process.pid)
        return True

    def _save(self) -> None:
        rows = [
            record.Row(p.spec.name, p.identity, p.state, p.restarts, p.since, p.spec.address, str(p.log))
            for p in self.processes.values()
        ]
        try:
            record.write(self._run_dir, record.Record(self._me, self._phase, self._message, rows))
        except OSError as error:  # a full disk, a removed folder: `status` suffers, the processes must not
            log.warning("cannot write the record: %s", error)


def _first_cause(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    return error
