"""What a replay shows while it works."""

import io
from collections import Counter

import pytest
from rich.console import Console

from demo.client import Answer, Result
from demo.progress import shown_progress
from demo.tally import Tally


def halfway() -> Tally:
    tally = Tally(total=5, sent=4, final=Counter(confirmed=1, rejected=1))
    for name, result in (("a", Result.ACCEPTED), ("b", Result.ACCEPTED), ("c", Result.REFUSED), ("d", Result.UNKNOWN)):
        tally.count(name, Answer(result))
    return tally


@pytest.mark.parametrize("terminal", [True, False])
def test_the_last_state_is_always_shown(terminal: bool):
    console = Console(file=io.StringIO(), force_terminal=terminal, width=120, record=True)
    tally = Tally(total=5)

    with shown_progress(console, tally) as show:
        show(tally)
        done = halfway()
        tally.sent, tally.results, tally.final = done.sent, done.results, done.final

    text = console.export_text() + str(getattr(console.file, "getvalue", str)())
    assert "1 confirmed, 1 rejected" in text
    assert "1 refused, 1 unknown" in text


def test_only_accepted_orders_are_waited_for():
    assert list(halfway().waiting) == ["a", "b"]
