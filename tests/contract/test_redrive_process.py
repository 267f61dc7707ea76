"""`python -m workers.redrive` as a person meets it: exit codes, one line that says why, never a traceback."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest

from common.kafka.publisher import Outcome, Publisher
from common.records import OutgoingRecord
from integration.core.broker import read_all
from local_stack.servers import Addresses
from workers.dead_letters import EditedCopy


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
    assert "dead letter" in listed.stdout


async def test_the_editor_gets_the_body_and_a_copy_is_never_overwritten(
    servers: Addresses, publisher: Publisher, tmp_path: Path
) -> None:
    order_id = str(uuid4())
    headers = [("twice", b"1"), ("twice", None), ("dlq-cause", b"because")]
    letter = OutgoingRecord("orders.events.dlq", b"wrong key", b'{"type":"Broken"}', headers)
    assert await publisher.publish([letter]) == [Outcome.ACKED]
    (found,) = [r for r in await read_all(servers.kafka_bootstrap_servers, letter.topic) if r.key == letter.key]
    body = json.dumps({"type": "OrderCancelRequested.v1", "order_id": order_id})
    editor, copy = tmp_path / "editor", tmp_path / "copy"
    editor.write_text(f"""#!/bin/sh\ngrep -q Broken "$2" && printf %s '{body}' > "$2"\n""")
    editor.chmod(0o700)
    command = ["edit", f"{found.topic}/{found.partition}/{found.offset}", "--to", str(copy)]
    environment = {"KAFKA_BOOTSTRAP_SERVERS": servers.kafka_bootstrap_servers, "EDITOR": f"{editor} -x"}

    edited = await asyncio.to_thread(redrive, *command, "--key", order_id, "--new-id", **environment)
    assert edited.returncode == 0, edited.stderr
    assert "It would die again" in edited.stdout  # a new key and a new id leave the body as it was
    again = await asyncio.to_thread(redrive, *command, **environment)
    assert (again.returncode, again.stderr) == (1, f"redrive: cannot write {copy}: File exists\n")
    copy.unlink()
    edited = await asyncio.to_thread(redrive, *command, **environment)

    assert edited.returncode == 0, edited.stderr
    kept = msgspec.json.decode(copy.read_bytes(), type=EditedCopy)
    assert (kept.value, kept.key, kept.headers) == (body.encode(), b"wrong key", headers[:2])
    nobody = await asyncio.to_thread(redrive, *command, **{**environment, "EDITOR": ""})
    assert (nobody.returncode, nobody.stderr) == (
        1,
        "redrive: say what the new body is: --body FILE, or set EDITOR\n",
    )
