"""What clients send and get: unknown fields are refused, types are strict; of a key twice in one object the last wins.

Money is integer minor units of an ISO 4217 currency; times are UTC.
"""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from gateway.problems import MALFORMED_REQUEST, FieldError, Problem, field_errors, invalid_fields

Status = Literal[
    "accepted", "placed", "reserved", "authorized", "confirmed", "rejected", "cancelled", "needs_attention"
]
Sku = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]  # a Rust regex: `$` is the very end
# What JSON's grammar allows and no UTF-8 text or integer of ours can hold: a bad value, not a bad body
_UNREPRESENTABLE = ("surrogate", "hex escape", "number out of range")


class NewLine(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    sku: Sku
    quantity: Annotated[int, Field(ge=1, le=1_000)]


class NewOrder(BaseModel):
    """An order to place. Each sku may stand on one line only; all items must be sold in `currency`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    currency: Annotated[str, Field(pattern="^[A-Z]{3}$", description="ISO 4217")]
    lines: Annotated[list[NewLine], Field(min_length=1, max_length=100)]
    client_reference: Annotated[
        str | None, Field(max_length=200, pattern=r"^[^\x00]*$", description="yours, kept as it is")
    ] = None


class OrderLinks(BaseModel):
    self: str
    timeline: str
    events: str
    cancel: str


class Accepted(BaseModel):
    """The wish is in the log on every in-sync replica; ask `links.self` for what becomes of it."""

    order_id: UUID
    status: Literal["accepted"] = "accepted"
    links: OrderLinks


class LineView(BaseModel):
    sku: str
    name: str
    quantity: int
    unit_price_minor: int


class OrderView(BaseModel):
    """An order. While `version` is 0 it is not placed yet, and what was ordered is not shown: `accepted`, or
    `needs_attention` when nobody could read it."""

    order_id: UUID
    status: str
    reason: str | None = None
    version: int
    currency: str | None = None
    total_minor: int | None = None
    lines: list[LineView] | None = None
    client_reference: str | None = None
    accepted_at: datetime
    updated_at: datetime
    links: OrderLinks


class TimelineStep(BaseModel):
    """Something that was done about an order: a record of the log was handled, or a timer was due.

    `what`: the type of the message. `logged_at`: when it was written to the log. `status` and `version`: where the
    order stood after it, if it moved the order. `attempt`: how often this record was handled. `note`: why it changed
    nothing, say.
    """

    what: str
    handled_at: datetime
    logged_at: datetime | None = None
    status: str | None = None
    version: int | None = None
    topic: str | None = None
    partition: int | None = None
    offset: int | None = None
    attempt: int = 1
    trace_id: str | None = None
    note: str | None = None


class Timeline(BaseModel):
    """Oldest first. The first step says when the order was accepted."""

    order_id: UUID
    steps: list[TimelineStep]


class OrderPage(BaseModel):
    """Newest first; `next_cursor` is null on the last page."""

    orders: list[OrderView]
    next_cursor: str | None


class ItemView(BaseModel):
    sku: str
    name: str
    currency: str
    price_minor: int


class CatalogPage(BaseModel):
    """In the order of the sku; `next_cursor` is null on the last page."""

    items: list[ItemView]
    next_cursor: str | None


_NEW_ORDER = TypeAdapter(NewOrder)


def parse_order(body: bytes) -> NewOrder:
    """Raises the problem 400 for what is not JSON, 422 with every bad field for what is not an order."""
    if not body:
        raise invalid_fields([FieldError("", "missing", "A body is needed")])
    try:
        return _NEW_ORDER.validate_json(body)
    except ValidationError as error:
        errors = field_errors(error.errors(include_url=False, include_input=False, include_context=False))
    if errors[0].code != "json_invalid" or any(words in errors[0].detail for words in _UNREPRESENTABLE):
        raise invalid_fields(errors)
    raise Problem(MALFORMED_REQUEST, errors[0].detail)


def accepted_json(order_id: UUID) -> str:
    """The body of a 202, an Accepted. From a template: making the model each time costs ten times as much."""
    return _ACCEPTED_NIL.replace(_NIL, str(order_id))


def links_to(order_id: UUID) -> OrderLinks:
    order = f"/v1/orders/{order_id}"
    return OrderLinks(self=order, timeline=f"{order}/timeline", events=f"{order}/events", cancel=f"{order}/cancel")


_NIL = str(UUID(int=0))
_ACCEPTED_NIL = Accepted(order_id=UUID(int=0), links=links_to(UUID(int=0))).model_dump_json()
