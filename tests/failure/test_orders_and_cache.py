"""The writers of orders and the cache: what is redelivered, what happens without Redis."""

from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from builders import CUSTOMER, NOW, a_message, place_order
from common.cache import Hit, RedisCache
from common.cache_writer import CacheWriter
from common.contracts.keys import view_key
from common.redis_client import create_redis
from contract.cache_servers import running_valkey
from fakes import FakeCache
from gateway.adapters.views import CacheViews
from gateway.reads import Missing, Reads, View
from integration.core.database import sent_bodies, value
from local_stack.network import HOST, free_ports
from orders.adapters.postgres import unit_of_work
from orders.adapters.queries import OrderQueries
from orders.adapters.view import OrderViews, to_view
from orders.use_cases import advance_sagas, write_orders


def clock() -> Any:
    return NOW


class Orders:
    """The orders service without the network between."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._queries = OrderQueries(engine)

    async def view(self, order_id: Any, customer_id: str, lease: str) -> View | None:
        order = await self._queries.get(order_id, customer_id)
        return View(order.version, to_view(order)) if order else None


async def test_a_redelivered_order_is_published_again(engine: AsyncEngine) -> None:
    begin, message = unit_of_work(engine, "order_writer"), a_message(place_order())
    await write_orders(begin, clock, [message])  # and killed before it could tell the cache
    cache = FakeCache()

    await write_orders(begin, clock, [message], views=OrderViews(CacheWriter(cache)))

    found = await cache.get(view_key(message.body.order_id, CUSTOMER))
    assert isinstance(found, Hit)
    assert found.version == 1


async def test_a_redelivered_reply_publishes_the_version_that_is_in_postgres(engine: AsyncEngine) -> None:
    message = a_message(place_order())
    await write_orders(unit_of_work(engine, "order_writer"), clock, [message])
    begin, placed = unit_of_work(engine, "saga_runner"), a_message(*await sent_bodies(engine, "orders"))
    await advance_sagas(begin, clock, [placed])
    cache = FakeCache()

    await advance_sagas(begin, clock, [placed], views=OrderViews(CacheWriter(cache)))

    found = await cache.get(view_key(message.body.order_id, CUSTOMER))
    assert isinstance(found, Hit)
    assert found.version == await value(engine, "SELECT version FROM orders.orders")


async def test_a_stranger_gets_nothing_from_the_cache(engine: AsyncEngine, tmp_path: Path) -> None:
    order = place_order()
    async with running_valkey(tmp_path) as url, create_redis(url) as redis:
        cache = RedisCache(redis)
        views = OrderViews(CacheWriter(cache))
        await write_orders(unit_of_work(engine, "order_writer"), clock, [a_message(order)], views=views)

        assert isinstance(await CacheViews(cache).get(order.order_id, CUSTOMER), View)
        for n in range(17):  # one of them has the hash tag of the customer, so the very same key
            assert isinstance(await CacheViews(cache).get(order.order_id, f"stranger-{n}"), Missing)


async def test_without_redis_reads_and_writes_go_on(engine: AsyncEngine) -> None:
    order = place_order()
    async with create_redis(f"redis://{HOST}:{next(free_ports())}/0") as nowhere:
        cache = RedisCache(nowhere)
        reads = Reads(CacheViews(cache), Orders(engine))
        views = OrderViews(CacheWriter(cache, patience_s=0.1))

        await write_orders(unit_of_work(engine, "order_writer"), clock, [a_message(order)], views=views)
        async with reads.running():
            view = await reads.read(order.order_id, CUSTOMER)

    assert view is not None
    assert view.version == 1
