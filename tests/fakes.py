"""Fakes of our ports. Each passes the contract suite of the real adapter: tests/contract."""

import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID, uuid4

from common.cache import Hit, Lease, Miss, Value
from common.contracts.codec import Emitted, Message
from common.errors import InfrastructureError
from orders.adapters.postgres import UnitOfWorkFactory
from orders.domain.order import Order
from orders.domain.ports import Process, Step, UnitOfWork
from orders.domain.saga import Saga
from workers.payment import Payment
from workers.provider import UnclearError


@dataclass
class FakeDatabase:
    """What is committed."""

    orders: dict[UUID, Order] = field(default_factory=dict[UUID, Order])
    sagas: dict[UUID, tuple[Saga, str | None]] = field(default_factory=dict[UUID, tuple[Saga, str | None]])
    inbox: set[tuple[str, UUID]] = field(default_factory=set[tuple[str, UUID]])
    outbox: list[Emitted] = field(default_factory=list[Emitted])
    timeline: list[Step] = field(default_factory=list[Step])

    def unit_of_work(self, consumer: str) -> UnitOfWorkFactory:
        @asynccontextmanager
        async def begin() -> AsyncGenerator[UnitOfWork]:
            copy = deepcopy(self)
            yield FakeUnitOfWork(copy, consumer)
            self.__dict__.update(copy.__dict__)  # not reached when the block raises: that is the rollback

        return begin


class FakeUnitOfWork:
    """One transaction at a time; locks are not simulated."""

    def __init__(self, database: FakeDatabase, consumer: str) -> None:
        self._database, self._consumer = database, consumer

    async def take_new(self, messages: Sequence[Message]) -> list[Message]:
        new: list[Message] = []
        for message in messages:
            if (self._consumer, message.message_id) not in self._database.inbox:
                self._database.inbox.add((self._consumer, message.message_id))
                new.append(message)
        return new

    async def add_orders(self, orders: Sequence[Order]) -> None:
        for order in orders:
            self._database.orders.setdefault(order.order_id, deepcopy(order))

    async def owners(self, order_ids: Iterable[UUID]) -> dict[UUID, str]:
        return {i: self._database.orders[i].customer_id for i in order_ids if i in self._database.orders}

    async def load(self, order_ids: Iterable[UUID]) -> dict[UUID, Process]:
        return {i: self._process(i) for i in sorted(set(order_ids)) if i in self._database.orders}

    async def load_due(self, now: datetime, limit: int) -> dict[UUID, Process]:
        sagas = self._database.sagas.items()
        due = sorted(i for i, (saga, _) in sagas if saga.deadline is not None and saga.deadline <= now)
        return {i: self._process(i) for i in due[:limit]}

    async def save(self, processes: Sequence[Process]) -> None:
        for process in processes:
            order, stored = process.order, self._database.orders[process.order.order_id]
            if stored.version < order.version:
                self._database.orders[order.order_id] = deepcopy(order)
            if process.saga.state is not None:
                self._database.sagas[order.order_id] = deepcopy((process.saga, process.traceparent))

    async def emit(self, emitted: Sequence[Emitted]) -> None:
        self._database.outbox += emitted

    async def record(self, steps: Sequence[Step], again: Sequence[Step] = ()) -> None:
        timeline = self._database.timeline
        timeline += steps
        for step in again:
            place = (step.order_id, step.topic, step.partition, step.offset)
            found = [i for i, s in enumerate(timeline) if (s.order_id, s.topic, s.partition, s.offset) == place]
            for i in found:
                timeline[i] = replace(timeline[i], attempt=timeline[i].attempt + 1)
            timeline += [] if found else [step]

    def _process(self, order_id: UUID) -> Process:
        saga, traceparent = self._database.sagas.get(order_id, (Saga(order_id), None))
        return Process(deepcopy(self._database.orders[order_id]), deepcopy(saga), traceparent)


class FakePaymentProvider:
    """A provider with a book. `faults`: what the next calls do, one word each: `lost` works and then loses the reply,
    `away` does nothing and does not answer."""

    def __init__(self) -> None:
        self.book: dict[UUID, str] = {}
        self.calls: list[tuple[str, UUID]] = []
        self.charges: dict[UUID, int] = {}
        self.faults: list[str] = []
        self.declines: set[UUID] = set()

    async def authorize(self, payment: Payment) -> str:
        status = "declined" if payment.order_id in self.declines else "authorized"
        return self._answer("authorize", payment.order_id, {None: status})

    async def capture(self, order_id: UUID) -> str:
        if order_id not in self.book:
            self.calls.append(("capture", order_id))
            return "unknown"
        return self._answer("capture", order_id, {"authorized": "captured"}, refused=("declined", "voided"))

    async def void(self, order_id: UUID) -> str:
        return self._answer("void", order_id, {None: "voided", "authorized": "voided"}, refused=("captured",))

    async def ask(self, order_id: UUID) -> str | None:
        answer = self._answer("ask", order_id, {})
        return None if answer == "unknown" else answer

    def _answer(
        self, operation: str, order_id: UUID, moves: dict[str | None, str], refused: tuple[str, ...] = ()
    ) -> str:
        self.calls.append((operation, order_id))
        fault = self.faults.pop(0) if self.faults else ""
        known = self.book.get(order_id)
        if fault == "away" or known in refused:
            raise UnclearError(f"{operation}: {fault or known}")
        if known in moves:
            self.book[order_id] = moves[known]
            if moves[known] == "captured":
                self.charges[order_id] = self.charges.get(order_id, 0) + 1
        if fault == "lost":
            raise UnclearError(f"{operation}: the reply was lost")
        return self.book.get(order_id, "unknown")


@dataclass
class _Entry:
    value: tuple[Value, float] | None = None
    lease: str = ""
    writers: set[str] = field(default_factory=set[str])
    newest: int = 0


class FakeCache:
    """One process, no time-outs of leases and marks. `away`: it does not answer."""

    def __init__(self) -> None:
        self.away = False
        self.marked: list[list[str]] = []
        self._entries: defaultdict[str, _Entry] = defaultdict(_Entry)

    async def get(self, key: str, *, take_over: bool = False) -> Hit | Lease | Miss:
        entry = self._entry(key)
        if entry.value and entry.value[1] > time.monotonic():
            return Hit(entry.value[0].version, entry.value[0].payload)
        if entry.writers:
            return Miss.BYPASS
        if entry.lease and not take_over:
            return Miss.WAIT
        entry.lease = uuid4().hex
        return Lease(entry.lease)

    async def fill(self, key: str, token: str, value: Value | None) -> None:
        if self._entry(key).lease == token:
            self._entries[key] = _Entry(_until(value) if value else None)

    async def mark(self, keys: Sequence[str]) -> str:
        writer = uuid4().hex
        for key in keys:
            entry = self._entry(key)
            entry.value, entry.lease = None, ""
            entry.writers.add(writer)
        self.marked.append(list(keys))
        return writer

    async def publish(self, writer: str, values: Mapping[str, Value]) -> None:
        for key, value in values.items():
            entry = self._entry(key)
            mine = writer in entry.writers
            entry.writers.discard(writer)
            if entry.writers:
                entry.newest = max(entry.newest, value.version)
            else:
                sets = mine and value.version >= entry.newest and value.ttl
                self._entries[key] = _Entry(_until(value) if sets else None)

    def _entry(self, key: str) -> _Entry:
        if self.away:
            raise InfrastructureError("the fake cache is away")
        return self._entries[key]


def _until(value: Value) -> tuple[Value, float]:
    return value, time.monotonic() + value.ttl.total_seconds()
