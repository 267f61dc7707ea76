"""The real servers, once for the whole run, empty; each test that uses `engine` finds empty tables."""

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from builders import migrate_settings
from common.kafka.publisher import Publisher
from common.postgres import create_engine, transaction
from local_stack.servers import Addresses, embedded_servers
from workers.migrate import migrate

TABLES = """orders.orders, orders.order_lines, orders.sagas, orders.inbox, orders.outbox, orders.dead_orders,
    inventory.items, inventory.reservations, inventory.inbox, inventory.outbox,
    payments.payments, payments.inbox, payments.outbox"""


@pytest.fixture(scope="session")
def bare_servers() -> Iterator[Addresses]:
    """Postgres, Valkey and the broker, with nothing in them. They live in the loop of a thread of their own,
    because each test has its own loop."""
    ready: queue.Queue[Addresses | BaseException] = queue.Queue()
    loop_and_stop: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve(run_dir: Path) -> None:
        stop = asyncio.Event()
        loop_and_stop.append((asyncio.get_running_loop(), stop))
        async with embedded_servers(run_dir) as addresses:
            ready.put(addresses)
            await stop.wait()

    def run(run_dir: Path) -> None:
        try:
            asyncio.run(serve(run_dir))
        except BaseException as error:
            ready.put(error)
            raise

    with TemporaryDirectory() as folder:  # not below pytest's own folder: that is 0700, and Postgres is not root
        thread = threading.Thread(target=run, args=(Path(folder),), daemon=True)
        thread.start()
        addresses = ready.get(timeout=45)
        if isinstance(addresses, BaseException):
            raise addresses
        yield addresses
        loop, stop = loop_and_stop[0]
        loop.call_soon_threadsafe(stop.set)
        thread.join(timeout=30)


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
