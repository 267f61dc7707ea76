"""The journal of a replay: one JSON line per order, kept by the sender. It is the input side of the reconciliation.

Rule: first line what it was sent to, then a line per order once its outcome is known, last line a summary. An order
that was on its way when the replay was interrupted is written as unknown.
Limit: a replay killed with `kill -9` loses the lines of its last second; their orders are then stored, not attempted.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Self

import msgspec

from demo.client import Result

BUFFER_BYTES = 64 * 1024


class JournalStart(msgspec.Struct, frozen=True, tag="start"):
    """`stack` names the database that the orders went to, so that a journal of an earlier stack is left alone."""

    stack: str
    file: str
    started_at: str


class JournalOrder(msgspec.Struct, frozen=True, tag="order", omit_defaults=True, gc=False):
    """`order_id` is what customer and key stand for; `other_order_id` is what the gateway answered, if it differs."""

    row: int
    customer: str
    key: str
    order_id: str
    amount_minor: int
    sku: str
    result: Result
    tries: int
    other_order_id: str | None = None


class JournalSummary(msgspec.Struct, frozen=True, tag="summary"):
    """`seconds` from the first send to the last final order, or to the last answer when nobody waited."""

    sent: int
    accepted: int
    refused: int
    unknown: int
    seconds: float
    orders_per_second: float
    all_final: bool


Entry = JournalStart | JournalOrder | JournalSummary


class JournalWriter:
    """A new file that begins with `start`. Lines reach the disk some kilobytes at a time, at `flush` and at the end."""

    def __init__(self, file: Path, start: JournalStart) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self.file = file
        self._out: BinaryIO = file.open("xb", buffering=BUFFER_BYTES)
        self._encode = msgspec.json.Encoder().encode
        self.write(start)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._out.close()

    def write(self, entry: Entry) -> None:
        self._out.write(self._encode(entry) + b"\n")

    def flush(self) -> None:
        self._out.flush()


class JournalError(Exception):
    """A journal cannot be read; says which line."""


def read_journal(file: Path) -> Iterator[Entry]:
    """Every entry of the file. A torn last line (the replay was killed) is left out. Raises JournalError."""
    decode = msgspec.json.Decoder(Entry).decode
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.endswith(b"\n"):
                    return
                try:
                    yield decode(line)
                except msgspec.MsgspecError as error:
                    raise JournalError(f"{file}, line {number}: {error}") from error
    except OSError as error:
        raise JournalError(f"{file}: {error}") from error


def journals_of(folder: Path, stack: str) -> list[Path]:
    """The journals in the folder whose orders went to this stack, oldest first."""
    return [file for file in sorted(folder.glob("*.jsonl")) if _stack_of(file) == stack]


def _stack_of(file: Path) -> str | None:
    first = next(read_journal(file), None)
    return first.stack if isinstance(first, JournalStart) else None
