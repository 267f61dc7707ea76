"""The real servers, once for the whole run, empty; each test that uses `engine` finds empty tables."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from builders import migrate_settings
from common.kafka.publisher import Publisher
from common.postgres import create_engine, transaction
from in_a_thread import in_a_thread
from local_stack.servers import Addresses, embedded_servers
from workers.migrate import migrate

TABLES = """orders.orders, orders.order_lines, orders.sagas, orders.inbox, orders.outbox, orders.dead_orders,
    orders.timeline, inventory.items, inventory.reservations, inventory.inbox, inventory.outbox,
    payments.payments, payments.inbox, payments.outbox"""


@pytest.fixture(scope="session")
def bare_servers() -> Iterator[Addresses]:
    """Postgres, Valkey and the broker, with nothing in them."""
    with in_a_thread(embedded_servers) as addresses:
        yield addresses


@pytest.fixture(scope="session")
def servers(bare_servers: Addresses) -> Addresses:
    """The servers with every schema and topic."""
    asyncio.run(migrate(migrate_settings(bare_servers)))
    return bare_servers


@pytest.fixture
async def engine(servers: Addresses) -> AsyncIterator[AsyncEngine]:
    """On empty tables."""
    engine = create_engine(servers.database_url, application_name="test")
    async with transaction(engine) as connection:
        await connection.execute(text(f"TRUNCATE {TABLES}"))
    yield engine
    await engine.dispose()


@pytest.fixture
async def publisher(servers: Addresses) -> AsyncIterator[Publisher]:
    publisher = Publisher(servers.kafka_bootstrap_servers, idempotence=False)
    await publisher.start()
    yield publisher
    await publisher.stop()
