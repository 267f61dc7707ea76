"""Values that several messages share, and how an order gets its id."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from uuid_utils.compat import uuid5

AwareDatetime = Annotated[datetime, msgspec.Meta(tz=True)]  # without a zone, each reader would take its own

ORDER_NAMESPACE = UUID("6f1d4a52-4f0c-5b0e-9d5a-3a1a6c0f7a11")


class OrderLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of an order. The price is ours, in integer minor units of the order's currency, per piece."""

    sku: str
    name: str
    quantity: int
    unit_price_minor: int


class StockLine(msgspec.Struct, frozen=True, kw_only=True):
    """How many pieces of a sku to reserve."""

    sku: str
    quantity: int


def order_id_for(customer_id: str, idempotency_key: str) -> UUID:
    """The order id that a customer's idempotency key stands for: the same key is the same order, for ever.

    The length prefix keeps (customer "a:b", key "c") apart from (customer "a", key "b:c"). Source: UUIDv5, RFC 9562.
    """
    return uuid5(ORDER_NAMESPACE, f"{len(customer_id)}:{customer_id}:{idempotency_key}")
