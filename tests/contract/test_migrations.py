"""What Alembic migrates to is what the tables in the code say."""

from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, MetaData, text
from sqlalchemy.ext.asyncio import AsyncEngine

from orders.adapters import tables as orders_tables
from workers import tables as workers_tables

SCHEMAS: dict[str, MetaData] = {
    "orders": orders_tables.metadata,
    "inventory": workers_tables.inventory_metadata,
    "payments": workers_tables.payments_metadata,
}


def _beside(*_: Any) -> str:
    return "beside"


CHECKS = text("""
    SELECT conname, pg_get_constraintdef(c.oid) FROM pg_constraint c JOIN pg_namespace n ON n.oid = connamespace
    WHERE contype = 'c' AND nspname = :schema ORDER BY conrelid, conname""")


@pytest.mark.parametrize("schema", SCHEMAS)
async def test_the_migrated_schema_has_the_tables_columns_and_indexes_of_the_code(
    engine: AsyncEngine, schema: str
) -> None:
    def difference(connection: Connection) -> list[Any]:
        def ours(name: str | None, kind: str, _parents: Any) -> bool:
            return name == schema if kind == "schema" else name != "alembic_version"

        options = {"include_schemas": True, "include_name": ours, "compare_type": True, "compare_server_default": True}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), SCHEMAS[schema]))

    async with engine.connect() as connection:
        assert await connection.run_sync(difference) == []


@pytest.mark.parametrize("schema", SCHEMAS)
async def test_the_migrated_schema_has_the_check_constraints_of_the_code(engine: AsyncEngine, schema: str) -> None:
    """Alembic does not compare these, so the tables are made once more beside the migrated ones."""
    beside = MetaData(schema="beside")
    async with engine.connect() as connection, connection.begin() as rolled_back:
        await connection.execute(text("CREATE SCHEMA beside"))
        for table in SCHEMAS[schema].tables.values():
            table.to_metadata(beside, schema="beside", referred_schema_fn=_beside)
        await connection.run_sync(beside.create_all)
        migrated = (await connection.execute(CHECKS, {"schema": schema})).all()
        declared = (await connection.execute(CHECKS, {"schema": "beside"})).all()
        await rolled_back.rollback()

    assert sorted(migrated) == sorted(declared)
