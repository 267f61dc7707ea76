"""Servers that outlive a test: they live in the loop of a thread of their own, because each test has its own loop."""

import asyncio
import queue
import threading
from collections.abc import Callable, Generator
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def in_a_thread(running: Callable[[Path], AbstractAsyncContextManager[T]]) -> Generator[T]:
    """What `running` yields, for as long as the block runs; it gets a folder of its own."""
    ready: queue.Queue[T | BaseException] = queue.Queue()
    loop_and_stop: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve(run_dir: Path) -> None:
        stop = asyncio.Event()
        loop_and_stop.append((asyncio.get_running_loop(), stop))
        async with running(run_dir) as running_now:
            ready.put(running_now)
            await stop.wait()

    def run(run_dir: Path) -> None:
        try:
            asyncio.run(serve(run_dir))
        except BaseException as error:
            ready.put(error)
            raise

    with TemporaryDirectory() as folder:  # not below pytest's own folder: that is 0700, and Postgres is not root
        thread = threading.Thread(target=run, args=(Path(folder),), daemon=True)
        thread.start()
        answer = ready.get(timeout=45)
        if isinstance(answer, BaseException):
            raise answer
        yield answer
        loop, stop = loop_and_stop[0]
        loop.call_soon_threadsafe(stop.set)
        thread.join(timeout=30)
