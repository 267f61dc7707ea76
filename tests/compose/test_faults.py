"""While real orders flow in: everything is killed, one after the other. Nothing is missing, nothing is doubled."""

import asyncio
import json
import os
import time
from pathlib import Path

import pytest

from compose.stack import ROOT, Compose, docker
from demo.read_books import read_books
from demo.reconcile import reconcile
from demo.replay import replay
from demo.settings import BooksSettings, ReplaySettings
from eventually import eventually

KILLED = tuple((os.environ.get("KILLED") or "gateway workers orders kafka postgres redis").split())
DOWN_S = 3
MOST_PER_SECOND = 300


@pytest.mark.timeout(1_800)
async def test_nothing_is_lost_or_doubled_when_everything_is_killed_in_turn(compose: Compose, tmp_path: Path) -> None:
    orders = os.environ.get("ORDERS", "5000")
    limit = None if orders == "all" else int(orders)
    killed: list[str] = []

    async def kill_in_turn() -> None:
        for service in KILLED:
            await asyncio.to_thread(kill_and_start, compose, service)
            await eventually(lambda: healthy(compose), within=120)
            killed.append(service)

    started = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        faults = tasks.create_task(kill_in_turn())
        summary = await replay(
            ReplaySettings(),  # pyright: ignore[reportCallIssue]
            ROOT / "deploy/demo/data/cdnow.csv",
            journal_dir=tmp_path,
            limit=limit,
            orders_per_second=min(MOST_PER_SECOND, (limit or 69_659) / 100),
        )
        all_answered_while_faults = not faults.done()
    report = reconcile(await read_books(BooksSettings(), tmp_path), alone=True)  # pyright: ignore[reportCallIssue]

    print(f"{summary.totals}, seen {dict(summary.seen)}, {time.monotonic() - started:.0f} s, killed {killed}")
    assert killed == list(KILLED)
    assert not all_answered_while_faults, "the replay was over before the last fault: send more orders"
    assert summary.ok, (summary.rest, summary.troubles)
    assert report.differences == []
    assert {answer for answer in summary.seen if answer.startswith("HTTP")} <= documented()


def kill_and_start(compose: Compose, service: str) -> None:
    (container, *_) = compose.containers(service)
    compose.kill(container)
    time.sleep(DOWN_S)  # an outage, not a blink
    compose.start(container)


def healthy(compose: Compose) -> bool:
    states = docker("inspect", "--format", "{{.State.Health.Status}}", *compose.containers())
    return set(states.split()) == {"healthy"}


def documented() -> set[str]:
    document = json.loads((ROOT / "docs/openapi.json").read_text(encoding="utf-8"))
    return {f"HTTP {status}" for status in document["paths"]["/v1/orders"]["post"]["responses"]}
