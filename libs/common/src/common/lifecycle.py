"""The life of a process: read the settings, run until SIGTERM, SIGINT or too much memory, exit 0.

Rule: each of them only sets an event. Whoever runs looks at it, finishes what it holds, commits, closes.
"""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import NoReturn, TypeVar

import uvloop
from pydantic import ValidationError
from pydantic_settings import BaseSettings

from common.errors import HeadraceError
from common.memory import recycle

SettingsT = TypeVar("SettingsT", bound=BaseSettings)


def load_settings(settings_class: type[SettingsT]) -> SettingsT:
    """Build the settings from the environment, or exit 2 with a line for each that is missing or wrong."""
    try:
        return settings_class()
    except ValidationError as error:
        for problem in error.errors(include_url=False, include_input=False):
            name = str(problem["loc"][0])
            prefix = "" if name.isupper() else settings_class.model_config.get("env_prefix", "")
            sys.stderr.write(f"setting {prefix}{name.upper()}: {problem['msg']}\n")
        raise SystemExit(2) from None


def run(main: Callable[[asyncio.Event], Awaitable[None]], *, soft_limit: int | None = None) -> NoReturn:
    """Run `main(stop)` on a new event loop; `stop` is set by SIGTERM and SIGINT, and near `soft_limit` bytes of memory
    (common.memory). Exits 0 when it returns, 1 with one line when it raises a HeadraceError."""

    async def until_stopped() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        async with asyncio.TaskGroup() as beside:
            if soft_limit is not None:
                beside.create_task(recycle(stop, soft_limit))
            await main(stop)
            stop.set()

    try:
        uvloop.run(until_stopped())
    except* HeadraceError as errors:
        for error in _leaves(errors):
            sys.stderr.write(f"stopped: {error}\n")
        raise SystemExit(1) from None
    raise SystemExit(0)


def _leaves(group: BaseExceptionGroup[HeadraceError]) -> Iterator[BaseException]:
    """The errors themselves: each TaskGroup on their way put one more group around them."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
