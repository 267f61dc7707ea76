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
