"""The books of a whole stack agree, whatever happens to the payment provider or to our own processes."""

import asyncio
import os
import signal

import pytest
from sqlalchemy import text

from common.lifecycle import load_settings
from common.postgres import create_engine, transaction
from demo.read_books import read_books
from demo.reconcile import Report, reconcile
from demo.replay import replay
from demo.settings import BooksSettings, ReplaySettings
from e2e.conftest import ORDERS, ORDERS_FILE, RunningStack, provider
from eventually import eventually

pytestmark = pytest.mark.timeout(240)
KILLED = ("order_writer", "saga_runner", "inventory", "payments", "outbox_relay", "orders", "gateway-1", "gateway-2")


@pytest.fixture(autouse=True)
def _addresses(stack: RunningStack, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in stack.env.items():
        monkeypatch.setenv(name, value)


async def test_a_declined_payment_gives_the_stock_back(stack: RunningStack) -> None:
    async with provider(stack, decline_percent=30):
        accepted = await send(stack, 500)

    report = await books(stack)
    assert accepted == 500
    assert (report.figures.rejected or 0) > 50
    assert report.differences == []


async def test_a_provider_that_loses_replies_charges_nobody_twice(stack: RunningStack) -> None:
    async with provider(stack, lost_reply_rate=0.2, error_rate=0.1):
        await send(stack, 1_000)

    report = await books(stack)
    assert report.figures.doubled == 0
    assert report.differences == []


async def test_every_process_killed_during_a_replay_loses_and_doubles_nothing(stack: RunningStack) -> None:
    async with asyncio.TaskGroup() as tasks:
        replaying = tasks.create_task(send(stack, ORDERS, orders_per_second=250))
        await eventually(lambda: has_stored(stack, 1_200), within=60)  # the first 1,000 were there before
        for name in KILLED:
            await kill(stack, name)
        assert not replaying.done()

    report = await books(stack)
    assert replaying.result() == ORDERS
    assert (report.figures.missing, report.figures.doubled) == (0, 0)
    assert report.differences == []


async def kill(stack: RunningStack, name: str) -> None:
    """kill -9, and wait until the supervisor has started it again."""
    pids: dict[str, int] = {}

    async def runs() -> bool:
        pids.update(await asyncio.to_thread(stack.pids))
        return name in pids

    async def runs_again() -> bool:
        return (await asyncio.to_thread(stack.pids)).get(name, killed) != killed

    await eventually(runs, within=60)
    killed = pids[name]
    os.kill(killed, signal.SIGKILL)
    await eventually(runs_again, within=60)


async def has_stored(stack: RunningStack, orders: int) -> bool:
    engine = create_engine(stack.env["DATABASE_URL"], application_name="test")
    async with transaction(engine) as connection:
        stored = (await connection.execute(text("SELECT count(*) FROM orders.orders"))).scalar_one()
    await engine.dispose()
    return stored >= orders


async def send(stack: RunningStack, limit: int, orders_per_second: float | None = None) -> int:
    """Replay the first orders of the file; answer how many were accepted. All of them are final then."""
    summary = await replay(
        load_settings(ReplaySettings),
        ORDERS_FILE,
        journal_dir=stack.run_dir / "replay",
        limit=limit,
        orders_per_second=orders_per_second,
    )
    assert not summary.rest, summary.rest
    return summary.totals.accepted


async def books(stack: RunningStack) -> Report:
    return reconcile(await read_books(load_settings(BooksSettings), stack.run_dir / "replay"), alone=True)
