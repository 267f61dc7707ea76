"""The real servers, once for the whole run, empty; each test that uses `engine` finds empty tables.

`--broker kafka` puts Apache Kafka in a container in the place of the embedded broker.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from functools import partial

import pytest
from docker.errors import DockerException  # pyright: ignore[reportMissingTypeStubs]
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from builders import migrate_settings
from common.kafka.publisher import Publisher
from common.postgres import create_engine, transaction
from in_a_thread import in_a_thread
from kafka.container import Kafka, running_kafka
from local_stack.servers import Addresses, embedded_servers
from workers.migrate import migrate

TABLES = """orders.orders, orders.order_lines, orders.sagas, orders.inbox, orders.outbox, orders.dead_orders,
    orders.timeline, inventory.items, inventory.reservations, inventory.inbox, inventory.outbox,
    payments.payments, payments.inbox, payments.outbox"""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--broker", choices=["embedded", "kafka"], default="embedded", help="kafka: needs Docker")


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest) -> Iterator[Kafka | None]:
    """The container of this run; None on the embedded broker."""
    if request.config.getoption("--broker") == "embedded":
        yield None
        return
    try:
        with running_kafka() as kafka:
            yield kafka
    except DockerException as error:
        pytest.exit(f"no Docker engine answers, and --broker kafka needs one: {error}", returncode=2)


@pytest.fixture(scope="session")
def bare_servers(kafka: Kafka | None) -> Iterator[Addresses]:
    """Postgres, Valkey and the broker, with nothing in them."""
    with in_a_thread(partial(embedded_servers, kafka=kafka and kafka.bootstrap_servers)) as addresses:
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
    publisher = Publisher(servers.kafka_bootstrap_servers, idempotence=servers.kafka_enable_idempotence)
    await publisher.start()
    yield publisher
    await publisher.stop()
