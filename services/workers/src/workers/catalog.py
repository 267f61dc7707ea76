"""Import a catalog: `python -m workers.catalog FILE.csv` with the columns sku, name, price_minor, currency, stock.

Items go into inventory's table and outbox in one transaction, and from there to the compacted topic. New skus are
added; of known ones name and price change, stock does not. Safe to repeat.
"""

import csv
import sys
from collections import Counter
from pathlib import Path

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import NullPool

from common.contracts.codec import Emitted
from common.contracts.events import CatalogItem
from common.errors import InfrastructureError, PoisonError
from common.kafka.publisher import Publisher
from common.lifecycle import load_settings, run_to_end
from common.outbox import SHARDS, Outbox, OutboxReader
from common.postgres import create_engine, transaction
from common.telemetry.logging import configure_logging
from workers.settings import MigrateSettings
from workers.tables import INVENTORY

log = structlog.get_logger()

_UPSERT = text("""
    INSERT INTO inventory.items (sku, name, currency, price_minor, initial, available)
    SELECT sku, name, currency, price, stock, stock
    FROM unnest(CAST(:skus AS text[]), CAST(:names AS text[]), CAST(:currencies AS text[]), CAST(:prices AS bigint[]),
                CAST(:stocks AS int[])) AS n (sku, name, currency, price, stock)
    ON CONFLICT (sku) DO UPDATE SET name = excluded.name, price_minor = excluded.price_minor""")


async def import_catalog(engine: AsyncEngine, rows: list[dict[str, str]]) -> None:
    """Write the items and their CatalogItem messages. Raises PoisonError when a row breaks a rule of the table."""
    if twice := [sku for sku, count in Counter(row["sku"] for row in rows).items() if count > 1]:
        raise PoisonError(f"more than once in the catalog: {', '.join(twice[:10])}")
    async with transaction(engine) as connection:
        await connection.execute(
            _UPSERT,
            {
                "skus": [row["sku"] for row in rows],
                "names": [row["name"] for row in rows],
                "currencies": [row["currency"] for row in rows],
                "prices": [int(row["price_minor"]) for row in rows],
                "stocks": [int(row["stock"]) for row in rows],
            },
        )
        await Outbox(INVENTORY).add(connection, [Emitted(_item(row), None) for row in rows])
    log.info("catalog_imported", items=len(rows))


async def publish_catalog(engine: AsyncEngine, publisher: Publisher) -> None:
    """Empty inventory's outbox now, unless a relay is at it already: the gateways wait for the catalog.

    `engine` must not pool: its session's locks would stay, and the relay would wait for them.
    """
    reader = OutboxReader(INVENTORY, publisher)
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        shards = await reader.lock_shards(connection, range(SHARDS))
        while (relayed := await reader.relay_batch(connection, shards)) != 0:
            if relayed < 0:
                raise InfrastructureError("the broker did not take the catalog")


def main() -> None:
    with Path(sys.argv[1]).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    settings = load_settings(MigrateSettings)
    configure_logging("catalog", settings.log_format)

    async def import_and_publish() -> None:
        engine = create_engine(settings.database_url.get_secret_value(), application_name="catalog", poolclass=NullPool)
        publisher = Publisher(settings.kafka_bootstrap_servers, idempotence=settings.kafka_enable_idempotence)
        await publisher.start()
        try:
            await import_catalog(engine, rows)
            await publish_catalog(engine, publisher)
        finally:
            await publisher.stop()
            await engine.dispose()

    run_to_end(import_and_publish())


def _item(row: dict[str, str]) -> CatalogItem:
    return CatalogItem(sku=row["sku"], name=row["name"], currency=row["currency"], price_minor=int(row["price_minor"]))


if __name__ == "__main__":
    main()
