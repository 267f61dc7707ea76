"""Postgres: the unit of work of orders, sagas, inbox and outbox. A batch is one statement, never row by row."""

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import fields
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from common.contracts.codec import Emitted, Message
from common.contracts.values import OrderLine
from common.inbox import Inbox
from common.outbox import Outbox
from common.postgres import transaction
from orders.adapters.tables import SCHEMA
from orders.domain.order import Order, OrderStatus
from orders.domain.ports import Process, Step, UnitOfWork
from orders.domain.saga import Saga, SagaState

# ON CONFLICT: the first record of an order wins, for ever. Lines are inserted for new orders only.
_INSERT_ORDERS = text("""
    WITH new AS (
        INSERT INTO orders.orders (order_id, customer_id, currency, total_minor, client_reference, accepted_at,
                                   updated_at, status, version)
        SELECT * FROM unnest(CAST(:order_ids AS uuid[]), CAST(:customers AS text[]), CAST(:currencies AS text[]),
                             CAST(:totals AS bigint[]), CAST(:client_references AS text[]),
                             CAST(:accepted AS timestamptz[]), CAST(:updated AS timestamptz[]),
                             CAST(:statuses AS text[]), CAST(:versions AS int[]))
        ON CONFLICT (order_id) DO NOTHING RETURNING order_id)
    INSERT INTO orders.order_lines (order_id, line_no, sku, name, quantity, unit_price_minor)
    SELECT line.* FROM unnest(CAST(:line_order_ids AS uuid[]), CAST(:line_nos AS smallint[]), CAST(:skus AS text[]),
                              CAST(:names AS text[]), CAST(:quantities AS int[]), CAST(:prices AS bigint[]))
                  AS line (order_id, line_no, sku, name, quantity, price)
    JOIN new USING (order_id)""")

_OWNERS = text("SELECT order_id, customer_id FROM orders.orders WHERE order_id = ANY(CAST(:ids AS uuid[]))")

_COLUMNS = """o.order_id, o.customer_id, o.currency, o.total_minor, o.client_reference, o.accepted_at, o.updated_at,
    o.status, o.reason, o.version, s.state, s.reason AS saga_reason, s.attempts, s.deadline, s.traceparent,
    ARRAY(SELECT (l.sku, l.name, l.quantity, l.unit_price_minor) FROM orders.order_lines l
          WHERE l.order_id = o.order_id ORDER BY l.line_no) AS lines
    FROM orders.orders o LEFT JOIN orders.sagas s USING (order_id)"""
# Lock first, read second. In one statement Postgres would lock the order as it is after the wait, and join the saga as
# it was before. Locked in the order of the ids, so that two processes wait for each other and do not deadlock.
_LOCK = text(
    "SELECT order_id FROM orders.orders WHERE order_id = ANY(CAST(:ids AS uuid[])) ORDER BY order_id FOR UPDATE"
)
_LOCK_DUE = text("""
    SELECT o.order_id FROM orders.orders o JOIN orders.sagas s USING (order_id)
    WHERE s.deadline <= :now ORDER BY o.order_id LIMIT :limit FOR UPDATE OF o SKIP LOCKED""")
_LOAD = text(f"SELECT {_COLUMNS} WHERE o.order_id = ANY(CAST(:ids AS uuid[])) ORDER BY o.order_id")

_UPDATE_ORDERS = text("""
    UPDATE orders.orders o SET status = n.status, reason = n.reason, version = n.version, updated_at = n.updated_at
    FROM unnest(CAST(:ids AS uuid[]), CAST(:statuses AS text[]), CAST(:reasons AS text[]), CAST(:versions AS int[]),
                CAST(:updated AS timestamptz[])) AS n (order_id, status, reason, version, updated_at)
    WHERE o.order_id = n.order_id AND o.version < n.version""")

_UPSERT_SAGAS = text("""
    INSERT INTO orders.sagas (order_id, state, reason, attempts, deadline, traceparent)
    SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:states AS text[]), CAST(:reasons AS text[]),
                         CAST(:attempts AS int[]), CAST(:deadlines AS timestamptz[]), CAST(:traces AS text[]))
    ON CONFLICT (order_id) DO UPDATE SET state = excluded.state, reason = excluded.reason,
        attempts = excluded.attempts, deadline = excluded.deadline""")

_STEP = 'order_id, what, handled_at, attempt, trace_id, status, version, note, topic, partition, "offset", logged_at'
_STEPS = """SELECT * FROM unnest(
        CAST(:order_id AS uuid[]), CAST(:what AS text[]), CAST(:handled_at AS timestamptz[]), CAST(:attempt AS int[]),
        CAST(:trace_id AS text[]), CAST(:status AS text[]), CAST(:version AS int[]), CAST(:note AS text[]),
        CAST(:topic AS text[]), CAST(:partition AS smallint[]), CAST(:offset AS bigint[]),
        CAST(:logged_at AS timestamptz[]))"""
_INSERT_STEPS = text(f"INSERT INTO orders.timeline ({_STEP}) {_STEPS}")
_REPEAT_STEPS = text(f"""
    WITH again AS ({_STEPS} AS step ({_STEP})),
    raised AS (
        UPDATE orders.timeline t SET attempt = t.attempt + 1 FROM again n
        WHERE (t.order_id, t.topic, t.partition, t."offset") = (n.order_id, n.topic, n.partition, n."offset")
        RETURNING t.topic, t.partition, t."offset")
    INSERT INTO orders.timeline ({_STEP})
    SELECT {_STEP} FROM again WHERE (topic, partition, "offset") NOT IN (SELECT * FROM raised)""")  # noqa: S608
_STEP_FIELDS = [field.name for field in fields(Step)]


class PostgresUnitOfWork:
    def __init__(self, connection: AsyncConnection, inbox: Inbox, outbox: Outbox) -> None:
        self._connection, self._inbox, self._outbox = connection, inbox, outbox

    async def take_new(self, messages: Sequence[Message]) -> list[Message]:
        return await self._inbox.take_new(self._connection, messages)

    async def emit(self, emitted: Sequence[Emitted]) -> None:
        await self._outbox.add(self._connection, emitted)

    async def add_orders(self, orders: Sequence[Order]) -> None:
        lines = [(o.order_id, number, line) for o in orders for number, line in enumerate(o.lines, 1)]
        await self._connection.execute(
            _INSERT_ORDERS,
            {
                "order_ids": [o.order_id for o in orders],
                "customers": [o.customer_id for o in orders],
                "currencies": [o.currency for o in orders],
                "totals": [o.total_minor for o in orders],
                "client_references": [o.client_reference for o in orders],
                "accepted": [o.accepted_at for o in orders],
                "updated": [o.updated_at for o in orders],
                "statuses": [o.status.value for o in orders],
                "versions": [o.version for o in orders],
                "line_order_ids": [order_id for order_id, _, _ in lines],
                "line_nos": [number for _, number, _ in lines],
                "skus": [line.sku for _, _, line in lines],
                "names": [line.name for _, _, line in lines],
                "quantities": [line.quantity for _, _, line in lines],
                "prices": [line.unit_price_minor for _, _, line in lines],
            },
        )

    async def owners(self, order_ids: Iterable[UUID]) -> dict[UUID, str]:
        rows = await self._connection.execute(_OWNERS, {"ids": list(order_ids)})
        return {row.order_id: row.customer_id for row in rows}

    async def load(self, order_ids: Iterable[UUID]) -> dict[UUID, Process]:
        locked = await self._connection.execute(_LOCK, {"ids": list(set(order_ids))})
        return await self._read(locked.scalars().all())

    async def load_due(self, now: datetime, limit: int) -> dict[UUID, Process]:
        locked = await self._connection.execute(_LOCK_DUE, {"now": now, "limit": limit})
        processes = await self._read(locked.scalars().all())
        return {i: p for i, p in processes.items() if p.saga.deadline is not None and p.saga.deadline <= now}

    async def save(self, processes: Sequence[Process]) -> None:
        orders = [p.order for p in processes]
        await self._connection.execute(
            _UPDATE_ORDERS,
            {
                "ids": [o.order_id for o in orders],
                "statuses": [o.status.value for o in orders],
                "reasons": [o.reason for o in orders],
                "versions": [o.version for o in orders],
                "updated": [o.updated_at for o in orders],
            },
        )
        sagas = [p for p in processes if p.saga.state is not None]
        await self._connection.execute(
            _UPSERT_SAGAS,
            {
                "ids": [p.order.order_id for p in sagas],
                "states": [p.saga.state for p in sagas],
                "reasons": [p.saga.reason for p in sagas],
                "attempts": [p.saga.attempts for p in sagas],
                "deadlines": [p.saga.deadline for p in sagas],
                "traces": [p.traceparent for p in sagas],
            },
        )

    async def record(self, steps: Sequence[Step], again: Sequence[Step] = ()) -> None:
        for statement, written in ((_INSERT_STEPS, steps), (_REPEAT_STEPS, again)):
            if written:
                await self._connection.execute(
                    statement, {name: [getattr(step, name) for step in written] for name in _STEP_FIELDS}
                )

    async def _read(self, order_ids: Sequence[UUID]) -> dict[UUID, Process]:
        rows = await self._connection.execute(_LOAD, {"ids": list(order_ids)})
        return {row.order_id: _process(row) for row in rows}


UnitOfWorkFactory = Callable[[], AbstractAsyncContextManager[UnitOfWork]]


def unit_of_work(engine: AsyncEngine, consumer: str) -> UnitOfWorkFactory:
    """A factory of transactions for `consumer`, the name that the inbox keeps its message ids under."""
    inbox, outbox = Inbox(SCHEMA, consumer), Outbox(SCHEMA)

    @asynccontextmanager
    async def begin() -> AsyncGenerator[UnitOfWork]:
        async with transaction(engine) as connection:
            yield PostgresUnitOfWork(connection, inbox, outbox)

    return begin


def _process(row: Any) -> Process:
    order = order_from_row(row)
    if row.state is None:
        return Process(order, Saga(order.order_id), None)
    saga = Saga(order.order_id, SagaState(row.state), row.saga_reason, row.attempts, row.deadline)
    return Process(order, saga, row.traceparent)


def order_from_row(row: Any) -> Order:
    return Order(
        order_id=row.order_id,
        customer_id=row.customer_id,
        currency=row.currency,
        total_minor=row.total_minor,
        lines=tuple(OrderLine(sku=s, name=n, quantity=q, unit_price_minor=p) for s, n, q, p in row.lines),
        client_reference=row.client_reference,
        accepted_at=row.accepted_at,
        updated_at=row.updated_at,
        status=OrderStatus(row.status),
        reason=row.reason,
        version=row.version,
    )
