"""All workers together, built as `python -m workers.main` builds them, on the real servers."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import aiohttp
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import NullPool

from builders import CUSTOMER, a_line, broker_settings, migrate_settings, place_order
from common.contracts import commands
from common.kafka.publisher import Outcome, Publisher
from common.postgres import create_engine
from eventually import eventually
from integration.core.broker import outgoing, running
from integration.core.database import rows, value
from local_stack.network import free_ports
from local_stack.servers import Addresses
from workers.catalog import import_catalog, publish_catalog
from workers.main import WORKERS, serve
from workers.migrate import HISTORIES, migrate
from workers.settings import WorkersSettings


@pytest.fixture
async def provider_url(tmp_path: Path) -> AsyncIterator[str]:
    settings = {"PROVIDER_LEDGER_FILE": str(tmp_path / "ledger.jsonl"), "PROVIDER_PORT": "0"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "payment_provider", env={**os.environ, **settings}, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(20):
            yield (await process.stdout.readline()).decode().split()[-1]
    finally:
        process.terminate()
        await process.communicate()


def settings(servers: Addresses, provider_url: str, admin_port: int) -> WorkersSettings:
    values = {
        **broker_settings(servers),
        "DATABASE_URL": servers.database_url,
        "REDIS_URL": servers.redis_url,
        "ADMIN_PORT": admin_port,
        "payment_provider_url": provider_url,
    }
    return WorkersSettings.model_validate(values)


async def statuses(engine: AsyncEngine, *orders: commands.PlaceOrder) -> list[str]:
    found = {row.order_id: row.status for row in await rows(engine, "SELECT order_id, status FROM orders.orders")}
    return [found.get(order.order_id, "accepted") for order in orders]


async def test_orders_go_the_whole_way_and_a_declined_one_gives_its_stock_back(
    servers: Addresses, engine: AsyncEngine, publisher: Publisher, provider_url: str
) -> None:
    row = {"sku": "vinyl", "name": "Vinyl", "price_minor": "1000", "currency": "USD", "stock": "3"}
    await import_catalog(engine, [row])
    await relay_catalog(servers, publisher)
    bought, free, declined, too_much = (
        place_order(lines=(a_line("vinyl", 2),)),
        place_order(lines=(a_line("vinyl", 1, 0),), total_minor=0),
        place_order(lines=(a_line("vinyl", 1),)),
        place_order(lines=(a_line("vinyl", 4),)),
    )
    port = next(free_ports())

    async with running(lambda stop: serve([*WORKERS], settings(servers, provider_url, port), stop)):
        await eventually(lambda: answers_200(f"http://127.0.0.1:{port}/readyz"), within=20)
        await publish(publisher, too_much, bought)
        await eventually(lambda: ends_as(engine, ["rejected", "confirmed"], too_much, bought), within=20)
        await decline_everything(provider_url)
        await publish(publisher, declined)
        await eventually(lambda: ends_as(engine, ["rejected"], declined), within=10)
        await publish(publisher, free)
        await eventually(lambda: ends_as(engine, ["confirmed"], free), within=10)
        assert await answers_200(f"http://127.0.0.1:{port}/livez")

    assert await value(engine, "SELECT available FROM inventory.items") == 0
    assert await reason_of(engine, too_much.order_id) == "out_of_stock"
    assert await reason_of(engine, declined.order_id) == "payment_declined"
    async with aiohttp.ClientSession(provider_url) as client, client.get("/v1/ledger") as response:
        ledger = await response.text()
    assert str(free.order_id) not in ledger
    assert ledger.count('"captured"') == 1
    for schema in HISTORIES:
        assert await value(engine, f"SELECT count(*) FROM {schema}.outbox") == 0


async def relay_catalog(servers: Addresses, publisher: Publisher) -> None:
    engine = create_engine(servers.database_url, application_name="catalog", poolclass=NullPool)
    await publish_catalog(engine, publisher)
    await engine.dispose()


async def decline_everything(provider_url: str) -> None:
    every = {"decline_percent": 100}
    async with aiohttp.ClientSession(provider_url) as client, client.patch("/switches", json=every) as response:
        assert response.status == 200


async def publish(publisher: Publisher, *orders: commands.PlaceOrder) -> None:
    records = [outgoing(order, order.order_id) for order in orders]
    assert set(await publisher.publish([*records, *records])) == {Outcome.ACKED}  # twice: a gateway that retried


async def ends_as(engine: AsyncEngine, expected: list[str], *orders: commands.PlaceOrder) -> bool:
    return await statuses(engine, *orders) == expected


async def reason_of(engine: AsyncEngine, order_id: UUID) -> str:
    sql = "SELECT reason FROM orders.orders WHERE order_id = :id AND customer_id = :customer"
    return await value(engine, sql, id=order_id, customer=CUSTOMER)


async def answers_200(url: str) -> bool:
    try:
        async with aiohttp.ClientSession() as client, client.get(url) as response:
            return response.status == 200
    except aiohttp.ClientConnectionError:
        return False


async def test_migrating_again_changes_nothing(servers: Addresses, engine: AsyncEngine) -> None:
    await import_catalog(engine, [{"sku": "a", "name": "A", "price_minor": "1", "currency": "USD", "stock": "1"}])

    async with asyncio.TaskGroup() as tasks:
        for _ in range(2):
            tasks.create_task(migrate(migrate_settings(servers)))

    assert await value(engine, "SELECT count(*) FROM inventory.items") == 1
    versions = [await value(engine, f"SELECT version_num FROM {schema}.alembic_version") for schema in HISTORIES]
    assert versions == ["0003", "0001", "0001"]
