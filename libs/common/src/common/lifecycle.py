"""The life of a process: read the settings, run until SIGTERM, SIGINT or too much memory, exit 0.

Rule: each of them only sets an event. Whoever runs looks at it, finishes what it holds, commits, closes; all of that
within the limits of common.shutdown. A command is run to its end instead: a signal kills it, and it may be repeated.
"""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar

import uvloop
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from common.errors import HeadraceError
from common.memory import recycle
from common.shutdown import bounded

SettingsT = TypeVar("SettingsT", bound=BaseSettings)


class DeploymentSettings(BaseSettings):
    """What every process reads. Any setting NAME may also be given as NAME_FILE: a file that holds the value."""

    model_config = SettingsConfigDict(frozen=True)

    headrace_env: Literal["development", "production"] = Field(
        "development",
        validation_alias="HEADRACE_ENV",
        description="development or production; production refuses every value that contains headrace-dev",
    )


DEVELOPMENT_MARK = "headrace-dev"  # in the passwords and the issuer that everybody knows


def load_settings(settings_class: type[SettingsT]) -> SettingsT:
    """Build the settings from the environment, or exit 2 with a line for each that is missing or wrong.

    A setting NAME may be given as NAME_FILE. In production a value made for development is wrong.
    """
    deployment = _validated(DeploymentSettings)
    settings = _validated(settings_class)
    if deployment.headrace_env == "production":
        _refuse([f"setting {name}: made for development only" for name in _development_values(settings)])
    return settings


def _validated(settings_class: type[SettingsT]) -> SettingsT:
    try:
        return settings_class(**_from_files(settings_class))
    except ValidationError as error:
        prefix = settings_class.model_config.get("env_prefix", "")
        problems: list[str] = []
        for problem in error.errors(include_url=False, include_input=False):
            name = str(problem["loc"][0])
            problems.append(f"setting {'' if name.isupper() else prefix}{name.upper()}: {problem['msg']}")
        _refuse(problems)
        raise AssertionError from error  # not reached: there was a problem


def _from_files(settings_class: type[BaseSettings]) -> dict[str, Any]:
    """The values of the settings that are given as NAME_FILE, under the names that the class takes."""
    values: dict[str, Any] = {}
    for field, info in settings_class.model_fields.items():
        name = setting_name(settings_class, field)
        file = os.environ.get(f"{name}_FILE")
        if file is None:
            continue
        if name in os.environ:
            _refuse([f"setting {name}: both {name} and {name}_FILE are set"])
        try:
            values[str(info.validation_alias or field)] = Path(file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            _refuse([f"setting {name}_FILE: {error}"])
    return values


def setting_name(settings_class: type[BaseSettings], field: str) -> str:
    """The name of a field in the environment."""
    prefix = settings_class.model_config.get("env_prefix", "")
    return str(settings_class.model_fields[field].validation_alias or f"{prefix}{field}").upper()


def _development_values(settings: BaseSettings) -> Iterator[str]:
    for field in type(settings).model_fields:
        value = getattr(settings, field)
        if DEVELOPMENT_MARK in str(value.get_secret_value() if isinstance(value, SecretStr) else value):
            yield setting_name(type(settings), field)


def _refuse(problems: list[str]) -> None:
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    if problems:
        raise SystemExit(2)


def run(main: Callable[[asyncio.Event], Coroutine[Any, Any, None]], *, soft_limit: int | None = None) -> NoReturn:
    """Run `main(stop)` on a new event loop; `stop` is set by SIGTERM and SIGINT, and near `soft_limit` bytes of memory
    (common.memory). Exits 0 when it returns, or did not return in time after `stop` (common.shutdown); 1 with one line
    when it raises a HeadraceError."""

    async def until_stopped() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        async with asyncio.TaskGroup() as beside:
            if soft_limit is not None:
                beside.create_task(recycle(stop, soft_limit))
            await bounded(main(stop), stop)
            stop.set()

    spare_the_garbage_collector()
    run_to_end(until_stopped())


def run_to_end(command: Coroutine[Any, Any, None]) -> NoReturn:
    """Run it on a new event loop. Exits 0 when it returns, 1 with one line when it raises a HeadraceError."""
    try:
        uvloop.run(command)
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
