"""One child process: how to start it, what state it is in, how to end it with everything it started."""

from __future__ import annotations

import asyncio
import ctypes
import os
import pwd
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from local_stack.network import Check
from local_stack.record import Identity


class State(StrEnum):
    WAITING = "waiting"  # not started yet
    STARTING = "starting"  # runs, not ready yet
    RUNNING = "running"  # was ready
    RESTARTING = "restarting"  # died, waits for its next start
    DONE = "done"  # a one-shot that ended well
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """One line of the process table. `env` is the child's whole environment."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    check: Check | None = None  # None: a one-shot, which must end with exit code 0
    address: str = ""
    user: str | None = None  # run as this user
    inherits: Sequence[int] = ()  # file descriptors handed down
    stop_signal: signal.Signals = signal.SIGTERM
    stop_within_s: float = 30  # a service of ours ends within 25 s
    restarts: bool = True  # False: its death ends the whole stack
    why_fatal: str = ""  # the sentence to tell then


class Process:
    """A child of this process, in a session of its own: a Ctrl-C in the terminal reaches the supervisor only."""

    def __init__(self, spec: Spec, log: Path) -> None:
        self.spec = spec
        self.log = log
        self.state = State.WAITING
        self.restarts = 0
        self.since = time.time()
        self.not_ready = ""  # what the last check said
        self.identity: Identity | None = None
        self._child: asyncio.subprocess.Process | None = None

    async def spawn(self) -> None:
        runs_as = pwd.getpwnam(self.spec.user) if self.spec.user else None
        with self.log.open("ab") as log:
            self._child = await asyncio.create_subprocess_exec(
                *self.spec.argv,
                env=self.spec.env,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=self.spec.inherits,
                start_new_session=True,
                preexec_fn=_die_with_parent(self.spec.stop_signal),
                user=runs_as and runs_as.pw_uid,
                group=runs_as and runs_as.pw_gid,
                extra_groups=[] if runs_as else None,
            )
        self.identity = Identity.of(self._child.pid)
        self.enter(State.STARTING)

    def enter(self, state: State) -> None:
        self.state, self.since = state, time.time()

    @property
    def pid(self) -> int | None:
        """None when it does not run."""
        return self._child.pid if self._child and self._child.returncode is None else None

    @property
    def alive(self) -> bool:
        return self.pid is not None

    async def ended(self) -> str:
        """Wait for its end, end also what it left behind, and say how it went: `exit code 0`, `signal SIGKILL`."""
        if self._child is None:
            return "not started"
        code = await self._child.wait()
        self._kill_group()  # e.g. the workers of a process pool whose owner was killed
        return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"

    async def stop(self) -> None:
        """Ask it to end; after its time is over, kill it. Once stopped, a second call does nothing."""
        if self.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, self.spec.stop_signal)
            try:
                async with asyncio.timeout(self.spec.stop_within_s):
                    await self.ended()
            except TimeoutError:
                self.kill()
                await self.ended()
        if self.state is not State.DONE:
            self.enter(State.STOPPED)

    def kill(self) -> None:
        if self.alive:
            self._kill_group()

    def last_lines(self, count: int = 15) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-count:]
        return "\n".join(f"    {line}" for line in lines) or "    (its log is empty)"

    def _kill_group(self) -> None:
        if self._child is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child.pid, signal.SIGKILL)  # its own session, so its group has its pid


def _die_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    """On Linux the kernel signals the child when the supervisor dies, even by kill -9. Elsewhere `down` finds it."""
    if sys.platform != "linux":
        return None
    set_process_option, supervisor = ctypes.CDLL(None).prctl, os.getpid()
    set_parent_death_signal = 1  # PR_SET_PDEATHSIG of <linux/prctl.h>

    def in_the_child() -> None:
        set_process_option(set_parent_death_signal, number)
        if os.getppid() != supervisor:  # it died in between
            os.kill(os.getpid(), number)

    return in_the_child
