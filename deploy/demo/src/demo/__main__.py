"""The demo's commands: write a catalog, replay real orders, reconcile the books of a running stack."""

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path

import uvloop
from rich.console import Console

from common.errors import InfrastructureError
from common.lifecycle import load_settings
from demo.catalog import write_catalog
from demo.cdnow import OrdersFileError
from demo.journal import JournalError
from demo.read_books import read_books
from demo.reconcile import reconcile
from demo.replay import ReplaySummary, replay
from demo.report import print_report, write_json
from demo.run import STACK_FILES, DemoOptions, demo
from demo.settings import BooksSettings, ReplaySettings, add_stack_file, run_dir
from demo.tokens import KeyFileError


def main() -> int:
    """Exit code 0: all is well; 1: something differs, or orders were left over; 2: it could not be done."""
    arguments = _parser().parse_args()
    loop = asyncio.new_event_loop if arguments.command is _run else uvloop.new_event_loop  # uvloop cannot change users
    if arguments.command is not _run:  # which starts its own stack, or names another one
        add_stack_file(os.environ, run_dir() / "stack.env")
    command: Callable[[argparse.Namespace], Coroutine[None, None, int]] = arguments.command
    try:
        with asyncio.Runner(loop_factory=loop) as runner:
            return runner.run(command(arguments))
    except (InfrastructureError, OrdersFileError, JournalError, KeyFileError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="all of it: a stack, a replay, the books compared")
    run.set_defaults(command=_run)
    run.add_argument("--stack", choices=["embedded", *STACK_FILES], default="embedded")
    run.add_argument("--orders", type=_count_or_all, default=5_000, metavar="N|all")
    run.add_argument("--shortage", action="store_true", help="too little stock of every tenth sku")
    run.add_argument("--declines", action="store_true", help="the provider declines some payments")
    run.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")

    catalog = commands.add_parser("catalog", help="write the catalog that the orders of a file need")
    catalog.set_defaults(command=_catalog)
    catalog.add_argument("--orders", type=Path, required=True, metavar="FILE", help="the purchases, as CSV")
    catalog.add_argument("--limit", type=_positive_int, help="only the first LIMIT purchases")
    catalog.add_argument("--shortage", action="store_true", help="half the stock for every tenth sku")
    catalog.add_argument("--out", type=Path, required=True, metavar="FILE")

    replays = commands.add_parser("replay", help="send the orders of a file through the public API")
    replays.set_defaults(command=_replay)
    replays.add_argument("--file", type=Path, required=True, help="the purchases, as CSV")
    replays.add_argument("--limit", type=_positive_int, help="only the first LIMIT purchases")
    replays.add_argument("--speed", type=_positive_float, metavar="ORDERS_PER_SECOND", help="no faster than this")
    replays.add_argument("--concurrency", type=_positive_int, default=64, help="requests at a time (%(default)s)")
    replays.add_argument("--no-wait", action="store_true", help="do not wait until the orders are final")

    reconciles = commands.add_parser("reconcile", help="compare input, log, Postgres, provider and stock")
    reconciles.set_defaults(command=_reconcile)
    reconciles.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    reconciles.add_argument(
        "--journal", type=Path, nargs="+", default=[], metavar="FILE", help="(default: all replays to this stack)"
    )
    return parser


async def _run(arguments: argparse.Namespace) -> int:
    a = arguments
    limit = None if a.orders == "all" else a.orders
    return await demo(DemoOptions(a.stack, limit, a.shortage, a.declines, a.json), Console())


async def _catalog(arguments: argparse.Namespace) -> int:
    summary = write_catalog(arguments.orders, arguments.out, limit=arguments.limit, shortage=arguments.shortage)
    print(f"{arguments.out}: {summary.skus:,} skus, {summary.stock:,} pieces, {summary.short_skus:,} skus short")
    return 0


async def _replay(arguments: argparse.Namespace) -> int:
    summary = await replay(
        load_settings(ReplaySettings),
        arguments.file,
        journal_dir=run_dir() / "replay",
        limit=arguments.limit,
        orders_per_second=arguments.speed,
        concurrency=arguments.concurrency,
        wait=not arguments.no_wait,
    )
    print_summary(summary)
    return 0 if summary.ok else 1


def print_summary(summary: ReplaySummary) -> None:
    totals = summary.totals
    print(f"{totals.accepted:,} of {totals.sent:,} accepted, {totals.seconds:.1f} s, {totals.orders_per_second:,.0f}/s")
    for trouble, orders in summary.troubles.most_common():
        print(f"not accepted: {orders:,} ({trouble})")
    for state, orders in summary.rest.most_common():
        print(f"not final: {orders:,} {state}")
    print(f"journal: {summary.journal}")


async def _reconcile(arguments: argparse.Namespace) -> int:
    books = await read_books(load_settings(BooksSettings), run_dir() / "replay", arguments.journal)
    report = reconcile(books, alone=False)
    print_report(report, Console())
    if arguments.json is not None:
        write_json(report, arguments.json)
    return 1 if report.differences else 0


def _positive_int(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def _count_or_all(text: str) -> int | str:
    return text if text == "all" else _positive_int(text)


def _positive_float(text: str) -> float:
    number = float(text)
    if not number > 0:
        raise argparse.ArgumentTypeError("more than 0")
    return number


if __name__ == "__main__":
    raise SystemExit(main())
