"""What the demo reads in Postgres: which orders have become final, and the books of orders and stock."""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# (asyncpg carries no types; we hand out our own)

from collections import Counter
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import asyncpg

from common.errors import InfrastructureError
from demo.books import FINAL, OrdersBook, StockBook, StoredOrder

ROWS_AT_ONCE = 5_000
NOT_STORED = "not stored"

STACK = """
    SELECT format('%s/%s', system_identifier, oid)
    FROM pg_control_system(), pg_database WHERE datname = current_database()"""
STATUSES = "SELECT order_id::text, status FROM orders.orders WHERE order_id = ANY($1::uuid[])"
ORDERS = """
    SELECT o.order_id::text, o.customer_id, o.total_minor, coalesce(l.lines_minor, 0), o.status, o.currency
    FROM orders.orders o
    LEFT JOIN (SELECT order_id, sum(quantity * unit_price_minor)::bigint AS lines_minor
               FROM orders.order_lines GROUP BY order_id) l USING (order_id)"""
TAKEN = "SELECT sku, initial - available FROM inventory.items"
RESERVED = """
    SELECT line.sku, sum(line.quantity)::bigint
    FROM inventory.reservations, jsonb_to_recordset(lines) AS line(sku text, quantity int)
    WHERE state = 'reserved' GROUP BY line.sku"""
HOLDERS = "SELECT order_id::text FROM inventory.reservations WHERE state = 'reserved'"


class Database:
    """Read access with time-outs; a lost connection is made again. Every method raises InfrastructureError."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    async def stack(self) -> str:
        """A name of this very database: another one answers another name, and so does the same one made anew."""
        with _infrastructure():
            return str(await self._pool.fetchval(STACK))

    async def final_among(self, order_ids: Sequence[str]) -> dict[str, str]:
        """Id and status of those that are final."""
        with _infrastructure():
            rows = await self._pool.fetch(f"{STATUSES} AND status = ANY($2)", order_ids, FINAL)
        return dict(rows)

    async def count_states(self, order_ids: Sequence[str]) -> Counter[str]:
        """How many of the orders are in each state."""
        with _infrastructure():
            rows = await self._pool.fetch(STATUSES, order_ids)
        states = Counter[str](status for _, status in rows)
        states[NOT_STORED] = len(order_ids) - len(rows)
        return +states

    async def read_books(self) -> tuple[OrdersBook, StockBook]:
        """Orders and stock as they were at one moment."""
        with _infrastructure():
            async with (
                self._pool.acquire() as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                return await _read_orders(connection), await _read_stock(connection)


@asynccontextmanager
async def connect(database_url: str) -> AsyncGenerator[Database]:
    """Connections to a `postgresql://` address, made when they are first needed."""
    pool = asyncpg.create_pool(database_url, min_size=0, max_size=1, timeout=5, command_timeout=30)
    await pool
    try:
        yield Database(pool)
    finally:
        pool.terminate()  # it only reads: nothing to wait for


async def _read_orders(connection: Any) -> OrdersBook:
    book = OrdersBook()
    async for order_id, *columns in connection.cursor(ORDERS, prefetch=ROWS_AT_ONCE):
        if order_id in book.orders:
            book.twice.append(order_id)
        book.orders[order_id] = StoredOrder(*columns)
    return book


async def _read_stock(connection: Any) -> StockBook:
    book = StockBook(taken=dict(await connection.fetch(TAKEN)), reserved=dict(await connection.fetch(RESERVED)))
    async for (order_id,) in connection.cursor(HOLDERS, prefetch=ROWS_AT_ONCE):
        if order_id in book.holders:
            book.twice.append(order_id)
        book.holders.add(order_id)
    return book


@contextmanager
def _infrastructure() -> Generator[None]:
    """Turns what asyncpg and the network raise into InfrastructureError."""
    try:
        yield
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        raise InfrastructureError(f"Postgres: {error or type(error).__name__}") from error
