"""What each topic may meet: a message that can be applied, and records that never can."""

import json
import os
from typing import Any
from uuid import UUID, uuid4

from builders import TRACEPARENT, place_order
from common.contracts import commands, events
from common.contracts.codec import MESSAGE_ID, Body, headers_of
from common.contracts.topics import Topic
from common.records import OutgoingRecord

LARGEST = 1_048_300  # with key, headers and the batch around it 1,048,5xx bytes: a broker takes 1,048,588

CONSUMER_OF = {
    Topic.ORDERS_COMMANDS: "order_writer",
    Topic.ORDERS_EVENTS: "saga_runner",
    Topic.INVENTORY_EVENTS: "saga_runner",
    Topic.PAYMENTS_EVENTS: "saga_runner",
    Topic.INVENTORY_COMMANDS: "inventory",
    Topic.PAYMENTS_COMMANDS: "payments",
}
SCHEMA_OF = {"order_writer": "orders", "saga_runner": "orders", "inventory": "inventory", "payments": "payments"}


def a_good_message(topic: Topic, order_id: UUID) -> Body:
    """One that can be applied to any order that exists; on orders.commands, the order itself."""
    match topic:
        case Topic.ORDERS_COMMANDS:
            return place_order(order_id)
        case Topic.ORDERS_EVENTS:
            return events.OrderCancelRequested(order_id=order_id)
        case Topic.INVENTORY_EVENTS:
            return events.StockReserved(order_id=order_id)
        case Topic.PAYMENTS_EVENTS:
            return events.PaymentAuthorized(order_id=order_id)
        case Topic.INVENTORY_COMMANDS:
            return commands.ReleaseStock(order_id=order_id)
        case _:
            return commands.VoidPayment(order_id=order_id)


def poison(topic: Topic, good: OutgoingRecord) -> dict[str, OutgoingRecord]:
    def bad(content: bytes | None, headers: Any = None, key: bytes | None = good.key) -> OutgoingRecord:
        return OutgoingRecord(topic, key, content, headers_of(uuid4(), TRACEPARENT) if headers is None else headers)

    def changed(**fields: Any) -> bytes:
        return json.dumps(json.loads(good.value or b"") | fields).encode()

    many = [*headers_of(uuid4(), None), ("twice", b"1"), ("twice", None), ("large", b"x" * 10_000), ("twice", b"")]
    kind = json.loads(good.value or b"")["type"]
    cases = {
        "empty": bad(b""),
        "null": bad(None),
        "not JSON": bad(b"\xff\x00 not json"),
        "largest": bad(os.urandom(LARGEST)),
        "unknown version": bad(changed(type=kind.replace(".v1", ".v99"))),
        "unknown type": bad(changed(type="Nonsense.v1")),
        "no headers": bad(good.value, []),
        "null id": bad(good.value, [(MESSAGE_ID, None)]),
        "headers of 10 kB, repeated, null": bad(b"{", many),
        "a good body of another order": bad(changed(order_id=str(uuid4()))),
    }
    if topic is Topic.ORDERS_COMMANDS:
        cases["1970"] = bad(changed(accepted_at="1970-01-01T00:00:00Z"))
        cases["2100"] = bad(changed(accepted_at="2100-01-01T00:00:00Z"))
    return cases
