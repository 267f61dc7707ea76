"""The order saga: what to do next, given where an order stands and what has just been heard. Pure.

Rule: RULES is the whole saga, one line per (state, message): the next state, the command to send, the order's new
status. A pair that is not in it is a duplicate or a late message and changes nothing, except those in COMPENSATE_LATE.
Guarantees: capture is the pivot. Before it every order can be compensated (void, then release); from then on it goes
forward only. Whatever the order or number of replies, a saga ends confirmed, or rejected or cancelled and compensated.
Limits: a step waits for one reply at a time. No reply within its time-out is neither yes nor no: the same command is
sent again, and its receiver, which acts once per order, answers what it did.
Source: Garcia-Molina and Salem, "Sagas", 1987; Richardson, *Microservices Patterns*, chapter 4.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from common.contracts import commands, events
from orders.domain.order import OrderStatus, RejectionReason


class SagaState(StrEnum):
    """What the saga waits for."""

    RESERVING = "reserving"
    AUTHORIZING = "authorizing"
    CAPTURING = "capturing"
    VOIDING = "voiding"
    RELEASING = "releasing"
    ENDED = "ended"


S = SagaState
CANCELLED_BY_CUSTOMER = "cancelled_by_customer"


@dataclass(frozen=True, slots=True)
class Rule:
    then: SagaState
    send: type[Any] | None = None
    order: OrderStatus | None = None
    reason: str | None = None  # why it will be rejected, kept until the compensations are done


RULES: dict[tuple[SagaState | None, type[Any]], Rule] = {
    # forward
    (None, events.OrderPlaced): Rule(S.RESERVING, send=commands.ReserveStock),
    (S.RESERVING, events.StockReserved): Rule(
        S.AUTHORIZING, send=commands.AuthorizePayment, order=OrderStatus.RESERVED
    ),
    (S.AUTHORIZING, events.PaymentAuthorized): Rule(
        S.CAPTURING, send=commands.CapturePayment, order=OrderStatus.AUTHORIZED
    ),
    (S.CAPTURING, events.PaymentCaptured): Rule(S.ENDED, order=OrderStatus.CONFIRMED),
    # refused: undo what was done
    (S.RESERVING, events.StockRefused): Rule(S.ENDED, order=OrderStatus.REJECTED, reason=RejectionReason.OUT_OF_STOCK),
    (S.AUTHORIZING, events.PaymentDeclined): Rule(
        S.RELEASING, send=commands.ReleaseStock, reason=RejectionReason.PAYMENT_DECLINED
    ),
    # the customer wants out: possible until capture is asked for; the receivers keep tombstones for late steps
    (S.RESERVING, events.OrderCancelRequested): Rule(
        S.RELEASING, send=commands.ReleaseStock, reason=CANCELLED_BY_CUSTOMER
    ),
    (S.AUTHORIZING, events.OrderCancelRequested): Rule(
        S.VOIDING, send=commands.VoidPayment, reason=CANCELLED_BY_CUSTOMER
    ),
    # compensation
    (S.VOIDING, events.PaymentVoided): Rule(S.RELEASING, send=commands.ReleaseStock),
    (S.RELEASING, events.StockReleased): Rule(S.ENDED),  # order: rejected or cancelled, by the reason
}

COMPENSATE_LATE: dict[tuple[SagaState, type[Any]], type[Any]] = {
    # a success that comes after its compensation was asked for: ask again
    (S.ENDED, events.StockReserved): commands.ReleaseStock,
    (S.RELEASING, events.PaymentAuthorized): commands.VoidPayment,
    (S.ENDED, events.PaymentAuthorized): commands.VoidPayment,
}

STEP_OF: dict[SagaState, type[Any]] = {
    S.RESERVING: commands.ReserveStock,
    S.AUTHORIZING: commands.AuthorizePayment,
    S.CAPTURING: commands.CapturePayment,
    S.VOIDING: commands.VoidPayment,
    S.RELEASING: commands.ReleaseStock,
}

WAITS_FOR: dict[SagaState, str] = {
    S.RESERVING: "inventory",
    S.AUTHORIZING: "payments",
    S.CAPTURING: "payments",
    S.VOIDING: "payments",
    S.RELEASING: "inventory",
}

STEP_TIMEOUT = timedelta(minutes=2)  # a backlog is not an outage: asking again too soon would only add to it
LONGEST_WAIT = 5  # times the time-out: the wait doubles up to here, and stays there for ever
ATTEMPTS_BEFORE_ATTENTION = 10


@dataclass(slots=True)
class Saga:
    """Where the saga of one order stands. `deadline`: when to ask again; None once it has ended."""

    order_id: UUID
    state: SagaState | None = None
    reason: str | None = None
    attempts: int = 0
    deadline: datetime | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows from a message: the command to send and the order's new status, either may be missing."""

    send: type[Any] | None = None
    order: OrderStatus | None = None
    reason: str | None = None


NOTHING = Decision()


def decide(
    saga: Saga,
    message: type[Any],
    now: datetime,
    *,
    reason: str | None = None,
    step_timeout: timedelta = STEP_TIMEOUT,
) -> Decision:
    """Move the saga by one message and answer what follows. `reason`: the one that the message itself gave."""
    rule = RULES.get((saga.state, message))
    if rule is None:
        return _late(saga, message)
    saga.state, saga.attempts = rule.then, 0
    saga.reason = reason or rule.reason or saga.reason
    saga.deadline = None if rule.then is S.ENDED else now + step_timeout
    status = rule.order
    if message is events.StockReleased:
        status = OrderStatus.CANCELLED if saga.reason == CANCELLED_BY_CUSTOMER else OrderStatus.REJECTED
    return Decision(rule.send, status, saga.reason if status is OrderStatus.REJECTED else None)


def time_out(saga: Saga, now: datetime, *, step_timeout: timedelta = STEP_TIMEOUT) -> Decision:
    """No reply came in time: send the step again, later each time; after ten tries a person should look.

    It goes on asking for ever, so once the dependency answers the saga goes on by itself.
    """
    if saga.state is None or saga.state is S.ENDED:
        return NOTHING
    saga.attempts += 1
    saga.deadline = now + step_timeout * min(2 ** min(saga.attempts, 8), LONGEST_WAIT)
    if saga.attempts == ATTEMPTS_BEFORE_ATTENTION:
        return Decision(STEP_OF[saga.state], OrderStatus.NEEDS_ATTENTION, WAITS_FOR[saga.state])
    return Decision(STEP_OF[saga.state])


def _late(saga: Saga, message: type[Any]) -> Decision:
    if saga.state is None or saga.reason is None:  # confirmed orders have no reason: nothing to compensate
        return NOTHING
    return Decision(COMPENSATE_LATE.get((saga.state, message)))
