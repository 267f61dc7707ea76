"""The timeline of an order: what was done about it, written in the transaction that did it.

Rule: one step for each record that was handled; a time-out is a step without a record. A record that comes again
raises the `attempt` of its step; a copy of a message at another offset is a step of its own, with a note.
Guarantees: a step stands if and only if its effect is committed, and once: the inbox let its message through once.
Limits: `attempt` counts committed handlings; one that was rolled back left nothing. Steps stand in the order of our
clocks: of two hosts one may be ahead. Not everything that we publish is a step: news that nobody acts on is not.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from uuid import UUID

from common.contracts.codec import Message
from common.contracts.commands import CancelOrder, PlaceOrder
from common.telemetry.tracing import trace_id_of
from orders.domain.order import Order
from orders.domain.ports import Process, Step
from orders.domain.saga import Decision

COPY = "copy: the same message was handled before"
CONFLICT = "conflict: another body under the same key was ignored"


def step_of(message: Message, now: datetime, moved: Order | None = None, note: str | None = None) -> Step:
    """The step of a record. `moved`: the order, if the message moved it."""
    record = message.record
    return Step(
        order_id=message.body.order_id,
        what=message.kind.__name__,
        handled_at=now,
        trace_id=trace_id_of(message.traceparent),
        status=moved.status.value if moved else None,
        version=moved.version if moved else None,
        note=note,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        logged_at=datetime.fromtimestamp(record.timestamp_ms / 1000, UTC),
    )


def command_steps(
    messages: Sequence[Message],
    new: Sequence[Message],
    placed: Mapping[UUID, Message],
    orders: Mapping[UUID, Order],
    now: datetime,
) -> tuple[list[Step], list[Step]]:
    """The steps of commands: those of records that came for the first time, and those that may have come before.

    `new`: let through by the inbox. `placed`: those that placed their order. `orders`: as they are stored now.
    """

    def note(message: Message) -> str | None:
        if isinstance(message.body, PlaceOrder) and conflicts(message.body, orders[message.body.order_id]):
            return CONFLICT
        return COPY

    again = dropped(messages, new)
    first = dropped(messages, again)
    steps: list[Step] = []
    for message in first:
        order = orders[message.body.order_id] if placed.get(message.body.order_id) is message else None
        expected = order is not None or isinstance(message.body, CancelOrder)
        steps.append(step_of(message, now, order, None if expected else note(message)))
    return steps, [step_of(message, now, note=note(message)) for message in again]


def time_out_step(process: Process, decision: Decision, now: datetime) -> Step:
    """The step of a saga that waited too long and asks again; `attempt` is how often it has asked again."""
    moved = process.order if decision.order else None
    return Step(
        order_id=process.order.order_id,
        what="StepTimedOut",
        handled_at=now,
        attempt=process.saga.attempts,
        trace_id=trace_id_of(process.traceparent),
        status=moved.status.value if moved else None,
        version=moved.version if moved else None,
        note=f"{decision.send.__name__} is sent again" if decision.send else None,
    )


def dropped(messages: Sequence[Message], kept: Sequence[Message]) -> list[Message]:
    """Those of `messages` that are not in `kept`: copies are equal and are still different records."""
    ids = {id(message) for message in kept}
    return [message for message in messages if id(message) not in ids]


def conflicts(asked: PlaceOrder, order: Order) -> bool:
    """Whether this asks for something else than the order that it names. Prices are ours: they may have changed."""
    return _wish(asked) != _wish(order)


def _wish(order: PlaceOrder | Order) -> tuple[object, ...]:
    lines = [(line.sku, line.quantity) for line in order.lines]
    return order.currency, order.client_reference, lines
