"""One command before any service starts: every schema to its newest version, every topic created. Safe to repeat."""

from pathlib import Path

import structlog

import orders
from common.contracts.topics import all_topics
from common.kafka.admin import create_topics
from common.lifecycle import load_settings, run_to_end
from common.migrations import upgrade
from common.telemetry.logging import configure_logging
from workers.settings import MigrateSettings

log = structlog.get_logger()

HISTORIES = {
    "orders": Path(orders.__path__[0]) / "migrations",
    "inventory": Path(__file__).parent / "inventory_migrations",
    "payments": Path(__file__).parent / "payments_migrations",
}


async def migrate(settings: MigrateSettings) -> None:
    for schema, history in HISTORIES.items():
        await upgrade(settings.database_url.get_secret_value(), schema, history)
        log.info("schema_up_to_date", schema=schema)
    created = await create_topics(
        settings.kafka_bootstrap_servers, all_topics(), replication_factor=settings.kafka_replication_factor
    )
    log.info("topics_up_to_date", created=len(created))


def main() -> None:
    settings = load_settings(MigrateSettings)
    configure_logging("migrate", settings.log_format)
    run_to_end(migrate(settings))


if __name__ == "__main__":
    main()
