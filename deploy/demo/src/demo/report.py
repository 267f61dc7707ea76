"""A reconciliation for people (tables) and for programs (JSON)."""

from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from demo.reconcile import Check, Figures, Report

DIFFERENCES_SHOWN = 10


def print_report(report: Report, console: Console | None = None) -> None:
    console = console or Console()
    console.print(_books(report.figures), _checks(report.checks))
    differences = report.differences
    for line in differences[:DIFFERENCES_SHOWN]:
        console.print(f"[red]differs[/red]  {line}", highlight=False, soft_wrap=True)
    if len(differences) > DIFFERENCES_SHOWN:
        console.print(f"… and {len(differences) - DIFFERENCES_SHOWN:,} more")
    verdict = f"[red]{len(differences):,} differences[/red]" if differences else "[green]All books agree.[/green]"
    console.print(verdict + _speed(report.figures), highlight=False)


def write_json(report: Report, file: Path) -> None:
    """One object: the figures (null for what needs a sender's journal, without one) and the first differences."""
    content = msgspec.to_builtins(report.figures) | {
        "differences": len(report.differences),
        "first_differences": report.differences[:DIFFERENCES_SHOWN],
    }
    file.write_bytes(msgspec.json.format(msgspec.json.encode(content)) + b"\n")


def _books(figures: Figures) -> Table:
    f = figures
    table = Table("book", "what", title="Books", title_justify="left")
    table.add_column("orders", justify="right")
    table.add_column("amount", justify="right")
    for book, what, orders, amount_minor in (
        ("input", "sent", f.sent, None),
        ("", "accepted", f.accepted, None),
        ("", "stored without an ack", f.unacked_stored, None),
        ("", "stored, of other senders", f.by_others, None),
        ("", "accepted or stored", _sum(f.accepted, f.unacked_stored), f.amount_in_minor),
        ("log", f"ordered ({f.log_copies:,} copies beside)", f.logged, f.amount_logged_minor),
        ("Postgres", "stored", f.stored, f.amount_stored_minor),
        ("", "confirmed", f.confirmed, f.amount_confirmed_minor),
        ("", "rejected", f.rejected, None),
        ("", "cancelled", f.cancelled, None),
        ("provider", f"captured (and {f.confirmed_free:,} confirmed cost 0.00)", f.charged, f.amount_charged_minor),
        ("stock", "reserved", f.reserved, None),
    ):
        table.add_row(book, what, _number(orders), _amount(amount_minor) if amount_minor is not None else "")
    return table


def _checks(checks: tuple[Check, ...]) -> Table:
    table = Table("check", title="Checks", title_justify="left")
    table.add_column("compared", justify="right")
    table.add_column("result")
    for check in checks:
        table.add_row(check.name, _number(check.compared), _result(check))
    return table


def _result(check: Check) -> str:
    if check.compared is None:
        return "-"
    return f"[red]DIFFERS ({len(check.differences):,})[/red]" if check.differences else "[green]ok[/green]"


def _speed(figures: Figures) -> str:
    if figures.seconds is None or figures.orders_per_second is None:
        return ""
    seconds, rate = f"{figures.seconds:,.1f} s", f"{figures.orders_per_second:,.0f}/s"
    return f" {seconds} from the first order sent to the last one final: {rate}."


def _sum(first: int | None, second: int | None) -> int | None:
    return None if first is None or second is None else first + second


def _number(count: int | None) -> str:
    return "-" if count is None else f"{count:,}"


def _amount(minor: int) -> str:
    return f"{minor // 100:,}.{minor % 100:02}"
