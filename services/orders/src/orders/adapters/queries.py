"""The reading side: one order, and a customer's orders in keyset pages."""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from common.postgres import transaction
from orders.adapters.postgres import order_from_row
from orders.domain.order import Order
from orders.domain.ports import Step
from orders.domain.saga import SagaState

_COLUMNS = """o.order_id, o.customer_id, o.currency, o.total_minor, o.client_reference, o.accepted_at, o.updated_at,
    o.status, o.reason, o.version,
    ARRAY(SELECT (l.sku, l.name, l.quantity, l.unit_price_minor) FROM orders.order_lines l
          WHERE l.order_id = o.order_id ORDER BY l.line_no) AS lines
    FROM orders.orders o"""
_GET = text(f"SELECT {_COLUMNS} WHERE o.order_id = :order_id AND o.customer_id = :customer_id")
_TIMELINE = text("""
    SELECT o.order_id, t.what, t.handled_at, t.attempt, t.trace_id, t.status, t.version, t.note, t.topic, t.partition,
           t."offset", t.logged_at
    FROM orders.orders o LEFT JOIN orders.timeline t USING (order_id)
    WHERE o.order_id = :order_id AND o.customer_id = :customer_id
    ORDER BY t.handled_at, t.logged_at, t."offset" LIMIT 1000""")
_DEAD = text("SELECT died_at FROM orders.dead_orders WHERE order_id = :order_id")
_OPEN_SAGAS = text("""
    SELECT s.state, min(o.accepted_at) AS oldest, count(*) FILTER (WHERE o.status = 'needs_attention') AS need_attention
    FROM orders.sagas s JOIN orders.orders o USING (order_id) WHERE s.deadline IS NOT NULL GROUP BY s.state""")
_PAGE = text(f"""
    SELECT {_COLUMNS}
    WHERE o.customer_id = :customer_id AND (CAST(:status AS text) IS NULL OR o.status = :status)
      AND (CAST(:before AS timestamptz) IS NULL
           OR (o.accepted_at, o.order_id) < (CAST(:before AS timestamptz), CAST(:before_id AS uuid)))
    ORDER BY o.accepted_at DESC, o.order_id DESC LIMIT :limit""")


@dataclass(frozen=True, slots=True)
class Page:
    """Newest first. `next_cursor` is None on the last page."""

    orders: Sequence[Order]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class OpenSagas:
    """Those in one state: when the oldest of their orders was accepted, and how many show that they wait."""

    oldest: datetime
    need_attention: int


class OrderQueries:
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def get(self, order_id: UUID, customer_id: str) -> Order | None:
        """The order, if it exists and is this customer's. Raises InfrastructureError when Postgres is away."""
        async with transaction(self._engine, deadline_s=2) as connection:
            row = (await connection.execute(_GET, {"order_id": order_id, "customer_id": customer_id})).one_or_none()
        return order_from_row(row) if row else None

    async def open_sagas(self) -> dict[SagaState, OpenSagas]:
        async with transaction(self._engine, deadline_s=10) as connection:
            rows = await connection.execute(_OPEN_SAGAS)
            return {SagaState(row.state): OpenSagas(row.oldest, row.need_attention) for row in rows}

    async def died_at(self, order_id: UUID) -> datetime | None:
        """When a record of this order went to the dead letter topic. Means something only if there is no order."""
        async with transaction(self._engine, deadline_s=2) as connection:
            return (await connection.execute(_DEAD, {"order_id": order_id})).scalar_one_or_none()

    async def timeline(self, order_id: UUID, customer_id: str) -> list[Step] | None:
        """The steps of an order, oldest first, 1,000 at most; None if it does not exist or is somebody else's."""
        async with transaction(self._engine, deadline_s=2) as connection:
            rows = (
                (await connection.execute(_TIMELINE, {"order_id": order_id, "customer_id": customer_id}))
                .mappings()
                .all()
            )
        if not rows:
            return None
        return [Step(**row) for row in rows if row["what"] is not None]  # none: it is older than the timeline

    async def page(self, customer_id: str, *, status: str | None, limit: int, cursor: str | None) -> Page:
        """A customer's orders. Raises ValueError for a cursor that `page` did not make."""
        before, before_id = _decode_cursor(cursor) if cursor else (None, None)
        async with transaction(self._engine, deadline_s=2) as connection:
            rows = await connection.execute(
                _PAGE,
                {
                    "customer_id": customer_id,
                    "status": status,
                    "before": before,
                    "before_id": before_id,
                    "limit": limit + 1,  # one more tells whether there is a next page
                },
            )
            found = [order_from_row(row) for row in rows]
        orders = found[:limit]
        return Page(orders, _encode_cursor(orders[-1]) if len(found) > limit else None)


def _encode_cursor(last: Order) -> str:
    return base64.urlsafe_b64encode(f"{last.accepted_at.isoformat()}|{last.order_id}".encode()).decode()


def _decode_cursor(cursor: str) -> tuple[datetime, UUID]:
    try:
        moment, order_id = base64.urlsafe_b64decode(cursor.encode()).decode().split("|")
        before = datetime.fromisoformat(moment)
        if before.tzinfo is None:
            raise ValueError("no time zone")
        return before, UUID(order_id)
    except (ValueError, binascii.Error) as error:
        raise ValueError("not a cursor of ours") from error
