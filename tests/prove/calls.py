"""The client log: every call and every answer, as JSON lines. It is the only truth about what a customer was promised.

Rule: a call is written before it is sent, its answer once it is there. A call without an answer is neither a yes nor a
no: the order may exist.
Source: the history of Jepsen: invocations and completions.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, Self

import msgspec


class What(StrEnum):
    PLACE = "place"
    PLACE_OTHER = "place-other"  # another body under a key that is taken
    CANCEL = "cancel"
    READ = "read"
    LIST = "list"


class Call(msgspec.Struct, frozen=True, tag="call", omit_defaults=True):
    """`order_id`: what customer and key stand for. Times in seconds since the first order was due."""

    n: int
    at: float
    what: What
    customer: str
    order_id: str
    amount_minor: int = 0


class Answer(msgspec.Struct, frozen=True, tag="answer", omit_defaults=True):
    """`status`: None when there was no answer; `trouble` says why. The rest is what the answer said, if it did."""

    n: int
    at: float
    status: int | None = None
    trouble: str | None = None  # the problem's type, or the error of the connection
    order_id: str | None = None
    version: int | None = None
    state: str | None = None
    media_type: str | None = None
    retry_after: bool = False


@dataclass(frozen=True, slots=True)
class Exchange:
    call: Call
    answer: Answer | None

    @property
    def accepted(self) -> bool:
        return self.call.what is What.PLACE and self.answer is not None and self.answer.status == 202


class CallLog:
    """A new file of calls and answers, and the same in memory."""

    def __init__(self, file: Path) -> None:
        self.exchanges: list[Exchange] = []
        self._started = time.monotonic()
        self._encode = msgspec.json.Encoder().encode
        file.parent.mkdir(parents=True, exist_ok=True)
        self._out: BinaryIO = file.open("wb", buffering=0)  # what was promised must be known, whatever becomes of us

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._out.close()

    def start(self) -> None:
        """From this moment on times are counted."""
        self._started = time.monotonic()

    def now(self) -> float:
        return round(time.monotonic() - self._started, 4)

    def sent(self, what: What, customer: str, order_id: str, amount_minor: int = 0) -> Call:
        call = Call(len(self.exchanges), self.now(), what, customer, order_id, amount_minor)
        self.exchanges.append(Exchange(call, None))
        self._out.write(self._encode(call) + b"\n")
        return call

    def answered(self, answer: Answer) -> None:
        self.exchanges[answer.n] = Exchange(self.exchanges[answer.n].call, answer)
        self._out.write(self._encode(answer) + b"\n")


def read_calls(file: Path) -> list[Exchange]:
    """The exchanges of a log, also of one that breaks off."""
    exchanges: list[Exchange] = []
    for line in _lines(file):
        if isinstance(line, Call):
            exchanges.append(Exchange(line, None))
        else:
            exchanges[line.n] = Exchange(exchanges[line.n].call, line)
    return exchanges


def _lines(file: Path) -> Iterator[Call | Answer]:
    decode = msgspec.json.Decoder(Call | Answer).decode
    with file.open("rb") as lines:
        for line in lines:
            if line.endswith(b"\n"):
                yield decode(line)
