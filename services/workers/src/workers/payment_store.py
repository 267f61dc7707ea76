"""Payments in Postgres, in whole batches; a version on each row tells when another process was faster."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from common.errors import InfrastructureError
from workers.payment import Payment, PaymentState

_COLUMNS = "order_id, customer_id, currency, amount_minor, state, version, attempts, next_attempt_at, traceparent"
_LOAD = text(f"SELECT {_COLUMNS} FROM payments.payments WHERE order_id = ANY(CAST(:ids AS uuid[]))")  # noqa: S608
_LOAD_DUE = text(
    f"SELECT {_COLUMNS} FROM payments.payments WHERE next_attempt_at <= :now ORDER BY next_attempt_at LIMIT :limit"  # noqa: S608
)
_SAVE = text(f"""
    INSERT INTO payments.payments ({_COLUMNS})
    SELECT order_id, customer_id, currency, amount, state, version + 1, attempts, next_attempt_at, traceparent
    FROM unnest(CAST(:ids AS uuid[]), CAST(:customers AS text[]), CAST(:currencies AS text[]),
                CAST(:amounts AS bigint[]), CAST(:states AS text[]), CAST(:versions AS int[]), CAST(:attempts AS int[]),
                CAST(:next_attempts AS timestamptz[]), CAST(:traces AS text[]))
         AS n (order_id, customer_id, currency, amount, state, version, attempts, next_attempt_at, traceparent)
    ORDER BY order_id
    ON CONFLICT (order_id) DO UPDATE SET state = excluded.state, version = excluded.version,
        attempts = excluded.attempts, next_attempt_at = excluded.next_attempt_at
    WHERE payments.version = excluded.version - 1""")  # noqa: S608


async def load(connection: AsyncConnection, order_ids: Iterable[UUID]) -> dict[UUID, Payment]:
    rows = await connection.execute(_LOAD, {"ids": list(order_ids)})
    return {row.order_id: _payment(row) for row in rows}


async def load_due(connection: AsyncConnection, now: datetime, limit: int) -> list[Payment]:
    """Open payments whose next attempt has come, the longest waiting first."""
    return [_payment(row) for row in await connection.execute(_LOAD_DUE, {"now": now, "limit": limit})]


async def save(connection: AsyncConnection, payments: Sequence[Payment]) -> None:
    """Write the payments, each one version on. Raises InfrastructureError when one was changed since it was loaded."""
    if not payments:
        return
    result = await connection.execute(
        _SAVE,
        {
            "ids": [p.order_id for p in payments],
            "customers": [p.customer_id for p in payments],
            "currencies": [p.currency for p in payments],
            "amounts": [p.amount_minor for p in payments],
            "states": [p.state.value for p in payments],
            "versions": [p.version for p in payments],
            "attempts": [p.attempts for p in payments],
            "next_attempts": [p.next_attempt_at for p in payments],
            "traces": [p.traceparent for p in payments],
        },
    )
    if result.rowcount != len(payments):
        raise InfrastructureError("a payment was changed by another process; read it again")


def _payment(row: Any) -> Payment:
    values: dict[str, Any] = dict(row._mapping)  # SQLAlchemy's documented name
    values["state"] = PaymentState(row.state)
    return Payment(**values)
