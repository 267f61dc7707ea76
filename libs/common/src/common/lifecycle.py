"""The life of a process: read the settings, run until SIGTERM or SIGINT, exit 0.

Rule: a signal only sets an event. Whoever runs looks at it, finishes what it holds, commits, closes.
"""

import asyncio
import gc
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import NoReturn, TypeVar

import uvloop
from pydantic import ValidationError
from pydantic_settings import BaseSettings

from common.errors import HeadraceError

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


def run(main: Callable[[asyncio.Event], Awaitable[None]]) -> NoReturn:
    """Run `main(stop)` on a new event loop; `stop` is set by SIGTERM and SIGINT. Exits 0 when it returns,
    1 with one line when it raises a HeadraceError."""

    async def until_stopped() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await main(stop)

    spare_the_garbage_collector()
    try:
        uvloop.run(until_stopped())
    except* HeadraceError as errors:
        for error in _leaves(errors):
            sys.stderr.write(f"stopped: {error}\n")
        raise SystemExit(1) from None
    raise SystemExit(0)


def spare_the_garbage_collector() -> None:
    """Leave what lives now out of all future collections, and collect less often.

    Call it when what will live for long is there: the modules, a catalog. Walking through it again and again was the
    largest single cost of accepting an order (measured). Reference counting frees what requests leave behind; only
    cycles wait for the collector.
    Source: `gc.freeze`; "Dismissing Python Garbage Collection at Instagram", 2017.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def _leaves(group: BaseExceptionGroup[HeadraceError]) -> Iterator[BaseException]:
    """The errors themselves: each TaskGroup on their way put one more group around them."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
