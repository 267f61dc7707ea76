"""Readers and writers against the cache while entries are evicted and writers are killed: nobody goes backwards.

CONSISTENCY_READS sets how many reads (20,000 unless told; the promise was proved with 200,000).
"""

import asyncio
import os
import random
from collections import defaultdict
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from redis.exceptions import RedisError

from common.cache import Cache, Hit, Lease, Miss, RedisCache, Value
from common.contracts.keys import view_key
from common.errors import InfrastructureError
from common.redis_client import RedisClient, create_redis
from contract.cache_servers import Running, running_cluster, running_valkey
from gateway.adapters.views import CacheViews
from gateway.reads import Reads, View

READS = int(os.environ.get("CONSISTENCY_READS", "20000"))
READERS, WRITERS, GATEWAYS, ORDERS = 20, 6, 4, 24
CUSTOMER = "alice"
TTL = timedelta(seconds=10)


class FakeOrdersService:
    """The database and the service before it, with the delays that make races; every commit is one version more."""

    def __init__(self, cache: Cache) -> None:
        self.versions: defaultdict[UUID, int] = defaultdict(lambda: 1)
        self.locks: defaultdict[UUID, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.queries = 0
        self._cache = cache

    async def view(self, order_id: UUID, customer_id: str, lease: str) -> View | None:
        self.queries += 1
        await pause()
        version = self.versions[order_id]
        await pause()
        if lease:
            await self._cache.fill(key_of(order_id), lease, value(version))
        return View(version, b"%d" % version)


@dataclass
class Seen:
    """Compares each read with the newest version that any read had ended with when this one began."""

    reads: int = 0
    backwards: int = 0
    hits: int = 0
    newest: defaultdict[UUID, int] = field(default_factory=lambda: defaultdict[UUID, int](int))

    async def read(self, reads: Reads, order_id: UUID) -> None:
        floor = self.newest[order_id]
        view = await reads.read(order_id, CUSTOMER)
        assert view is not None
        self.reads += 1
        self.backwards += view.version < floor
        self.newest[order_id] = max(self.newest[order_id], view.version)


class WithoutLease:
    """What people write first: fill whatever was read, delete after the commit."""

    def __init__(self, cache: RedisCache, redis: RedisClient) -> None:
        self._cache, self._redis = cache, redis

    async def get(self, key: str, *, take_over: bool = False) -> Hit | Lease | Miss:
        found = await self._cache.get(key, take_over=True)
        return found if isinstance(found, Hit) else Lease("anybody")

    async def fill(self, key: str, token: str, value: Value | None) -> None:
        if value is not None:
            with suppress(RedisError):  # as below: a busy machine
                await self._redis.hset(key, mapping={"v": value.version, "p": value.payload})  # pyright: ignore

    async def mark(self, keys: Sequence[str]) -> str:
        return ""

    async def publish(self, writer: str, values: Mapping[str, Value]) -> None:
        for key in values:
            with suppress(RedisError):
                await self._redis.delete(key)


@asynccontextmanager
async def cache_on(running: Running, run_dir: Path) -> AsyncGenerator[tuple[RedisCache, RedisClient]]:
    async with running(run_dir) as url, create_redis(url) as redis:
        yield RedisCache(redis), redis


@pytest.mark.timeout(900)
@pytest.mark.parametrize("running", [running_valkey, running_cluster])
async def test_no_reader_ever_sees_a_version_go_backwards(tmp_path: Path, running: Running) -> None:
    async with cache_on(running, tmp_path) as (cache, redis):
        seen = await storm(cache, redis, READS)

    print(f"{seen.reads} reads, {seen.backwards} backwards, newest {max(seen.newest.values())}")
    assert seen.reads >= READS
    assert seen.backwards == 0


@pytest.mark.timeout(300)
async def test_without_lease_and_marker_the_same_storm_goes_backwards(tmp_path: Path) -> None:
    async with cache_on(running_valkey, tmp_path) as (cache, redis):
        seen = await storm(WithoutLease(cache, redis), redis, 20_000)

    assert seen.backwards > 0


async def storm(cache: Cache, redis: RedisClient, reads: int) -> Seen:
    """20 readers in 4 gateways, 6 writers of which some are killed, evictions, until there were so many reads."""
    service, seen = FakeOrdersService(cache), Seen()
    order_ids = [uuid4() for _ in range(ORDERS)]
    gateways = [Reads(CacheViews(cache), service) for _ in range(GATEWAYS)]
    stop = asyncio.Event()

    async def reader(gateway: Reads) -> None:
        while seen.reads < reads:
            await seen.read(gateway, random.choice(order_ids))
        stop.set()

    async with asyncio.TaskGroup() as tasks:
        for gateway in gateways:
            tasks.create_task(_serve(gateway, stop))
        for n in range(WRITERS):
            tasks.create_task(_write(cache, service, order_ids, stop, killed=n == 0))
        tasks.create_task(_evict(redis, order_ids, stop))
        await asyncio.sleep(0)
        for n in range(READERS):
            tasks.create_task(reader(gateways[n % GATEWAYS]))
    return seen


async def _serve(gateway: Reads, stop: asyncio.Event) -> None:
    async with gateway.running():
        await stop.wait()


async def _write(
    cache: Cache, service: FakeOrdersService, order_ids: Sequence[UUID], stop: asyncio.Event, *, killed: bool
) -> None:
    """As order_writer and saga_runner do. One that is killed between COMMIT and PUB is redelivered later."""
    while not stop.is_set():
        order_id = random.choice(order_ids)
        dies = killed and random.random() < 0.3
        for attempt in (1, 2):
            writer = await _marked(cache, order_id)
            await pause()
            async with service.locks[order_id]:  # the row's lock
                await pause()
                service.versions[order_id] += attempt == 1
                version = service.versions[order_id]
            await pause()
            if not dies:
                with suppress(InfrastructureError):
                    await cache.publish(writer, {key_of(order_id): value(version)})
                break
            dies = False
        await asyncio.sleep(random.uniform(0, 0.03))


async def _marked(cache: Cache, order_id: UUID) -> str:
    while True:
        with suppress(InfrastructureError):
            return await cache.mark([key_of(order_id)])


async def _evict(redis: RedisClient, order_ids: Sequence[UUID], stop: asyncio.Event) -> None:
    while not stop.is_set():
        with suppress(RedisError):  # a busy machine may take longer than the client waits
            await redis.delete(key_of(random.choice(order_ids)))
        await asyncio.sleep(random.uniform(0, 0.02))


async def test_a_thousand_parallel_misses_cost_two_queries_at_most(tmp_path: Path) -> None:
    async with cache_on(running_valkey, tmp_path) as (cache, _):
        service = FakeOrdersService(cache)
        gateway, order_id = Reads(CacheViews(cache), service), uuid4()

        async with gateway.running():
            views = await asyncio.gather(*(gateway.read(order_id, CUSTOMER) for _ in range(1_000)))

    assert [view.version for view in views if view] == [1] * 1_000
    assert service.queries <= 2


async def test_a_writer_killed_between_database_and_cache_leaves_nothing_old(tmp_path: Path) -> None:
    async with cache_on(running_valkey, tmp_path) as (cache, _):
        service = FakeOrdersService(cache)
        gateway, order_id = Reads(CacheViews(cache), service), uuid4()
        async with gateway.running():
            await gateway.read(order_id, CUSTOMER)

            await cache.mark([key_of(order_id)])
            service.versions[order_id] = 2  # committed, never published

            assert await gateway.read(order_id, CUSTOMER) == View(2, b"2")


def key_of(order_id: UUID) -> str:
    return view_key(order_id, CUSTOMER)


def value(version: int) -> Value:
    return Value(version, b"%s\n%d" % (CUSTOMER.encode(), version), TTL)


async def pause() -> None:
    """Mostly short; now and then long enough for a lease to be taken over."""
    await asyncio.sleep(random.choice((0, 0, 0, 0.001, 0.003, 0.005, 0.1 if random.random() < 0.05 else 0.002)))
