"""What the use cases need from the outside: the repository of orders and their sagas, in whole batches."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from common.contracts.codec import Emitted, Message
from orders.domain.order import Order
from orders.domain.saga import Saga


@dataclass(slots=True)
class Process:
    """An order with its saga, as one unit of work, and the trace of the request that began it."""

    order: Order
    saga: Saga
    traceparent: str | None


@dataclass(frozen=True, slots=True)
class Step:
    """One step of an order's timeline: what was handled, where it stood in the log, and where the order stood after it.

    `status` and `version` are None when it did not move the order; a time-out has no place in the log.
    """

    order_id: UUID
    what: str
    handled_at: datetime
    attempt: int = 1
    trace_id: str | None = None
    status: str | None = None
    version: int | None = None
    note: str | None = None
    topic: str | None = None
    partition: int | None = None
    offset: int | None = None
    logged_at: datetime | None = None


class UnitOfWork(Protocol):
    """One database transaction over orders, sagas, inbox and outbox. Everything in it happens, or nothing does."""

    async def take_new(self, messages: Sequence[Message]) -> list[Message]:
        """Those messages that were never applied before; they are now marked as applied."""
        ...

    async def add_orders(self, orders: Sequence[Order]) -> None:
        """Insert new orders. One whose id exists already is left as it is: the first record wins."""
        ...

    async def owners(self, order_ids: Iterable[UUID]) -> dict[UUID, str]:
        """The customer of each of these orders that exists."""
        ...

    async def load(self, order_ids: Iterable[UUID]) -> dict[UUID, Process]:
        """These orders with their sagas, locked until the transaction ends. An order without a saga gets a new one."""
        ...

    async def load_due(self, now: datetime, limit: int) -> dict[UUID, Process]:
        """Orders whose saga waited beyond its deadline, locked; those that another process holds are left out."""
        ...

    async def save(self, processes: Sequence[Process]) -> None:
        """Write back orders and sagas."""
        ...

    async def emit(self, emitted: Sequence[Emitted]) -> None:
        """Put messages into the outbox, in this order."""
        ...

    async def record(self, steps: Sequence[Step], again: Sequence[Step] = ()) -> None:
        """Write steps into the timelines of their orders. `again`: of records that may stand there already; those that
        do get one attempt more, the others are written."""
        ...
