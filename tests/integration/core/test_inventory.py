"""Stock in Postgres."""

import asyncio
from uuid import uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from builders import a_message, reserve_stock
from common.contracts import commands, events
from common.errors import PoisonError
from integration.core.database import rows, sent_bodies
from workers.catalog import import_catalog
from workers.inventory import Inventory

CATALOG = [
    {"sku": "apple", "name": "An apple", "price_minor": "100", "currency": "USD", "stock": "5"},
    {"sku": "pear", "name": "A pear", "price_minor": "0", "currency": "USD", "stock": "1"},
]


@pytest.fixture
async def inventory(engine: AsyncEngine) -> Inventory:
    await import_catalog(engine, CATALOG)
    async with engine.begin() as connection:
        await connection.exec_driver_sql("DELETE FROM inventory.outbox")
    return Inventory(engine)


async def apply(inventory: Inventory, *bodies: commands.InventoryCommand) -> None:
    await inventory.apply([a_message(body) for body in bodies])


async def stock(engine: AsyncEngine) -> dict[str, int]:
    return {row.sku: row.available for row in await rows(engine, "SELECT sku, available FROM inventory.items")}


async def test_reserved_in_one_batch_and_released_in_a_later_one_the_stock_is_back(
    engine: AsyncEngine, inventory: Inventory
) -> None:
    order_id = uuid4()

    await apply(inventory, reserve_stock(order_id, apple=2, pear=1))
    assert await stock(engine) == {"apple": 3, "pear": 0}
    await apply(inventory, commands.ReleaseStock(order_id=order_id))

    assert await stock(engine) == {"apple": 5, "pear": 1}
    assert await sent_bodies(engine, "inventory") == [
        events.StockReserved(order_id=order_id),
        events.StockReleased(order_id=order_id),
    ]


async def test_a_redelivered_batch_takes_nothing_twice(engine: AsyncEngine, inventory: Inventory) -> None:
    batch = [a_message(reserve_stock(apple=2)), a_message(reserve_stock(apple=1))]

    for _ in range(3):
        await inventory.apply(batch)

    assert await stock(engine) == {"apple": 2, "pear": 1}
    assert len(await sent_bodies(engine, "inventory")) == 2


async def test_a_step_that_is_asked_again_under_a_new_id_is_answered_the_same_and_takes_nothing(
    engine: AsyncEngine, inventory: Inventory
) -> None:
    happy, unlucky = uuid4(), uuid4()

    for _ in range(2):
        await apply(inventory, reserve_stock(happy, apple=5))
        await apply(inventory, reserve_stock(unlucky, apple=1))

    assert await stock(engine) == {"apple": 0, "pear": 1}
    answers = [events.StockReserved(order_id=happy), events.StockRefused(order_id=unlucky, sku="apple")]
    assert await sent_bodies(engine, "inventory") == answers * 2


async def test_two_releases_in_later_batches_give_back_once(engine: AsyncEngine, inventory: Inventory) -> None:
    order_id = uuid4()
    await apply(inventory, reserve_stock(order_id, apple=2))

    for _ in range(2):
        await apply(inventory, commands.ReleaseStock(order_id=order_id))

    assert await stock(engine) == {"apple": 5, "pear": 1}


async def test_a_tombstone_outlives_its_batch(engine: AsyncEngine, inventory: Inventory) -> None:
    order_id = uuid4()
    await apply(inventory, commands.ReleaseStock(order_id=order_id))

    await apply(inventory, reserve_stock(order_id, apple=1))

    assert await stock(engine) == {"apple": 5, "pear": 1}
    assert await sent_bodies(engine, "inventory") == [events.StockReleased(order_id=order_id)]


async def test_an_unknown_sku_is_refused_by_name(engine: AsyncEngine, inventory: Inventory) -> None:
    order_id = uuid4()

    await apply(inventory, reserve_stock(order_id, apple=1, plum=1))

    assert await sent_bodies(engine, "inventory") == [events.StockRefused(order_id=order_id, sku="plum")]
    assert await stock(engine) == {"apple": 5, "pear": 1}


async def test_orders_that_compete_in_parallel_transactions_never_oversell(
    engine: AsyncEngine, inventory: Inventory
) -> None:
    async with asyncio.TaskGroup() as tasks:
        for _ in range(10):
            tasks.create_task(apply(inventory, reserve_stock(apple=1, pear=1), reserve_stock(apple=1)))

    answers = await sent_bodies(engine, "inventory")
    reserved = [answer for answer in answers if isinstance(answer, events.StockReserved)]
    assert len(answers) == 20
    assert (await stock(engine))["apple"] == 0
    assert len(reserved) == 5


async def test_importing_a_catalog_again_changes_names_and_prices_but_not_stock(
    engine: AsyncEngine, inventory: Inventory
) -> None:
    await apply(inventory, reserve_stock(apple=2))

    await import_catalog(engine, [{**CATALOG[0], "name": "A red apple", "price_minor": "120", "stock": "99"}])

    apple = (await rows(engine, "SELECT name, price_minor, initial, available FROM inventory.items WHERE sku='apple'"))[
        0
    ]
    assert tuple(apple) == ("A red apple", 120, 5, 3)
    assert (await sent_bodies(engine, "inventory"))[-1].price_minor == 120


async def test_a_catalog_with_a_bad_row_is_not_imported_at_all(engine: AsyncEngine, inventory: Inventory) -> None:
    with pytest.raises(PoisonError):
        await import_catalog(engine, [{**CATALOG[0], "sku": "plum"}, {**CATALOG[0], "sku": "fig", "price_minor": "-1"}])

    assert await stock(engine) == {"apple": 5, "pear": 1}
