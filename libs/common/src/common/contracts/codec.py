"""Bytes to typed message and back: one decoder per topic, built from the unions of commands and events.

A record is JSON with its type and version in the field `type`; its id and its trace ride in the headers
`message-id` and `traceparent` (W3C Trace Context).
"""

import re
from dataclasses import dataclass
from typing import Any, get_args
from uuid import UUID

import msgspec

from common.contracts.commands import InventoryCommand, OrdersCommand, PaymentsCommand
from common.contracts.events import CatalogItem, InventoryEvent, OrderEvent, PaymentsEvent
from common.contracts.topics import Topic
from common.errors import PoisonError
from common.records import Headers, OutgoingRecord, Record

MESSAGE_ID = "message-id"
TRACEPARENT = "traceparent"

Body = OrdersCommand | InventoryCommand | PaymentsCommand | OrderEvent | InventoryEvent | PaymentsEvent | CatalogItem

TYPES: dict[str, Any] = {
    Topic.ORDERS_COMMANDS: OrdersCommand,
    Topic.ORDERS_EVENTS: OrderEvent,
    Topic.INVENTORY_COMMANDS: InventoryCommand,
    Topic.INVENTORY_EVENTS: InventoryEvent,
    Topic.PAYMENTS_COMMANDS: PaymentsCommand,
    Topic.PAYMENTS_EVENTS: PaymentsEvent,
    Topic.CATALOG_ITEMS: CatalogItem,
}
TOPIC_OF: dict[type, Topic] = {
    kind: Topic(topic) for topic, union in TYPES.items() for kind in get_args(union) or [union]
}
_DECODERS = {topic: msgspec.json.Decoder(union) for topic, union in TYPES.items()}
_TRACEPARENT = re.compile(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")  # the escape, and not a backslash before the letters
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Message:
    """A decoded record: what it says, who it is, and where it came from."""

    body: Any
    message_id: UUID
    traceparent: str | None
    record: Record

    @property
    def kind(self) -> type[Any]:
        """The class of the body."""
        return type(self.body)  # pyright: ignore[reportUnknownVariableType]


@dataclass(frozen=True, slots=True)
class Emitted:
    """A message to send, and the trace of the message that caused it."""

    body: Body
    traceparent: str | None


def key_of(body: Body) -> str:
    """The record key: the order id, or the sku of a catalog item."""
    return body.sku if isinstance(body, CatalogItem) else str(body.order_id)


def headers_of(message_id: UUID, traceparent: str | None) -> Headers:
    headers: list[tuple[str, bytes | None]] = [(MESSAGE_ID, str(message_id).encode())]
    if traceparent is not None:
        headers.append((TRACEPARENT, traceparent.encode()))
    return headers


def encode(body: Body) -> bytes:
    """The message as JSON, its type first."""
    return _encode(body)


def to_record(body: Body, message_id: UUID, traceparent: str | None) -> OutgoingRecord:
    """A message ready for its topic."""
    return OutgoingRecord(
        TOPIC_OF[type(body)], key_of(body).encode(), encode(body), headers_of(message_id, traceparent)
    )


def decode(record: Record) -> Message:
    """Read a record of one of our topics.

    Raises PoisonError when it has no valid id, no known type, a wrong form, a key that differs from its order, or what
    Postgres cannot hold.
    A malformed traceparent is ignored: no order fails for the sake of its trace.
    """
    raw_id, traceparent = record.header(MESSAGE_ID), record.header(TRACEPARENT)
    if raw_id is None:
        raise PoisonError(f"the header {MESSAGE_ID} is missing")
    try:
        message_id = UUID(raw_id.decode())
        body = _DECODERS[record.topic].decode(record.value or b"")
    except KeyError as error:
        raise PoisonError(f"unknown topic: {error}") from error
    except (ValueError, msgspec.MsgspecError) as error:
        raise PoisonError(f"unreadable record: {error}") from error
    if b"\\u0000" in (value := record.value or b"") and _NUL.search(value):
        raise PoisonError("a text with a NUL")
    if record.key != key_of(body).encode():
        raise PoisonError("the record's key differs from the id in its body")
    trace = traceparent.decode() if traceparent is not None and _TRACEPARENT.fullmatch(traceparent) else None
    return Message(body, message_id, trace, record)
