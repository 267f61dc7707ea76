"""Shows a replay at work: bars on a terminal, a line every few seconds elsewhere."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from demo.client import Result
from demo.tally import Tally

LINE_EVERY_S = 5.0

Show = Callable[[Tally], None]


@contextmanager
def shown_progress(console: Console, tally: Tally) -> Generator[Show]:
    """Hands out the function that shows the tally; call it as often as you like, and it is called at the end."""
    if not console.is_terminal:
        show = _lines(console)
        yield show
        console.print(_line(tally), highlight=False)
        return
    columns = TextColumn("{task.description:<9}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}")
    with Progress(*columns, TimeElapsedColumn(), console=console, auto_refresh=False) as bars:
        show = _bars(bars, tally.total)
        yield show
        show(tally)


def _bars(bars: Progress, total: int) -> Show:
    sent, accepted, final = (bars.add_task(name, total=total, note="") for name in ("sent", "accepted", "final"))

    def show(tally: Tally) -> None:
        bars.update(sent, completed=tally.sent)
        bars.update(accepted, completed=tally.accepted, note=_troubles(tally))
        bars.update(final, completed=tally.final.total(), note=_states(tally))
        bars.refresh()

    return show


def _lines(console: Console) -> Show:
    next_line_at = time.monotonic() + LINE_EVERY_S

    def show(tally: Tally) -> None:
        nonlocal next_line_at
        if time.monotonic() >= next_line_at:
            next_line_at = time.monotonic() + LINE_EVERY_S
            console.print(_line(tally), highlight=False)

    return show


def _line(tally: Tally) -> str:
    parts = f"sent {tally.sent}", f"accepted {tally.accepted}", f"final {tally.final.total()}"
    return " · ".join(part for part in (*parts, _states(tally), _troubles(tally)) if part) + f" of {tally.total}"


def _states(tally: Tally) -> str:
    return ", ".join(f"{count} {status}" for status, count in sorted(tally.final.items()))


def _troubles(tally: Tally) -> str:
    counts = ((result, tally.results[result]) for result in (Result.REFUSED, Result.UNKNOWN))
    return ", ".join(f"{count} {result}" for result, count in counts if count)
