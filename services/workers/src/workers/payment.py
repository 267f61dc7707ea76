"""The rules of a payment, pure: its states, what a command asks of it, what an answer of the provider makes of it."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from common.contracts import commands, events
from common.errors import PoisonError


class PaymentState(StrEnum):
    AUTHORIZING = "authorizing"
    AUTHORIZED = "authorized"
    DECLINED = "declined"
    CAPTURING = "capturing"
    CAPTURED = "captured"
    VOIDING = "voiding"
    VOIDED = "voided"


S = PaymentState

# What is still open: the provider must answer before it can be told.
OPEN = frozenset({S.AUTHORIZING, S.CAPTURING, S.VOIDING})

# (open state, the provider's status): the settled state. A pair that is missing settles nothing: try again.
SETTLES: dict[tuple[PaymentState, str], PaymentState] = {
    (S.AUTHORIZING, "authorized"): S.AUTHORIZED,
    (S.AUTHORIZING, "declined"): S.DECLINED,
    (S.CAPTURING, "captured"): S.CAPTURED,
    (S.VOIDING, "voided"): S.VOIDED,
    (S.VOIDING, "declined"): S.VOIDED,
}

_REPLIES: dict[PaymentState, Any] = {
    S.AUTHORIZED: events.PaymentAuthorized,
    S.CAPTURED: events.PaymentCaptured,
    S.VOIDED: events.PaymentVoided,
}


@dataclass(slots=True)
class Payment:
    """The payment of one order. `version` 0: not stored yet. `next_attempt_at`: set while the provider is unclear."""

    order_id: UUID
    customer_id: str
    currency: str
    amount_minor: int
    state: PaymentState
    version: int = 0
    attempts: int = 0
    next_attempt_at: datetime | None = None
    traceparent: str | None = None

    @property
    def is_free(self) -> bool:
        """An order of 0.00: nothing to ask the provider. (A tombstone has no currency and is not free.)"""
        return self.amount_minor == 0 and self.currency != ""

    def settle(self, status: str | None) -> bool:
        """Take the provider's status, None for no answer; answer whether that closed the open state."""
        settled = SETTLES.get((self.state, status or ""))
        if settled is not None:
            self.state, self.attempts, self.next_attempt_at = settled, 0, None
        return settled is not None


def begin(command: commands.PaymentsCommand, payment: Payment | None, traceparent: str | None) -> Payment:
    """The payment after `command` was heard, in an open state if the provider must act.

    Raises PoisonError for a capture of what is not authorized and a void of what is captured: the saga never asks that.
    """
    match command:
        case commands.AuthorizePayment():
            if payment is None:
                return Payment(
                    command.order_id,
                    command.customer_id,
                    command.currency,
                    command.amount_minor,
                    S.AUTHORIZING,
                    traceparent=traceparent,
                )
            return payment
        case commands.CapturePayment():
            if payment is not None and payment.state in (S.AUTHORIZED, S.CAPTURING, S.CAPTURED):
                payment.state = S.CAPTURED if payment.state is S.CAPTURED else S.CAPTURING
                return payment
            raise PoisonError(f"capture of a payment that is {payment.state if payment else 'unknown'}")
        case commands.VoidPayment():
            if payment is None:  # a tombstone: an authorization that comes later finds it
                return Payment(command.order_id, "", "", 0, S.VOIDING, traceparent=traceparent)
            if payment.state in (S.CAPTURING, S.CAPTURED):
                raise PoisonError(f"void of a payment that is {payment.state}")
            payment.state = S.VOIDED if payment.state in (S.DECLINED, S.VOIDED) else S.VOIDING
            return payment


def answer_to(command: type[Any], payment: Payment) -> events.PaymentsEvent | None:
    """The reply that `command` gets from a settled payment; None while it is open, and for what came too late."""
    if command is commands.AuthorizePayment and payment.state is S.DECLINED:
        return events.PaymentDeclined(order_id=payment.order_id, reason="payment_declined")
    expected = {
        commands.AuthorizePayment: (S.AUTHORIZED,),
        commands.CapturePayment: (S.CAPTURED,),
        commands.VoidPayment: (S.VOIDED,),
    }[command]
    return _REPLIES[payment.state](order_id=payment.order_id) if payment.state in expected else None


COMMAND_OF: dict[PaymentState, type[Any]] = {
    S.AUTHORIZING: commands.AuthorizePayment,
    S.CAPTURING: commands.CapturePayment,
    S.VOIDING: commands.VoidPayment,
}
