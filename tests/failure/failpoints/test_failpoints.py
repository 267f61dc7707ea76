"""kill -9 at every failpoint: nothing accepted is lost, nothing is done twice, no reader goes back, every saga ends.

FAILPOINTS=all takes every one of them, FAILPOINTS=order_writer.after_database_commit,… those; six unless told.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# (redis-py types its commands loosely)

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from common.contracts.topics import Topic, dead_letter_topic
from common.kafka.publisher import Outcome, Publisher
from common.records import OutgoingRecord, Record
from eventually import eventually
from integration.core.broker import read_all
from tests.failure.failpoints.system import CD, FREE, SOLD_OUT, System, running_system
from tests.failure.failpoints.table import FAILPOINTS, Failpoint

SHORT = (
    "gateway.after_ack_before_settle,order_writer.after_database_commit,outbox_relay.after_ack_before_mark_sent,"
    "saga_runner.before_offset_commit,inventory.after_release_commit,payments.after_charge_before_commit"
)
ASKED = os.environ.get("FAILPOINTS", SHORT)
BY_NAME = {point.name: point for point in FAILPOINTS}
CHOSEN = FAILPOINTS if ASKED == "all" else [BY_NAME[name] for name in ASKED.split(",")]
POISON = b"nobody can read this"
CUSTOMERS = ("anna", "berta", "carla")

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system() -> AsyncIterator[System]:
    with TemporaryDirectory() as folder:
        async with running_system(Path(folder)) as system:
            yield system


@pytest.mark.parametrize("point", CHOSEN, ids=lambda point: point.name)
async def test_kill_9_at_a_failpoint_loses_and_doubles_nothing(system: System, point: Failpoint) -> None:
    orders = dict[str, str]()
    system.arm(point)

    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(watch(system, orders))
        acting = tasks.create_task(SCENARIOS[point.while_](system, orders))
        await system.died(point)
        await system.start(point.process)
        await acting
        await eventually(lambda: all_final(system, orders), within=30)
        watching.cancel()

    report = await system.books()
    assert (report.figures.missing, report.figures.doubled) == (0, 0)
    assert report.differences == []
    await eventually(lambda: shown_as_stored(system, orders), within=10)


async def place_orders(system: System, orders: dict[str, str]) -> None:
    """Two of each customer, each sent twice at the same time under its key; one is sold out, one is free."""
    items = [CD, CD, CD, CD, SOLD_OUT, FREE]

    async def place(customer: str, item: tuple[int, int]) -> None:
        orders[await system.place(customer, item, times=2)] = customer

    async with asyncio.TaskGroup() as tasks:
        for number, item in enumerate(items):
            tasks.create_task(place(CUSTOMERS[number % 3], item))


async def place_and_decline(system: System, orders: dict[str, str]) -> None:
    await system.switch_provider(decline_percent=100)
    orders[await system.place("anna")] = "anna"
    await eventually(lambda: all_final(system, orders), within=30)
    await system.switch_provider(decline_percent=0)
    assert set((await statuses(system, orders)).values()) == {"rejected"}


async def place_and_cancel(system: System, orders: dict[str, str]) -> None:
    """While the provider takes its time to authorize."""
    await system.switch_provider(latency_ms=1_200)
    order_id = await system.place("anna")
    orders[order_id] = "anna"
    await eventually(lambda: has_status(system, order_id, "reserved"), within=10)
    async with system.request("anna") as session, session.post(f"/v1/orders/{order_id}/cancel") as response:
        assert response.status == 202
    await eventually(lambda: all_final(system, orders), within=30)
    await system.switch_provider(latency_ms=0)
    assert set((await statuses(system, orders)).values()) == {"cancelled"}


async def publish_poison(system: System, orders: dict[str, str]) -> None:
    """Nobody can read it; the order behind it must not wait."""
    before = len(await dead_letters(system, Topic.ORDERS_COMMANDS))
    publisher = Publisher(system.env["KAFKA_BOOTSTRAP_SERVERS"], idempotence=False)
    await publisher.start()
    record = OutgoingRecord(Topic.ORDERS_COMMANDS, str(uuid4()).encode(), POISON, [])
    assert await publisher.publish([record]) == [Outcome.ACKED]
    await publisher.stop()
    orders[await system.place("anna")] = "anna"
    await eventually(lambda: buried(system, more_than=before), within=30)


async def evict_and_read(system: System, orders: dict[str, str]) -> None:
    order_id = await system.place("anna")
    await eventually(lambda: all_final(system, {order_id: "anna"}), within=30)
    async with Redis.from_url(system.env["REDIS_URL"]) as redis:
        views = await redis.keys("view:*")
        await redis.delete(*views)
    orders[order_id] = "anna"  # the reader that watches misses it


SCENARIOS: dict[str, Callable[[System, dict[str, str]], Coroutine[Any, Any, None]]] = {
    "orders": place_orders,
    "declined": place_and_decline,
    "cancelled": place_and_cancel,
    "poison": publish_poison,
    "evicted": evict_and_read,
}


async def watch(system: System, orders: dict[str, str]) -> None:
    """Read every order all the time: it is always there, and its version never goes back."""
    newest = dict[str, int]()
    while True:
        for order_id, customer in list(orders.items()):
            with suppress(aiohttp.ClientError, TimeoutError):  # whoever is asked may be dead
                status, body = await read(system, order_id, customer)
                assert status != 404, f"{order_id} was accepted, and is not there"
                version = body["version"] if status == 200 else 0
                assert status != 200 or version >= newest.get(order_id, 0), f"{order_id} went back to {version}"
                newest[order_id] = max(version, newest.get(order_id, 0))
        await asyncio.sleep(0.02)


async def read(system: System, order_id: str, customer: str) -> tuple[int, Any]:
    async with system.request(customer) as session, session.get(f"/v1/orders/{order_id}") as response:
        return response.status, await response.json()


async def statuses(system: System, orders: dict[str, str]) -> dict[str, str]:
    """The status of each order that is final."""
    return await system.database.final_among(list(orders))


async def all_final(system: System, orders: dict[str, str]) -> bool:
    return len(await statuses(system, orders)) == len(orders)


async def has_status(system: System, order_id: str, status: str) -> bool:
    return await system.database.count_states([order_id]) == {status: 1}


async def shown_as_stored(system: System, orders: dict[str, str]) -> bool:
    shown = {order_id: (await read(system, order_id, customer))[1]["status"] for order_id, customer in orders.items()}
    return shown == await statuses(system, orders)


async def buried(system: System, *, more_than: int) -> bool:
    return len(await dead_letters(system, Topic.ORDERS_COMMANDS)) > more_than


async def dead_letters(system: System, topic: Topic) -> list[Record]:
    return await read_all(system.env["KAFKA_BOOTSTRAP_SERVERS"], dead_letter_topic(topic))


async def test_only_the_poison_was_buried(system: System) -> None:
    letters = [letter for topic in Topic for letter in await dead_letters(system, topic)]

    assert {letter.value for letter in letters} <= {POISON}
