"""Orders whose PlaceOrder ended in the dead letter topic: accepted, never placed, waiting for a person.

Rule: every poison record of `orders.commands` leaves the id in its key, the one thing known of a record that nobody can
read. The id counts only while there is no order of that id, so a later replay needs to clean up nothing, and a
poisoned CancelOrder does no harm.
Limits: whose order it is stays unknown here; the gateway's accepted marker knows.
"""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from common.postgres import transaction
from common.records import Record

_REMEMBER = text("INSERT INTO orders.dead_orders (order_id) SELECT unnest(CAST(:ids AS uuid[])) ON CONFLICT DO NOTHING")


async def remember_dead_orders(engine: AsyncEngine, poison: Sequence[Record]) -> None:
    """Safe to repeat. A key that is no UUID names no order of ours."""
    ids = {order_id for record in poison if (order_id := _order_id(record.key)) is not None}
    if ids:
        async with transaction(engine) as connection:
            await connection.execute(_REMEMBER, {"ids": sorted(ids)})


def _order_id(key: bytes | None) -> UUID | None:
    try:
        return UUID((key or b"").decode())
    except ValueError:
        return None
