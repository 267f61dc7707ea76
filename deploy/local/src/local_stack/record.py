"""What runs, on disk: `processes.json` in the run directory, for `status`, `down` and whoever comes after a crash.

Rule: a process is known by pid and start time together, so a pid that now belongs to somebody else gets no signal.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

PHASES_ALIVE = ("starting", "running", "stopping")


@dataclass(frozen=True, slots=True)
class Identity:
    """A process as the system knows it; `started` in seconds since 1970."""

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> Identity:
        try:
            return cls(pid, psutil.Process(pid).create_time())
        except psutil.NoSuchProcess:
            return cls(pid, time.time())

    def alive(self) -> bool:
        try:
            process = psutil.Process(self.pid)
            return abs(process.create_time() - self.started) < 1 and _runs(process)
        except psutil.NoSuchProcess:
            return False


@dataclass(frozen=True, slots=True)
class Row:
    """One process of the stack. `since`: when it entered its state, in seconds since 1970."""

    name: str
    identity: Identity | None
    state: str
    restarts: int
    since: float
    address: str
    log: str


@dataclass(frozen=True, slots=True)
class Record:
    supervisor: Identity
    phase: str  # starting, running, stopping, stopped, failed
    message: str  # why it failed
    rows: list[Row]

    def alive(self) -> bool:
        return self.phase in PHASES_ALIVE and self.supervisor.alive()


class AlreadyRunningError(Exception):
    """Another supervisor holds this run directory."""


@contextmanager
def claimed(run_dir: Path) -> Generator[Path]:
    """One supervisor at a time: the kernel frees the lock however its holder ends. What a killed one left is stopped.

    Yields the absolute path.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / "supervisor.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AlreadyRunningError(f"a stack already runs in {run_dir}") from error
        stop_leftovers(run_dir)
        yield run_dir.resolve()


def write(run_dir: Path, record: Record) -> None:
    write_atomically(run_dir / "processes.json", json.dumps(asdict(record), indent=1))


def write_atomically(path: Path, text: str) -> None:
    """A reader sees the old text or the new, never half of it."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_text(text)
    scratch.replace(path)


def read(run_dir: Path) -> Record | None:
    """The last record, also of a supervisor that is gone; None when there is none."""
    try:
        found = json.loads((run_dir / "processes.json").read_text())
    except FileNotFoundError:
        return None
    rows = [_row(**row) for row in found["rows"]]
    return Record(Identity(**found["supervisor"]), found["phase"], found["message"], rows)


def stop_leftovers(run_dir: Path) -> list[str]:
    """Kill what a supervisor that was killed left behind, and forget its record; the names of what was found."""
    record = read(run_dir)
    if record is None:
        return []
    found = {row.name: _family(row.identity) for row in record.rows if row.identity}
    family = [process for members in found.values() for process in members]
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    for process in _still_there(family, within_s=5):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    _still_there(family, within_s=5)
    for name in ("processes.json", "stack.env"):
        (run_dir / name).unlink(missing_ok=True)
    return [name for name, members in found.items() if members]


def _family(leader: Identity) -> list[psutil.Process]:
    """The process and the rest of its group (each child leads a group of its own), which may have outlived it."""
    if psutil.pid_exists(leader.pid) and not leader.alive():
        return []  # the number belongs to somebody else now
    family: list[psutil.Process] = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getpgid(process.pid) == leader.pid and _runs(process):
                family.append(process)
    return family


def _still_there(family: list[psutil.Process], within_s: float) -> list[psutil.Process]:
    deadline = time.monotonic() + within_s
    while (left := [process for process in family if _runs(process)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left


def _runs(process: psutil.Process) -> bool:
    """Not so a zombie: it has ended, and only its parent has not noticed."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _row(*, identity: dict[str, Any] | None, **rest: Any) -> Row:
    return Row(identity=Identity(**identity) if identity else None, **rest)
