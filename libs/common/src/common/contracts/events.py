"""Events: what has happened. Past tense; the tag carries the version of the form."""

from uuid import UUID

import msgspec

from common.contracts.values import AwareDatetime, OrderLine, Reason


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """Every order event concerns one order; unknown fields are ignored, so version N reads what N+1 has added."""

    order_id: UUID


class OrderEventBase(Event, frozen=True, kw_only=True):
    """`version` is the order's version after this event, counting from 1."""

    customer_id: str
    version: int
    occurred_at: AwareDatetime


class OrderPlaced(OrderEventBase, frozen=True, kw_only=True, tag="OrderPlaced.v1"):
    currency: str
    lines: tuple[OrderLine, ...]
    total_minor: int


class OrderCancelRequested(Event, frozen=True, kw_only=True, tag="OrderCancelRequested.v1"):
    """The customer wants out; the saga decides whether it is still possible."""


class OrderReserved(OrderEventBase, frozen=True, kw_only=True, tag="OrderReserved.v1"):
    pass


class OrderAuthorized(OrderEventBase, frozen=True, kw_only=True, tag="OrderAuthorized.v1"):
    pass


class OrderConfirmed(OrderEventBase, frozen=True, kw_only=True, tag="OrderConfirmed.v1"):
    pass


class OrderRejected(OrderEventBase, frozen=True, kw_only=True, tag="OrderRejected.v1"):
    """`reason`: out_of_stock, payment_declined or fraud_suspected."""

    reason: str


class OrderCancelled(OrderEventBase, frozen=True, kw_only=True, tag="OrderCancelled.v1"):
    pass


class OrderNeedsAttention(OrderEventBase, frozen=True, kw_only=True, tag="OrderNeedsAttention.v1"):
    """A person must look; `reason` names the dependency that the saga waits for."""

    reason: str


class StockReserved(Event, frozen=True, kw_only=True, tag="StockReserved.v1"):
    pass


class StockRefused(Event, frozen=True, kw_only=True, tag="StockRefused.v1"):
    """`sku`: the first one that was short."""

    sku: str


class StockReleased(Event, frozen=True, kw_only=True, tag="StockReleased.v1"):
    pass


class PaymentAuthorized(Event, frozen=True, kw_only=True, tag="PaymentAuthorized.v1"):
    pass


class PaymentDeclined(Event, frozen=True, kw_only=True, tag="PaymentDeclined.v1"):
    """`reason`: payment_declined or fraud_suspected."""

    reason: Reason


class PaymentCaptured(Event, frozen=True, kw_only=True, tag="PaymentCaptured.v1"):
    pass


class PaymentVoided(Event, frozen=True, kw_only=True, tag="PaymentVoided.v1"):
    pass


class CatalogItem(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="CatalogItem.v1"):
    """What can be bought, and for how much. Published on a compacted topic, keyed by sku."""

    sku: str
    name: str
    currency: str
    price_minor: int


OrderEvent = (
    OrderPlaced
    | OrderCancelRequested
    | OrderReserved
    | OrderAuthorized
    | OrderConfirmed
    | OrderRejected
    | OrderCancelled
    | OrderNeedsAttention
)
InventoryEvent = StockReserved | StockRefused | StockReleased
PaymentsEvent = PaymentAuthorized | PaymentDeclined | PaymentCaptured | PaymentVoided
