"""How a process starts and ends, seen from outside: exit codes and what it says on stderr."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

MINIMAL = {"PATH": os.defpath}
WORKERS_NEED = {"WORKERS_PAYMENT_PROVIDER_URL", "KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL", "REDIS_URL"}


def python(*arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    coverage = {name: value for name, value in os.environ.items() if name.startswith("COV")}
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=MINIMAL | coverage | settings, timeout=30)


def program(body: str) -> list[str]:
    indented = "\n".join(f"    {line}" for line in body.strip().splitlines())
    return [
        "-c",
        f"import asyncio, os, signal\nfrom common.errors import *\nfrom common.lifecycle import run\n"
        f"async def main(stop):\n{indented}\nrun(main)\n",
    ]


@pytest.mark.parametrize(
    ("module", "missing"),
    [
        (["workers.main", "inventory"], WORKERS_NEED),
        (["workers.migrate"], {"KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL"}),
        (["orders.main"], {"DATABASE_URL", "REDIS_URL"}),
    ],
)
def test_every_missing_setting_is_named_on_a_line_of_its_own_and_the_exit_code_is_2(
    module: list[str], missing: set[str]
) -> None:
    result = python("-m", *module)

    assert result.returncode == 2
    assert {line.split()[1].rstrip(":") for line in result.stderr.splitlines()} == missing


def test_a_wrong_setting_is_named_and_its_value_is_not_shown() -> None:
    result = python(
        "-m",
        "workers.main",
        "payments",
        KAFKA_BOOTSTRAP_SERVERS="x:1",
        DATABASE_URL="postgresql://u:secret@h/d",
        REDIS_URL="redis://h",
        WORKERS_PAYMENT_PROVIDER_URL="http://x",
        WORKERS_PAYMENT_PROVIDER_TIMEOUT_S="secret",
        ADMIN_PORT="secret",
    )

    assert result.returncode == 2
    named = {line.split()[1].rstrip(":") for line in result.stderr.splitlines()}
    assert named == {"WORKERS_PAYMENT_PROVIDER_TIMEOUT_S", "ADMIN_PORT"}
    assert "secret" not in result.stderr


def test_an_unknown_worker_is_refused_with_the_names_that_exist() -> None:
    result = python("-m", "workers.main", "inventory", "barista")

    assert result.returncode == 2
    assert "order_writer" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_sets_stop_and_the_process_exits_0(number: signal.Signals) -> None:
    result = python(*program(f"os.kill(os.getpid(), {int(number)})\nawait stop.wait()\nprint('closed')"))

    assert (result.returncode, result.stdout, result.stderr) == (0, "closed\n", "")


RAISE = "raise InfrastructureError('the broker is away')"
IN_A_GROUP = f"""
async def fail(): {RAISE}
async with asyncio.TaskGroup() as tasks:
    tasks.create_task(fail())
"""
IN_TWO_GROUPS = f"""
async def fail(): {RAISE}
async with asyncio.TaskGroup(), asyncio.TaskGroup() as tasks:
    tasks.create_task(fail())
"""


@pytest.mark.parametrize("body", [RAISE, IN_A_GROUP, IN_TWO_GROUPS], ids=["plain", "in a group", "in two groups"])
def test_an_error_of_ours_ends_the_process_with_one_line_and_exit_code_1(body: str) -> None:
    result = python(*program(body))

    assert (result.returncode, result.stderr) == (1, "stopped: the broker is away\n")


def test_an_error_that_is_not_ours_shows_its_traceback() -> None:
    result = python(*program("raise KeyError('a bug')"))

    assert result.returncode == 1
    assert "Traceback" in result.stderr


def test_the_environment_is_read_on_start_and_not_on_import() -> None:
    modules = "workers.main workers.migrate workers.catalog orders.main"
    result: Any = python("-c", f"import {', '.join(modules.split())}")

    assert (result.returncode, result.stderr) == (0, "")


SHOW_ADDRESS = """
from common.lifecycle import load_settings
from orders.settings import OrdersSettings
print(load_settings(OrdersSettings).database_url.get_secret_value())
"""
IN_REDIS = {"REDIS_URL": "redis://h"}


def test_a_setting_may_be_given_as_a_file_and_its_last_newline_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("postgresql://u:p@h/d\n")

    result = python("-c", SHOW_ADDRESS, **IN_REDIS, DATABASE_URL_FILE=str(tmp_path / "url"))

    assert (result.returncode, result.stdout) == (0, "postgresql://u:p@h/d\n")


def test_a_setting_given_twice_or_by_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")

    twice = python("-c", SHOW_ADDRESS, **IN_REDIS, DATABASE_URL="postgresql://u:secret@h/d", DATABASE_URL_FILE=missing)
    unread = python("-c", SHOW_ADDRESS, **IN_REDIS, DATABASE_URL_FILE=missing)

    assert (twice.returncode, unread.returncode) == (2, 2)
    assert twice.stderr == "setting DATABASE_URL: both DATABASE_URL and DATABASE_URL_FILE are set\n"
    assert unread.stderr.startswith("setting DATABASE_URL_FILE: ")


def test_production_refuses_what_was_made_for_development_and_does_not_show_it() -> None:
    known = "postgresql://headrace:headrace-dev@h/d"

    refused = python("-c", SHOW_ADDRESS, **IN_REDIS, DATABASE_URL=known, HEADRACE_ENV="production")
    taken = python("-c", SHOW_ADDRESS, **IN_REDIS, DATABASE_URL=known)
    misspelt = python("-c", SHOW_ADDRESS, **IN_REDIS, DATABASE_URL=known, HEADRACE_ENV="prod")

    assert (refused.returncode, refused.stderr) == (2, "setting DATABASE_URL: made for development only\n")
    assert taken.returncode == 0
    assert misspelt.returncode == 2
    assert misspelt.stderr.startswith("setting HEADRACE_ENV: ")
