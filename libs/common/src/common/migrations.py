"""Migrations: each schema has its own Alembic history, kept in that schema. Expand first, contract a release later."""

from collections.abc import Sequence
from pathlib import Path

from alembic import command, context
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from common.errors import InfrastructureError
from common.postgres import asyncpg_url

_LOCK = 0x4865616472616365  # "Headrace": one migrator at a time


async def upgrade(database_url: str, schema: str, script_location: Path) -> None:
    """Bring one schema to its newest version. A second call does nothing; two at a time wait for each other.

    Raises InfrastructureError when the database does not answer.
    """
    engine = create_async_engine(asyncpg_url(database_url), connect_args={"timeout": 5})
    config = Config()
    config.set_main_option("script_location", str(script_location))
    config.attributes["schema"] = schema
    try:
        async with engine.begin() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)").bindparams(lock=_LOCK))
            await connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {schema}"))
            await connection.run_sync(_upgrade_on, config)
    except (DBAPIError, OSError, TimeoutError) as error:
        raise InfrastructureError(f"cannot migrate {schema}: {error}") from error
    finally:
        await engine.dispose()


def _upgrade_on(connection: Connection, config: Config) -> None:
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def run_env() -> None:
    """The whole of each history's env.py: migrate on the connection that `upgrade` opened."""
    attributes = context.config.attributes
    context.configure(connection=attributes["connection"], version_table_schema=attributes["schema"])
    context.run_migrations()


def execute_all(statements: Sequence[str]) -> None:
    """Run SQL statements inside a migration."""
    from alembic import op

    for statement in statements:
        op.execute(statement)
