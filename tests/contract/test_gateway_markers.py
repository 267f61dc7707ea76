"""The marker store: the fake that the unit tests use and Redis keep the same promises."""

# pyright: reportUnknownMemberType=false
# (redis-py types some commands loosely)

import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from common.errors import InfrastructureError
from gateway.accept import Marker, MarkerStore
from gateway.adapters.markers import RedisMarkers, create_redis
from local_stack.network import free_ports
from local_stack.servers import redis_url, valkey
from local_stack.supervisor import supervised
from unit.gateway.fakes import FakeMarkers

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)


@pytest.fixture(params=["fake", "redis"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[MarkerStore]:
    if request.param == "fake":
        yield FakeMarkers()
        return
    async with running_valkey(tmp_path) as redis:
        yield RedisMarkers(redis)


async def test_what_is_remembered_is_found(store: MarkerStore) -> None:
    markers = [Marker(uuid4(), f"customer-{n}", MOMENT) for n in range(40)]

    await store.remember(markers)

    assert [await store.find(marker.order_id, marker.customer_id) for marker in markers] == markers


async def test_a_marker_is_for_its_customer_only(store: MarkerStore) -> None:
    # 17 customers share 16 hash tags: two of them at least would find each other's key
    markers = [Marker(uuid4(), f"customer-{n}", MOMENT) for n in range(17)]
    await store.remember(markers)

    for marker in markers:
        for other in markers:
            if other is not marker:
                assert await store.find(marker.order_id, other.customer_id) is None


async def test_an_unknown_order_has_no_marker(store: MarkerStore) -> None:
    assert await store.find(uuid4(), "alice") is None


async def test_remembering_twice_is_remembering(store: MarkerStore) -> None:
    marker = Marker(uuid4(), "alice", MOMENT)

    await store.remember([marker])
    await store.remember([marker])

    assert await store.find(marker.order_id, "alice") == marker


async def test_a_marker_lives_as_long_as_the_log(tmp_path: Path) -> None:
    async with running_valkey(tmp_path) as redis:
        await RedisMarkers(redis).remember([Marker(uuid4(), "alice", MOMENT)])
        (key,) = await redis.keys("accepted:{*}:*")
        assert 7 * 86_400 - 10 <= await redis.ttl(key) <= 7 * 86_400


async def test_a_dead_redis_costs_a_metric_not_an_order() -> None:
    async with create_redis(redis_url(next(free_ports()))) as nowhere:
        store = RedisMarkers(nowhere)

        await store.remember([Marker(uuid4(), "alice", MOMENT)])
        with pytest.raises(InfrastructureError):
            await store.find(uuid4(), "alice")


async def test_a_frozen_redis_is_given_up_soon_and_used_again_when_back(tmp_path: Path) -> None:
    async with running_valkey(tmp_path) as redis:
        store = RedisMarkers(redis)
        marker = Marker(uuid4(), "alice", MOMENT)
        pid = int((await redis.info("server"))["process_id"])
        os.kill(pid, signal.SIGSTOP)
        try:
            started = perf_counter()
            await store.remember([marker])
            with pytest.raises(InfrastructureError):
                await store.find(marker.order_id, "alice")
            assert perf_counter() - started < 1.5
        finally:
            os.kill(pid, signal.SIGCONT)

        await store.remember([marker])
        assert await store.find(marker.order_id, "alice") == marker


@asynccontextmanager
async def running_valkey(run_dir: Path) -> AsyncGenerator[Redis]:
    port = next(free_ports())
    async with supervised(run_dir, [[valkey(port)]]), create_redis(redis_url(port)) as redis:
        yield redis
