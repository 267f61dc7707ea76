"""Values that several messages share, and how an order gets its id."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from uuid_utils.compat import uuid5

AwareDatetime = Annotated[datetime, msgspec.Meta(tz=True)]  # without a zone, each reader would take its own

ORDER_NAMESPACE = UUID("6f1d4a52-4f0c-5b0e-9d5a-3a1a6c0f7a11")


# What the tables can hold. A record that says more is refused before any transaction, and delays nobody. Text holds no
# NUL either: the codec sees to that.
CustomerId = Annotated[str, msgspec.Meta(max_length=200)]
Currency = Annotated[str, msgspec.Meta(max_length=3)]
Sku = Annotated[str, msgspec.Meta(max_length=64)]
Name = Annotated[str, msgspec.Meta(max_length=200)]
Reason = Annotated[str, msgspec.Meta(max_length=40)]
Quantity = Annotated[int, msgspec.Meta(gt=0, lt=2**31)]
MinorUnits = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class OrderLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of an order. The price is ours, in integer minor units of the order's currency, per piece."""

    sku: Sku
    name: Name
    quantity: Quantity
    unit_price_minor: MinorUnits


class StockLine(msgspec.Struct, frozen=True, kw_only=True):
    """How many pieces of a sku to reserve."""

    sku: Sku
    quantity: Quantity


def order_id_for(customer_id: str, idempotency_key: str) -> UUID:
    """The order id that a customer's idempotency key stands for: the same key is the same order, for ever.

    The length prefix keeps (customer "a:b", key "c") apart from (customer "a", key "b:c"). Source: UUIDv5, RFC 9562.
    """
    return uuid5(ORDER_NAMESPACE, f"{len(customer_id)}:{customer_id}:{idempotency_key}")
