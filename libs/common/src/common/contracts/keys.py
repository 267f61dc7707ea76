"""The keys in Redis that more than one process uses. All keys of a customer carry the same hash tag."""

from uuid import UUID

from common.redis_client import hash_tag


def accepted_key(order_id: UUID, customer_id: str) -> str:
    """Written by the gateway after the ack; its life is shortened when the first view is published."""
    return f"accepted:{hash_tag(customer_id)}:{order_id}"


def view_key(order_id: UUID, customer_id: str) -> str:
    """The cached view: read by the gateway, filled by orders, written by the workers."""
    return f"view:{hash_tag(customer_id)}:{order_id}"
