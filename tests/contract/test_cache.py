"""The cache: the fake and Valkey keep the same promises."""

from collections.abc import AsyncGenerator, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from common.cache import NOTHING, Cache, Hit, Lease, Miss, RedisCache, Value
from common.redis_client import create_redis
from contract.cache_servers import Running, running_cluster, running_valkey
from eventually import eventually
from fakes import FakeCache
from in_a_thread import in_a_thread

KEYS = [f"view:{{{n % 16}}}:{n}" for n in range(40)]
KEY = KEYS[0]


def value(version: int, *, ttl_s: float = 10) -> Value:
    return Value(version, b"view \x00\xff %d" % version, timedelta(seconds=ttl_s))


def hit(version: int) -> Hit:
    return Hit(version, value(version).payload)


@pytest.fixture(scope="module", params=["fake", running_valkey, running_cluster], ids=["fake", "valkey", "cluster"])
def url(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """Where the cache is; None for the fake."""
    if request.param == "fake":
        yield None
        return
    with in_a_thread(request.param) as url:
        yield url


@pytest.fixture
async def cache(url: str | None) -> AsyncGenerator[Cache]:
    """Empty."""
    if url is None:
        yield FakeCache()
        return
    async with create_redis(url) as redis:
        await redis.flushall()  # pyright: ignore[reportUnknownMemberType]
        yield RedisCache(redis)


async def lease(cache: Cache, *, take_over: bool = False) -> str:
    found = await cache.get(KEY, take_over=take_over)
    assert isinstance(found, Lease)
    return found.token


async def test_what_the_holder_of_the_lease_fills_in_is_a_hit(cache: Cache) -> None:
    await cache.fill(KEY, await lease(cache), value(1))

    assert await cache.get(KEY) == hit(1)


async def test_one_reader_gets_the_lease_and_the_others_wait(cache: Cache) -> None:
    await lease(cache)

    assert await cache.get(KEY) is Miss.WAIT


async def test_a_lease_that_was_taken_over_fills_nothing(cache: Cache) -> None:
    slow = await lease(cache)
    fast = await lease(cache, take_over=True)

    await cache.fill(KEY, slow, value(1))
    assert await cache.get(KEY) is Miss.WAIT

    await cache.fill(KEY, fast, value(2))
    assert await cache.get(KEY) == hit(2)


async def test_nothing_to_fill_in_gives_the_lease_back(cache: Cache) -> None:
    await cache.fill(KEY, await lease(cache), None)

    await lease(cache)


async def test_a_writer_takes_value_and_lease_away(cache: Cache) -> None:
    await cache.fill(KEY, await lease(cache), value(1))
    await cache.mark([KEY])
    assert await cache.get(KEY) is Miss.BYPASS
    assert await cache.get(KEY, take_over=True) is Miss.BYPASS


async def test_a_reader_that_began_before_the_writer_fills_nothing(cache: Cache) -> None:
    token = await lease(cache)
    writer = await cache.mark([KEY])
    await cache.fill(KEY, token, value(1))
    assert await cache.get(KEY) is Miss.BYPASS

    await cache.publish(writer, {KEY: value(2)})
    await cache.fill(KEY, token, value(1))
    assert await cache.get(KEY) == hit(2)


async def test_a_batch_is_published_whole(cache: Cache) -> None:
    writer = await cache.mark(KEYS)
    await cache.publish(writer, {key: value(n) for n, key in enumerate(KEYS, 1)})

    assert [await cache.get(key) for key in KEYS] == [hit(n) for n in range(1, 41)]


async def test_of_two_writers_the_last_to_publish_sets_the_newest(cache: Cache) -> None:
    first, second = await cache.mark([KEY]), await cache.mark([KEY])

    await cache.publish(first, {KEY: value(1)})
    assert await cache.get(KEY) is Miss.BYPASS
    await cache.publish(second, {KEY: value(2)})

    assert await cache.get(KEY) == hit(2)


async def test_a_writer_that_publishes_late_does_not_bring_an_old_version_back(cache: Cache) -> None:
    first, second = await cache.mark([KEY]), await cache.mark([KEY])

    await cache.publish(second, {KEY: value(2)})
    assert await cache.get(KEY) is Miss.BYPASS  # the first may have committed something newer still
    await cache.publish(first, {KEY: value(1)})

    await lease(cache)


async def test_a_writer_that_was_rolled_back_leaves_nothing(cache: Cache) -> None:
    await cache.fill(KEY, await lease(cache), value(1))
    await cache.publish(await cache.mark([KEY]), {KEY: NOTHING})

    await lease(cache)


async def test_a_writer_that_was_rolled_back_leaves_the_key_to_the_other_one(cache: Cache) -> None:
    gone, other = await cache.mark([KEY]), await cache.mark([KEY])

    await cache.publish(gone, {KEY: NOTHING})
    assert await cache.get(KEY) is Miss.BYPASS
    await cache.publish(other, {KEY: value(2)})

    assert await cache.get(KEY) == hit(2)


async def test_a_writer_without_a_mark_drops_the_old_value_and_sets_none(cache: Cache) -> None:
    await cache.fill(KEY, await lease(cache), value(1))

    await cache.publish("nobody", {KEY: value(2)})

    await lease(cache)


async def test_a_writer_without_a_mark_does_not_remove_the_mark_of_another(cache: Cache) -> None:
    writer = await cache.mark([KEY])

    await cache.publish("nobody", {KEY: value(2)})
    assert await cache.get(KEY) is Miss.BYPASS

    await cache.publish(writer, {KEY: value(1)})
    await lease(cache)


async def test_a_value_lives_as_long_as_it_may(cache: Cache) -> None:
    writer = await cache.mark([KEY])
    await cache.publish(writer, {KEY: value(1, ttl_s=0.05)})

    async def gone() -> bool:
        return isinstance(await cache.get(KEY), Lease)

    await eventually(gone, within=2)


@pytest.mark.parametrize("running", [running_valkey, running_cluster])
async def test_the_companion_ends_soon_after_the_first_view(tmp_path: Path, running: Running) -> None:
    async with running(tmp_path) as url, create_redis(url) as redis:
        await redis.set("accepted:{0}:0", b"", ex=7 * 86_400)
        cache = RedisCache(redis)

        writer = await cache.mark([KEY])
        await cache.publish(writer, {KEY: Value(1, b"", timedelta(seconds=1), companion="accepted:{0}:0")})

        assert 50 <= await redis.ttl("accepted:{0}:0") <= 60


async def test_scripts_are_loaded_again_after_the_server_forgot_them(tmp_path: Path) -> None:
    async with running_valkey(tmp_path) as url, create_redis(url) as redis:
        cache = RedisCache(redis)
        await cache.mark([KEY])
        await redis.script_flush()

        assert await cache.get(KEY) is Miss.BYPASS
