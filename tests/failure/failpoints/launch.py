"""Run one of our processes with its failpoints: `python -m tests.failure.failpoints.launch workers.main order_writer`.

The adapters' methods are wrapped, then the process runs as it always does. A failpoint is armed by a file of its name
in FAILPOINTS_DIR; whoever reaches it first renames the file to NAME.reached and ends by SIGKILL: nothing is flushed,
closed or handed back. If the file says SIGSTOP, it stands still there until somebody lets it go on.
With DEAD_AFTER_MS a group gives the partitions of a dead member away that soon, not after 6 s.
"""

# pyright: reportMissingTypeStubs=false
# (aiokafka carries no types)

import asyncio
import functools
import inspect
import os
import runpy
import signal
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from aiokafka import AIOKafkaConsumer
from sqlalchemy import event
from sqlalchemy.engine import Engine

from tests.failure.failpoints.table import DATABASE_COMMIT, FAILPOINTS, Failpoint, reached_file

Method = Callable[..., Any]


class Trap:
    """The failpoints of one process around its adapters."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._hits = Counter[str]()

    def set(self, points: list[Failpoint]) -> None:
        """Wrap each adapter's method once, whatever number of failpoints it has."""
        of_adapter: dict[str, list[Failpoint]] = defaultdict(list)
        for point in points:
            of_adapter[point.adapter].append(point)
        for adapter, at in of_adapter.items():
            owner, _, method = adapter.rpartition(".")
            cls = resolve_name(owner)
            wrap = self._around_commit if adapter == DATABASE_COMMIT else self._around
            setattr(cls, method, wrap(getattr(cls, method), at))

    def _around(self, method: Method, points: list[Failpoint]) -> Method:
        before, after = _split(points)

        @functools.wraps(method)
        async def wrapped(*args: Any, **kwargs: Any) -> Any:
            for point in before:
                await self._pass(point)
            answer = await method(*args, **kwargs)
            for point in after:
                if answer != 0:  # the relay says 0 when there was nothing to do
                    await self._pass(point)
            return answer

        assert inspect.iscoroutinefunction(method)
        return wrapped

    def _around_commit(self, method: Method, points: list[Failpoint]) -> Method:
        before, after = _split(points)
        event.listen(Engine, "before_cursor_execute", _remember_writes)

        @functools.wraps(method)
        def wrapped(dialect: Any, connection: Any) -> None:
            wrote = connection.info.pop("wrote", False)
            for point in before if wrote else ():
                _strike(self._reached(point))
            method(dialect, connection)
            for point in after if wrote else ():
                _strike(self._reached(point))

        return wrapped

    async def _pass(self, point: Failpoint) -> None:
        if wanted := self._reached(point):
            await asyncio.sleep(point.linger_s)
            _strike(wanted)

    def _reached(self, point: Failpoint) -> signal.Signals | None:
        """The signal that is wanted here and now."""
        armed = self._folder / point.name
        if not armed.exists():
            return None
        self._hits[point.name] += 1
        if self._hits[point.name] < point.hit:
            return None
        with suppress(FileNotFoundError):  # another process of this name was first
            armed.rename(reached_file(armed))
            del self._hits[point.name]
            return signal.Signals[reached_file(armed).read_text() or "SIGKILL"]
        return None


def _strike(wanted: signal.Signals | None) -> None:
    if wanted is not None:
        os.kill(os.getpid(), wanted)


def _split(points: list[Failpoint]) -> tuple[list[Failpoint], list[Failpoint]]:
    return [p for p in points if p.when == "before"], [p for p in points if p.when == "after"]


def _remember_writes(connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
    if any(word in statement for word in ("INSERT", "UPDATE", "DELETE")) and "FOR UPDATE" not in statement:
        connection.info["wrote"] = True


def _give_away_after(dead_ms: int) -> None:
    consumer: Any = AIOKafkaConsumer
    initialize = consumer.__init__

    def wrapped(self: Any, *topics: str, **settings: Any) -> None:
        initialize(self, *topics, **settings | {"session_timeout_ms": dead_ms, "heartbeat_interval_ms": dead_ms // 4})

    consumer.__init__ = wrapped


def main() -> None:
    module, *arguments = sys.argv[1:]
    process = (arguments or [module.partition(".")[0]])[0]
    if dead_after_ms := os.environ.get("DEAD_AFTER_MS"):
        _give_away_after(int(dead_after_ms))
    Trap(Path(os.environ["FAILPOINTS_DIR"])).set([point for point in FAILPOINTS if point.process == process])
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
