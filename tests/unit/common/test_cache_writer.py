"""Writing while the cache is away."""

from datetime import timedelta
from time import perf_counter

import pytest

from common.cache import Hit, Lease, Miss, Value
from common.cache_writer import CacheWriter
from common.errors import InfrastructureError, PoisonError
from fakes import FakeCache

OLD, NEW = (Value(version, b"", timedelta(seconds=10)) for version in (1, 2))


async def write(writer: CacheWriter, key: str = "key", value: Value = NEW) -> None:
    async with writer.writing([key]) as values:
        values[key] = value


async def write_and_fail(writer: CacheWriter, error: Exception) -> None:
    async with writer.writing(["key"]) as values:
        values["key"] = NEW
        raise error


async def test_what_was_written_is_a_hit() -> None:
    cache = FakeCache()

    await write(CacheWriter(cache))

    assert await cache.get("key") == Hit(2, b"")


async def test_a_transaction_that_failed_publishes_nothing_and_leaves_its_mark() -> None:
    cache = FakeCache()

    with pytest.raises(InfrastructureError):
        await write_and_fail(CacheWriter(cache), InfrastructureError("perhaps committed"))

    assert await cache.get("key") is Miss.BYPASS


async def test_a_transaction_that_was_refused_leaves_no_mark() -> None:
    cache = FakeCache()

    with pytest.raises(PoisonError):
        await write_and_fail(CacheWriter(cache), PoisonError("refused"))

    assert isinstance(await cache.get("key"), Lease)


async def test_an_outage_is_waited_for_once_and_writes_go_on() -> None:
    cache = FakeCache()
    writer = CacheWriter(cache, patience_s=0.1, pause_s=0.01)
    cache.away = True

    started = perf_counter()
    for _ in range(50):
        await write(writer)

    assert 0.1 <= perf_counter() - started < 1


async def test_what_was_written_unmarked_is_dropped_when_the_cache_is_back() -> None:
    cache = FakeCache()
    writer = CacheWriter(cache, patience_s=0, pause_s=0)
    await write(writer, value=OLD)
    cache.away = True
    await write(writer, value=NEW)
    cache.away = False
    assert await cache.get("key") == Hit(1, b"")  # old, for its 10 s at most

    await write(writer, "another")

    assert isinstance(await cache.get("key"), Lease)
    assert await cache.get("another") == Hit(2, b"")
