"""What a replay writes down is what the reconciliation reads."""

from pathlib import Path

import pytest

from demo.client import Result
from demo.journal import (
    JournalError,
    JournalOrder,
    JournalStart,
    JournalSummary,
    JournalWriter,
    journals_of,
    read_journal,
)
from demo.read_books import read_input

START = JournalStart("stack 1", "cdnow.csv", "2026-01-01T000000Z")
SUMMARY = JournalSummary(2, 2, 0, 0, seconds=0.5, orders_per_second=4.0, all_final=True)


def entry(order_id: str, result: Result, other_order_id: str | None = None) -> JournalOrder:
    return JournalOrder(1, "00001", "1", order_id, 1177, "cd-1-1177", result, 1, other_order_id)


def journal(file: Path, *entries: JournalOrder | JournalSummary, start: JournalStart = START) -> Path:
    with JournalWriter(file, start) as writer:
        for each in entries:
            writer.write(each)
    return file


def test_entries_are_read_as_they_were_written(tmp_path: Path):
    order = entry("a", Result.UNKNOWN, "b")

    file = journal(tmp_path / "new" / "one.jsonl", order, SUMMARY)

    assert list(read_journal(file)) == [START, order, SUMMARY]


def test_a_torn_last_line_is_left_out(tmp_path: Path):
    file = journal(tmp_path / "one.jsonl", entry("a", Result.ACCEPTED), entry("b", Result.ACCEPTED))
    file.write_bytes(file.read_bytes()[:-5])

    assert list(read_journal(file)) == [START, entry("a", Result.ACCEPTED)]


def test_a_line_that_is_no_entry_is_named(tmp_path: Path):
    file = journal(tmp_path / "one.jsonl")
    file.write_bytes(file.read_bytes() + b"{}\n")

    with pytest.raises(JournalError, match="line 2"):
        list(read_journal(file))


def test_a_journal_is_never_overwritten(tmp_path: Path):
    journal(tmp_path / "one.jsonl")

    with pytest.raises(FileExistsError):
        journal(tmp_path / "one.jsonl")


def test_only_the_journals_of_this_stack_are_found(tmp_path: Path):
    earlier = JournalStart("stack 0", "cdnow.csv", "2025-01-01T000000Z")
    journal(tmp_path / "1.jsonl", start=earlier)
    (tmp_path / "2.jsonl").touch()
    mine = [journal(tmp_path / "3.jsonl"), journal(tmp_path / "4.jsonl")]

    assert journals_of(tmp_path, "stack 1") == mine
    assert journals_of(tmp_path / "nowhere", "stack 1") == []


def test_an_order_that_was_accepted_once_counts_as_accepted(tmp_path: Path):
    first = journal(tmp_path / "1.jsonl", entry("a", Result.ACCEPTED), entry("b", Result.UNKNOWN), SUMMARY)
    second = journal(tmp_path / "2.jsonl", entry("a", Result.UNKNOWN), entry("b", Result.ACCEPTED, "c"), SUMMARY)

    book = read_input([first, second])

    assert {order_id: attempt.result for order_id, attempt in book.attempts.items()} == {
        "a": "accepted",
        "b": "accepted",
    }
    assert book.second_orders == {"b": "c"}
    assert (book.timed_orders, book.seconds) == (4, 1.0)
