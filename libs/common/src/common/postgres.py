"""Postgres: the engine with its time-outs, and one transaction that tells bad data from missing infrastructure.

Rule: sqlstate 22* (data exception) and 23* (integrity violation) are the record's own fault: PoisonError. Everything
else, from a refused connection to a killed backend, is infrastructure: InfrastructureError, nothing was decided.
Limits: a connection lost during COMMIT leaves the outcome open; redelivery and the inbox settle it.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import Pool

from common.errors import InfrastructureError, PoisonError

STATEMENT_TIMEOUT_S = 10


def create_engine(
    database_url: str, *, application_name: str, pool_size: int = 5, poolclass: type[Pool] | None = None
) -> AsyncEngine:
    """An engine on asyncpg from a plain `postgresql://` address. Connects on first use."""
    sizes = {"pool_size": pool_size, "max_overflow": 0, "pool_timeout": 5} if poolclass is None else {}
    return create_async_engine(
        asyncpg_url(database_url),
        poolclass=poolclass,
        **sizes,
        connect_args={
            "timeout": 2,
            "command_timeout": STATEMENT_TIMEOUT_S + 2,
            "server_settings": {
                "application_name": application_name,
                "statement_timeout": str(STATEMENT_TIMEOUT_S * 1000),
                "idle_in_transaction_session_timeout": "30000",
            },
        },
    )


def asyncpg_url(database_url: str) -> str:
    return database_url.replace("postgresql://", "postgresql+asyncpg://", 1)


@asynccontextmanager
async def transaction(engine: AsyncEngine, *, deadline_s: float = 20) -> AsyncGenerator[AsyncConnection]:
    """One transaction: committed at the end of the block, rolled back on any error.

    Raises PoisonError or InfrastructureError for what the database says; errors of the block itself pass through.
    """
    try:
        async with asyncio.timeout(deadline_s), engine.begin() as connection:
            yield connection
    except DBAPIError as error:
        state = getattr(error.orig, "sqlstate", None) or ""
        if state[:2] in ("22", "23"):
            raise PoisonError(f"{state}: {error.orig}") from error
        raise InfrastructureError(f"database: {error.orig}") from error
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        raise InfrastructureError(f"database: {error!r}") from error
