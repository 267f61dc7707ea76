"""`python -m workers.redrive` as a person meets it: exit codes, one line that says why, never a traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from local_stack.servers import Addresses


def redrive(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "workers.redrive", *arguments]
    env = {"PATH": os.defpath, "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", **environment}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "nonsense",
        "list",
        "list nonsense",
        "show",
        "show orders.commands",
        "show orders.commands/0/x",
        "show nonsense/0/0",
        "edit 7",
        "replay",
        "replay orders.commands/0/0 --all orders.commands",
        "replay --all nonsense",
    ],
)
def test_bad_arguments_are_2_with_the_usage(arguments: str) -> None:
    refused = redrive(*arguments.split())

    assert refused.returncode == 2
    assert "usage: redrive" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_missing_setting_is_2_and_named() -> None:
    refused = redrive("list", "all", KAFKA_ENABLE_IDEMPOTENCE="perhaps")

    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "KAFKA_ENABLE_IDEMPOTENCE" in refused.stderr


@pytest.mark.parametrize("arguments", ["list all", "replay --all orders.commands"])
def test_a_broker_that_is_away_is_1_in_one_line(arguments: str) -> None:
    failed = redrive(*arguments.split())

    assert (failed.returncode, failed.stderr.count("\n")) == (1, 1)
    assert failed.stderr.startswith("redrive: cannot read")


def test_what_is_not_there_is_1_in_one_line(servers: Addresses, tmp_path: Path) -> None:
    bootstrap = servers.kafka_bootstrap_servers
    (tmp_path / "copy").write_text("{}")
    for arguments in (
        ["show", "orders.commands.dlq/0/999999"],
        ["show", "orders.commands.dlq/99/0"],
        ["replay", "payments.events/0/-1"],
        ["replay", "--edited", str(tmp_path / "nowhere")],
        ["replay", "--edited", str(tmp_path / "copy")],
    ):
        failed = redrive(*arguments, KAFKA_BOOTSTRAP_SERVERS=bootstrap, KAFKA_ENABLE_IDEMPOTENCE="false")
        assert (failed.returncode, failed.stderr.count("\n")) == (1, 1), failed.stderr
        assert failed.stderr.startswith("redrive: ")


def test_listing_nothing_is_0(servers: Addresses) -> None:
    listed = redrive("list", "catalog.items", KAFKA_BOOTSTRAP_SERVERS=servers.kafka_bootstrap_servers)

    assert (listed.returncode, listed.stderr) == (0, "")
    assert "dead letters" in listed.stdout
