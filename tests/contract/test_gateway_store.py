"""Buckets, claims and markers: the fake that the unit tests use and Redis keep the same promises."""

# pyright: reportUnknownMemberType=false
# (redis-py types some commands loosely)

import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from common.errors import InfrastructureError
from common.kafka.publisher import Outcome
from common.redis_client import RedisClient, create_redis
from common.resilience.token_bucket import Limit
from contract.cache_servers import running_cluster
from eventually import eventually
from gateway.adapters.door_store import RedisDoorStore
from gateway.adapters.markers import RedisMarkers
from gateway.idempotency import Call, DoorStore, Marker, Verdict
from gateway.lookup import MarkerStore
from gateway.memory import EpochStore
from local_stack.network import free_ports
from local_stack.servers import redis_url, valkey
from local_stack.supervisor import supervised
from unit.gateway.fakes import FakeStore

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)


LIMIT = Limit(1_000, 10)
FINGERPRINT, OTHER = "f" * 64, "0" * 64


class Store(DoorStore, MarkerStore, EpochStore, Protocol): ...


class RedisStore(RedisDoorStore):
    """Both adapters over one Redis."""

    def __init__(self, redis: RedisClient, limit: Limit = LIMIT, **options: Any) -> None:
        super().__init__(redis, limit, on_marker_lost=lambda: None, **options)
        markers = RedisMarkers(redis)
        self.find, self.write_epoch = markers.find, markers.write_epoch


@pytest.fixture(params=["fake", "redis"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Store]:
    if request.param == "fake":
        yield FakeStore(LIMIT)
        return
    async with running_valkey(tmp_path) as redis:
        yield RedisStore(redis)


def call(marker: Marker | None = None, fingerprint: str = FINGERPRINT, *, key: bool = True, **changes: Any) -> Call:
    marker = replace(marker or Marker(uuid4(), "alice", MOMENT), fingerprint=fingerprint)
    return Call(marker.customer_id, marker.order_id, uuid4().hex, key, marker, **changes)


async def remember(store: Store, *markers: Marker) -> None:
    await store.settle([(Call(m.customer_id, m.order_id, "a", marker=m), Outcome.ACKED) for m in markers])


async def verdict(store: Store, one: Call) -> Verdict:
    (admission,) = await store.admit([one])
    return admission.verdict


async def copy_of(store: Store, one: Call, fingerprint: str = FINGERPRINT) -> Verdict:
    """What a second call with the same key gets."""
    return await verdict(store, call(one.marker, fingerprint))


@pytest.mark.parametrize(
    ("outcome", "same", "other"),
    [
        (None, Verdict.IN_FLIGHT, Verdict.CONFLICT),
        (Outcome.ACKED, Verdict.REPLAYED, Verdict.CONFLICT),
        (Outcome.UNKNOWN, Verdict.UNKNOWN, Verdict.CONFLICT),
    ],
)
async def test_a_claim_says_what_became_of_the_first_call(
    store: Store, outcome: Outcome | None, same: Verdict, other: Verdict
) -> None:
    first = call()
    assert await verdict(store, first) is Verdict.NEW
    if outcome:
        await store.settle([(first, outcome)])

    assert await copy_of(store, first) is same
    assert await copy_of(store, first, OTHER) is other


async def test_a_refused_call_leaves_no_claim(store: Store) -> None:
    first = call()
    await verdict(store, first)
    await store.settle([(first, Outcome.REFUSED)])

    assert await copy_of(store, first, OTHER) is Verdict.NEW


async def test_of_two_copies_in_one_batch_one_is_new(store: Store) -> None:
    first = call()

    admissions = await store.admit([first, call(first.marker), call(first.marker, OTHER), call()])

    expected = [Verdict.NEW, Verdict.IN_FLIGHT, Verdict.CONFLICT, Verdict.NEW]
    assert [admission.verdict for admission in admissions] == expected


async def test_a_late_attempt_does_not_touch_the_claim_of_another(store: Store) -> None:
    first = call()
    await verdict(store, first)
    late = call(first.marker)

    await store.settle([(late, Outcome.REFUSED)])
    await store.settle([(late, Outcome.UNKNOWN)])

    assert await copy_of(store, first) is Verdict.IN_FLIGHT


async def test_accepted_stays_accepted(store: Store) -> None:
    first = call()
    await verdict(store, first)
    await store.settle([(first, Outcome.ACKED)])
    for outcome in Outcome:
        await store.settle([(call(first.marker, OTHER), outcome)])

    assert await copy_of(store, first) is Verdict.REPLAYED


async def test_without_a_key_there_is_no_claim(store: Store) -> None:
    first = call(key=False)

    assert await verdict(store, first) is Verdict.NEW
    assert await copy_of(store, first, OTHER) is Verdict.NEW


async def test_a_burst_passes_then_the_next_learns_how_long_to_wait(store: Store) -> None:
    admissions = await store.admit([call(key=False) for _ in range(1_100)])
    free = await verdict(store, call(key=False, free=True))
    of_bob = await verdict(store, call(Marker(uuid4(), "bob", MOMENT), key=False))

    passed = [admission for admission in admissions if admission.verdict is Verdict.NEW]
    assert len(passed) == 1_000
    assert admissions[:1_000] == passed
    assert all(0 < admission.retry_after_s <= 0.1 for admission in admissions[1_000:])
    assert free is of_bob is Verdict.NEW


async def test_a_redis_with_a_limit_lets_no_more_than_the_bound_pass(tmp_path: Path) -> None:
    async with running_valkey(tmp_path) as redis:
        store = RedisStore(redis, Limit(50, 1_000))
        started, passed = perf_counter(), 0
        while perf_counter() - started < 0.5:
            admissions = await store.admit([call(key=False) for _ in range(20)])
            passed += sum(admission.verdict is Verdict.NEW for admission in admissions)

        assert 50 + 400 < passed <= 50 + 1_000 * (perf_counter() - started)


async def test_without_redis_each_process_grants_its_share_and_every_copy_is_new() -> None:
    async with create_redis(redis_url(next(free_ports()))) as nowhere:
        store = RedisStore(nowhere, Limit(10, 0.1), replicas=2)
        first = call()

        verdicts = [await copy_of(store, first) for _ in range(7)]

    assert verdicts == [Verdict.NEW] * 5 + [Verdict.LIMITED] * 2


async def test_a_claim_of_a_call_that_never_ended_expires(tmp_path: Path) -> None:
    async with running_valkey(tmp_path) as redis:
        store = RedisStore(redis, claim_stands=timedelta(milliseconds=50))
        first = call()
        await verdict(store, first)

        async def is_new() -> bool:
            return await copy_of(store, first) is Verdict.NEW

        await eventually(is_new, within=5)


async def test_an_epoch_stays_until_it_is_lost_or_replaced(store: Store) -> None:
    await store.write_epoch("one", replace=True)
    assert await store.write_epoch("two", replace=False) == {"one"}
    first = {(await store.find(uuid4(), f"customer-{n}")).epoch for n in range(40)}
    await store.write_epoch("three", replace=True)

    assert first == {"one"}
    assert (await store.find(uuid4(), "alice")).epoch == "three"


async def test_a_batch_of_many_customers_and_the_epochs_work_on_a_cluster(tmp_path: Path) -> None:
    async with running_cluster(tmp_path) as url, create_redis(url) as cluster:
        store = RedisStore(cluster)
        calls = [call(Marker(uuid4(), f"customer-{n}", MOMENT)) for n in range(40)]

        first = await store.admit(calls)
        await store.settle([(one, Outcome.ACKED) for one in calls])
        again = await store.admit(calls)
        epochs = await store.write_epoch("one", replace=False)
        found = [await store.find(one.order_id, one.customer_id) for one in calls]

    assert {admission.verdict for admission in first} == {Verdict.NEW}
    assert {admission.verdict for admission in again} == {Verdict.REPLAYED}
    assert epochs == {"one"}
    assert [(f.marker, f.epoch) for f in found] == [(one.marker, "one") for one in calls]


async def test_a_marker_that_redis_did_not_take_is_reported(tmp_path: Path) -> None:
    reports: list[str] = []
    async with create_redis(redis_url(next(free_ports()))) as nowhere:
        store = RedisDoorStore(nowhere, LIMIT, on_marker_lost=lambda: reports.append("lost"))
        await store.settle([(call(), Outcome.REFUSED)])
        assert reports == []
        await store.settle([(call(), Outcome.ACKED)])
        await store.settle([(call(), Outcome.ACKED)])  # left alone for a second

    assert reports == ["lost", "lost"]


async def test_what_is_remembered_is_found(store: Store) -> None:
    markers = [Marker(uuid4(), f"customer-{n}", MOMENT) for n in range(40)]

    await remember(store, *markers)

    assert [(await store.find(marker.order_id, marker.customer_id)).marker for marker in markers] == markers


async def test_a_marker_is_for_its_customer_only(store: Store) -> None:
    # 17 customers share 16 hash tags: two of them at least would find each other's key
    markers = [Marker(uuid4(), f"customer-{n}", MOMENT) for n in range(17)]
    await remember(store, *markers)

    for marker in markers:
        for other in markers:
            if other is not marker:
                assert (await store.find(marker.order_id, other.customer_id)).marker is None


async def test_an_unknown_order_has_no_marker(store: Store) -> None:
    assert (await store.find(uuid4(), "alice")).marker is None


async def test_remembering_twice_is_remembering(store: Store) -> None:
    marker = Marker(uuid4(), "alice", MOMENT)

    await remember(store, marker)
    await remember(store, marker)

    assert (await store.find(marker.order_id, "alice")).marker == marker


async def test_a_marker_lives_as_long_as_the_log(tmp_path: Path) -> None:
    async with running_valkey(tmp_path) as redis:
        await remember(RedisStore(redis), Marker(uuid4(), "alice", MOMENT))
        (key,) = await redis.keys("accepted:{*}:*")
        assert 7 * 86_400 - 10 <= await redis.ttl(key) <= 7 * 86_400


async def test_a_dead_redis_costs_a_metric_not_an_order() -> None:
    async with create_redis(redis_url(next(free_ports()))) as nowhere:
        store = RedisStore(nowhere)

        await remember(store, Marker(uuid4(), "alice", MOMENT))
        with pytest.raises(InfrastructureError):
            await store.find(uuid4(), "alice")


async def test_a_frozen_redis_is_given_up_soon_and_used_again_when_back(tmp_path: Path) -> None:
    async with running_valkey(tmp_path) as redis:
        store = RedisStore(redis)
        marker = Marker(uuid4(), "alice", MOMENT)
        pid = int((await redis.info("server"))["process_id"])
        os.kill(pid, signal.SIGSTOP)
        try:
            started = perf_counter()
            await remember(store, marker)
            with pytest.raises(InfrastructureError):
                await store.find(marker.order_id, "alice")
            assert perf_counter() - started < 1.5
        finally:
            os.kill(pid, signal.SIGCONT)

        async def remembered_again() -> bool:  # it is left alone for a second after a failure
            await remember(store, marker)
            return (await store.find(marker.order_id, "alice")).marker == marker

        await eventually(remembered_again, within=5)


@asynccontextmanager
async def running_valkey(run_dir: Path) -> AsyncGenerator[Redis]:
    port = next(free_ports())
    async with supervised(run_dir, [[valkey(port)]]), create_redis(redis_url(port)) as redis:
        assert isinstance(redis, Redis)
        yield redis
