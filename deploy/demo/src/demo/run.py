"""`make demo`: a stack, the real orders through its front door, and the books compared. One command, one exit code."""

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from rich.console import Console

from common.errors import InfrastructureError
from common.lifecycle import load_settings
from demo.catalog import write_catalog
from demo.read_books import read_books
from demo.reconcile import reconcile
from demo.replay import replay
from demo.report import print_report, write_json
from demo.settings import BooksSettings, ReplaySettings, add_stack_file, run_dir
from local_stack.signals import cancel_on_signal
from local_stack.stack import running_stack

ORDERS_FILE = Path("deploy/demo/data/cdnow.csv")
STACK_FILES = {"compose": Path("deploy/compose/stack.env")}
DECLINE_PERCENT = 5
CONCURRENCY = 64


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """`limit`: how many orders, None for all. `shortage`, `declines`: make some of them end in rejection."""

    stack: str
    limit: int | None
    shortage: bool
    declines: bool
    json: Path | None


async def demo(options: DemoOptions, console: Console) -> int:
    """Exit code 0 only if every order was accepted, became final, and all books agree.

    Cancelled by Ctrl-C, SIGTERM and the end of the terminal, after a clean stop.
    """
    cancel_on_signal()
    async with _stack(options, console) as folder:
        async with _declining(DECLINE_PERCENT if options.declines else 0):
            summary = await replay(
                load_settings(ReplaySettings),
                ORDERS_FILE,
                journal_dir=folder / "replay",
                limit=options.limit,
                concurrency=CONCURRENCY,
                console=console,
            )
        report = reconcile(
            await read_books(load_settings(BooksSettings), folder / "replay"), alone=options.stack == "embedded"
        )
        print_report(report, console)
        if options.json is not None:
            write_json(report, options.json)
        return 0 if summary.ok and not report.differences else 1


@asynccontextmanager
async def _stack(options: DemoOptions, console: Console) -> AsyncGenerator[Path]:
    """A stack to send to, its addresses in the environment; yields the folder for what the demo leaves behind."""
    if options.stack == "embedded":
        folder = run_dir()
        catalog = folder / "catalog.csv"
        write_catalog(ORDERS_FILE, catalog, limit=options.limit, shortage=options.shortage)
        console.print("Starting Postgres, Valkey, a Kafka-protocol broker and our services …")
        async with running_stack(folder, catalog=catalog) as stack:
            os.environ.update(stack.env)
            _print_addresses(console)
            yield folder
            console.print("Stopping the stack …")
        return
    if options.shortage:
        raise InfrastructureError("SHORTAGE=1 needs a catalog of its own: it works on the embedded stack only")
    add_stack_file(os.environ, STACK_FILES[options.stack])
    _print_addresses(console)
    yield run_dir() / options.stack


def _print_addresses(console: Console) -> None:
    gateway, provider = os.environ["GATEWAY_URL"], os.environ["PAYMENT_PROVIDER_URL"]
    console.print(f"  API       {gateway}/docs\n  metrics   {gateway}/metrics\n  provider  {provider}/switches")


@asynccontextmanager
async def _declining(percent: int) -> AsyncGenerator[None]:
    """The provider declines that share of payments for as long as the block runs."""
    switches = os.environ["PAYMENT_PROVIDER_URL"] + "/switches"
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5), raise_for_status=True) as provider:
        if percent:
            await provider.patch(switches, json={"decline_percent": percent})
        try:
            yield
        finally:
            if percent:
                await provider.patch(switches, json={"decline_percent": 0})
