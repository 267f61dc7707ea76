"""inventory: reserves the stock of an order, all lines or nothing, and gives it back.

Rule: the natural key is the order. A second ReserveStock is answered with what the first one did; a ReleaseStock that
comes first leaves a tombstone, so that a late reserve is ignored.
Guarantees: stock is never negative (a CHECK says so too); what is reserved is taken exactly once.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from common.contracts import commands
from common.contracts.codec import Emitted, Message
from common.contracts.topics import Topic
from common.contracts.values import StockLine
from common.inbox import Inbox
from common.outbox import Outbox
from common.postgres import transaction
from workers.resources import Resources
from workers.stock import Reservation, ReservationState, Shelf
from workers.tables import INVENTORY
from workers.worker import ConsumingWorker

_RESERVATIONS = text(
    "SELECT order_id, state, lines, short_sku FROM inventory.reservations WHERE order_id = ANY(CAST(:ids AS uuid[])) "
    "ORDER BY order_id FOR UPDATE"
)
# in the order of the skus, so that two processes wait for each other and do not deadlock
_ITEMS = text(
    "SELECT sku, available FROM inventory.items WHERE sku = ANY(CAST(:skus AS text[])) ORDER BY sku FOR UPDATE"
)
_SAVE_RESERVATIONS = text("""
    INSERT INTO inventory.reservations (order_id, state, lines, short_sku)
    SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:states AS text[]), CAST(:lines AS jsonb[]),
                         CAST(:shorts AS text[]))
    ON CONFLICT (order_id) DO UPDATE SET state = excluded.state, short_sku = excluded.short_sku""")
_SAVE_ITEMS = text("""
    UPDATE inventory.items i SET available = n.available
    FROM unnest(CAST(:skus AS text[]), CAST(:available AS int[])) AS n (sku, available) WHERE i.sku = n.sku""")


def build(resources: Resources) -> ConsumingWorker:
    inventory = Inventory(resources.engine)
    return ConsumingWorker(resources.consumer("inventory", [Topic.INVENTORY_COMMANDS], inventory.apply))


class Inventory:
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._inbox, self._outbox = Inbox(INVENTORY, "inventory"), Outbox(INVENTORY)

    async def apply(self, messages: Sequence[Message]) -> None:
        """Apply a batch of commands in one transaction; safe to repeat."""
        async with transaction(self._engine) as connection:
            new = await self._inbox.take_new(connection, messages)
            shelf = await self._load(connection, new)
            replies = [(shelf.handle(m.body), m.traceparent) for m in new]
            await self._save(connection, shelf)
            await self._outbox.add(connection, [Emitted(reply, trace) for reply, trace in replies if reply is not None])

    async def _load(self, connection: AsyncConnection, messages: Sequence[Message]) -> Shelf:
        rows = await connection.execute(_RESERVATIONS, {"ids": list({m.body.order_id for m in messages})})
        reservations = {row.order_id: _reservation(row) for row in rows}
        skus = {line.sku for m in messages if isinstance(m.body, commands.ReserveStock) for line in m.body.lines}
        skus |= {line.sku for r in reservations.values() for line in r.lines}
        rows = await connection.execute(_ITEMS, {"skus": list(skus)})
        return Shelf({row.sku: row.available for row in rows}, reservations)

    async def _save(self, connection: AsyncConnection, shelf: Shelf) -> None:
        changed = [(order_id, shelf.reservations[order_id]) for order_id in shelf.changed_orders]
        if not changed:
            return
        await connection.execute(
            _SAVE_RESERVATIONS,
            {
                "ids": [order_id for order_id, _ in changed],
                "states": [r.state for _, r in changed],
                "lines": [msgspec.json.encode(r.lines).decode() for _, r in changed],
                "shorts": [r.short_sku for _, r in changed],
            },
        )
        skus = sorted(shelf.changed_skus)
        await connection.execute(_SAVE_ITEMS, {"skus": skus, "available": [shelf.available[sku] for sku in skus]})


def _reservation(row: Any) -> Reservation:
    return Reservation(ReservationState(row.state), msgspec.convert(row.lines, tuple[StockLine, ...]), row.short_sku)
