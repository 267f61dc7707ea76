"""The provider's book: one small state machine per payment, one append-only file for all of them.

Problem: a merchant repeats calls whose answer got lost, in any order, and this process may be killed at any line.
Rule: the merchant's reference names the payment. Each change of state is one appended line, written before the answer;
at start the lines are read again and the last one of a reference wins.
Guarantees: a reference is charged once, and so is an idempotency key; what was answered survives `kill -9`.
Limits: no fsync, so a power cut may lose the last lines; one process per file; the book is held in memory.
"""

import os
import re
from enum import StrEnum
from pathlib import Path
from typing import Self

from msgspec import DecodeError, Struct
from msgspec.json import Decoder, Encoder


class LedgerError(Exception):
    """LedgerError
    ├── UnknownPaymentError   nobody authorized or voided this reference
    ├── ConflictError         the payment is in a state, or has terms, that forbid the call
    └── LedgerFileError       the file cannot be read or written
    """


class UnknownPaymentError(LedgerError): ...


class ConflictError(LedgerError):
    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class LedgerFileError(LedgerError): ...


class Status(StrEnum):
    AUTHORIZED = "authorized"
    DECLINED = "declined"
    CAPTURED = "captured"
    VOIDED = "voided"


class Action(StrEnum):
    CAPTURE = "capture"
    VOID = "void"


# What is not in this table is refused. A declined payment holds no money, so voiding it is granted and changes nothing.
TRANSITIONS: dict[tuple[Status, Action], Status] = {
    (Status.AUTHORIZED, Action.CAPTURE): Status.CAPTURED,
    (Status.CAPTURED, Action.CAPTURE): Status.CAPTURED,
    (Status.AUTHORIZED, Action.VOID): Status.VOIDED,
    (Status.VOIDED, Action.VOID): Status.VOIDED,
    (Status.DECLINED, Action.VOID): Status.DECLINED,
}


class Payment(Struct, frozen=True, omit_defaults=True, gc=False):
    """A payment as it is answered to the merchant and, the same bytes, as one line of the file."""

    reference: str
    status: Status
    amount_minor: int
    currency: str
    customer_id: str
    idempotency_key: str
    decline_code: str | None = None

    def after(self, action: Action) -> "Payment":
        """The payment after `action`: itself when nothing changes. Raises ConflictError where the action is refused."""
        status = TRANSITIONS.get((self.status, action))
        if status is None:
            raise ConflictError(f"payment-{self.status}", f"Cannot {action} a payment that is {self.status}.")
        if status is self.status:
            return self
        return Payment(self.reference, status, self.amount_minor, self.currency, self.customer_id, self.idempotency_key)

    def repeated(self, order: "Payment") -> "Payment":
        """The answer to one more authorize of this reference: what it already is, on the first terms only."""
        same_terms = (self.amount_minor, self.currency, self.customer_id) == (
            order.amount_minor,
            order.currency,
            order.customer_id,
        )
        if not same_terms and not self.is_tombstone:
            raise ConflictError("terms-differ", "This reference was used with another amount, currency or customer.")
        return self

    @property
    def is_tombstone(self) -> bool:
        return self.amount_minor == 0


def tombstone(reference: str) -> Payment:
    """A void that came before its authorize; XXX is the code of ISO 4217 for "no currency"."""
    return Payment(reference, Status.VOIDED, 0, "XXX", "", "")


class Ledger:
    """All payments, in memory and in the file at `path`, which is created when it is missing.

    Every method that changes a payment raises LedgerFileError, and changes nothing, when the line cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._payments: dict[str, Payment] = {}
        self._reference_of_key: dict[str, str] = {}
        self._encoder = Encoder()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            self._size = self._replay(path)
            os.ftruncate(self._file, self._size)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        os.close(self._file)

    def authorize(self, order: Payment) -> tuple[Payment, bool]:
        """The payment, and whether this call made it: `order` is what it becomes when its reference is new."""
        known = self._payments.get(order.reference)
        if known is not None:
            return known.repeated(order), False
        if order.idempotency_key in self._reference_of_key:
            raise ConflictError("idempotency-key-reused", "This idempotency key belongs to another reference.")
        return self._record(order), True

    def capture(self, reference: str) -> Payment:
        known = self.find(reference)
        captured = known.after(Action.CAPTURE)
        return captured if captured is known else self._record(captured)

    def void(self, reference: str) -> Payment:
        """Void the payment; an unknown reference gets a tombstone, so that a late authorize of it takes no money."""
        known = self._payments.get(reference)
        voided = known.after(Action.VOID) if known is not None else tombstone(reference)
        return voided if voided is known else self._record(voided)

    def find(self, reference: str) -> Payment:
        known = self._payments.get(reference)
        if known is None:
            raise UnknownPaymentError("No payment has this reference.")
        return known

    def payments(self) -> list[Payment]:
        """Every payment once, in the order of their first calls, as they are at this moment."""
        return list(self._payments.values())

    def _record(self, payment: Payment) -> Payment:
        line = self._encoder.encode(payment) + b"\n"
        try:
            written = os.write(self._file, line)
            if written < len(line):  # the disk is full: half a line must not stay in front of the next one
                os.ftruncate(self._file, self._size)
                raise LedgerFileError("The ledger file is full.")
        except OSError as error:
            raise LedgerFileError("The ledger file cannot be written.") from error
        self._size += written
        self._remember(payment)
        return payment

    def _remember(self, payment: Payment) -> None:
        self._payments[payment.reference] = payment
        if payment.idempotency_key:
            self._reference_of_key[payment.idempotency_key] = payment.reference

    def _replay(self, path: Path) -> int:
        """Read every whole line and return where they end. A torn last line was never answered: it does not count."""
        content = path.read_bytes()
        end = content.rfind(b"\n") + 1
        decoder = Decoder(Payment)
        for line in re.finditer(rb"[^\n]*\n", content[:end]):
            try:
                self._remember(decoder.decode(line[0]))
            except (DecodeError, UnicodeDecodeError) as error:
                number = content.count(b"\n", 0, line.start()) + 1
                raise LedgerFileError(f"{path}, line {number}: {error}") from error
        return end
