"""The order: one aggregate, one table of legal transitions.

Rule: a transition either moves the order one version on and returns its event, or raises IllegalTransitionError.
No I/O, no clock: the time comes in as an argument.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from common.contracts import events
from common.contracts.values import OrderLine
from orders.domain.errors import IllegalTransitionError


class OrderStatus(StrEnum):
    """In Postgres. Before that, while it is only in the log, the gateway calls an order `accepted`."""

    PLACED = "placed"
    RESERVED = "reserved"
    AUTHORIZED = "authorized"
    CONFIRMED = "confirmed"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    NEEDS_ATTENTION = "needs_attention"


S = OrderStatus

TRANSITIONS: dict[OrderStatus, frozenset[OrderStatus]] = {
    S.PLACED: frozenset({S.RESERVED, S.REJECTED, S.CANCELLED, S.NEEDS_ATTENTION}),
    S.RESERVED: frozenset({S.AUTHORIZED, S.REJECTED, S.CANCELLED, S.NEEDS_ATTENTION}),
    S.AUTHORIZED: frozenset({S.CONFIRMED, S.NEEDS_ATTENTION}),
    # to itself: after a cancel, say, the saga may wait too long for another dependency
    S.NEEDS_ATTENTION: frozenset({S.RESERVED, S.AUTHORIZED, S.CONFIRMED, S.REJECTED, S.CANCELLED, S.NEEDS_ATTENTION}),
    S.CONFIRMED: frozenset(),
    S.REJECTED: frozenset(),
    S.CANCELLED: frozenset(),
}

FINAL = frozenset(status for status, following in TRANSITIONS.items() if not following)


class RejectionReason(StrEnum):
    OUT_OF_STOCK = "out_of_stock"
    PAYMENT_DECLINED = "payment_declined"
    FRAUD_SUSPECTED = "fraud_suspected"


_EVENTS: dict[OrderStatus, Any] = {
    S.RESERVED: events.OrderReserved,
    S.AUTHORIZED: events.OrderAuthorized,
    S.CONFIRMED: events.OrderConfirmed,
    S.REJECTED: events.OrderRejected,
    S.CANCELLED: events.OrderCancelled,
    S.NEEDS_ATTENTION: events.OrderNeedsAttention,
}


@dataclass(slots=True)
class Order:
    """An order as Postgres keeps it. Money in minor units of `currency`; times are aware UTC."""

    order_id: UUID
    customer_id: str
    currency: str
    total_minor: int
    lines: tuple[OrderLine, ...]
    client_reference: str | None
    accepted_at: datetime
    updated_at: datetime
    status: OrderStatus = OrderStatus.PLACED
    reason: str | None = None
    version: int = 1

    def placed(self) -> events.OrderPlaced:
        """The event of a new order."""
        return events.OrderPlaced(
            order_id=self.order_id,
            customer_id=self.customer_id,
            version=self.version,
            occurred_at=self.updated_at,
            currency=self.currency,
            lines=self.lines,
            total_minor=self.total_minor,
        )

    def move(self, status: OrderStatus, at: datetime, reason: str | None = None) -> events.OrderEvent:
        """Go to `status` and answer the event that says so. `reason` goes with rejected and needs_attention.

        Raises IllegalTransitionError and changes nothing when the table does not allow the step.
        """
        if status not in TRANSITIONS[self.status]:
            raise IllegalTransitionError(f"order {self.order_id}: {self.status} cannot become {status}")
        self.status, self.reason, self.updated_at = status, reason, at
        self.version += 1
        said = {"reason": reason} if status in (S.REJECTED, S.NEEDS_ATTENTION) else {}
        return _EVENTS[status](
            order_id=self.order_id, customer_id=self.customer_id, version=self.version, occurred_at=at, **said
        )
