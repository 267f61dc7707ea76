"""The view of an order: the JSON that the gateway serves, byte for byte, made in one place.

In the cache the customer's id stands before the JSON, so that the gateway can refuse strangers without parsing it.
"""

from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import timedelta
from uuid import UUID

import msgspec

from common.cache import Value
from common.cache_writer import CacheWriter
from common.contracts.keys import accepted_key, view_key
from orders.domain.order import FINAL, Order

TTL_CHANGING = timedelta(seconds=10)
TTL_FINAL = timedelta(hours=1)


class OrderViews:
    """What the use cases tell the cache. Without a cache (in tests of other things) it tells nobody."""

    def __init__(self, writer: CacheWriter | None = None) -> None:
        self._writer = writer

    def writing(self, customers: Mapping[UUID, str]) -> AbstractAsyncContextManager[dict[str, Value]]:
        """Around the transaction that may change these orders; see `show`."""
        if self._writer is None:
            return nullcontext(dict[str, Value]())
        return self._writer.writing([view_key(order_id, customer_id) for order_id, customer_id in customers.items()])


def show(orders: Iterable[Order]) -> dict[str, Value]:
    """The cache's entries of these orders."""
    return {view_key(order.order_id, order.customer_id): to_value(order) for order in orders}


def to_value(order: Order) -> Value:
    payload = b"\n".join((order.customer_id.encode(), to_view(order)))
    ttl = TTL_FINAL if order.status in FINAL else TTL_CHANGING
    return Value(order.version, payload, ttl, companion=accepted_key(order.order_id, order.customer_id))


def to_view(order: Order) -> bytes:
    """The fields of the gateway's OrderView, in its order; a test compares."""
    view = {
        "order_id": order.order_id,
        "status": order.status.value,
        "reason": order.reason,
        "version": order.version,
        "currency": order.currency,
        "total_minor": order.total_minor,
        "lines": [
            {
                "sku": line.sku,
                "name": line.name,
                "quantity": line.quantity,
                "unit_price_minor": line.unit_price_minor,
            }
            for line in order.lines
        ],
        "client_reference": order.client_reference,
        "accepted_at": order.accepted_at,
        "updated_at": order.updated_at,
        "links": _links(f"/v1/orders/{order.order_id}"),
    }
    return msgspec.json.encode(view)


def _links(order: str) -> dict[str, str]:
    return {
        "self": order,
        "timeline": f"{order}/timeline",
        "events": f"{order}/events",
        "cancel": f"{order}/cancel",
    }
