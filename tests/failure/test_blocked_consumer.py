"""A worker whose database is away while a large backlog waits: it takes no more than it can hold, and loses nothing."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import psutil
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from builders import place_order
from common.kafka.publisher import Outcome, Publisher
from common.memory import MIB
from common.records import OutgoingRecord
from eventually import eventually
from integration.core.broker import outgoing
from integration.core.database import execute, value
from kafka.members import Members, order_writers
from local_stack.servers import Addresses

ORDERS, PADDING = 4_000, 32_000  # about 120 MiB
MOST_GROWTH = 56 * MIB  # one fetch of each partition, and one batch; not the backlog
BLOCKED_S = 3
CUSTOMER = f"blocked-{uuid4()}"  # the topic may hold orders of others
pytestmark = pytest.mark.timeout(120)

AWAY, BACK = "ALTER TABLE orders.inbox RENAME TO inbox_away", "ALTER TABLE orders.inbox_away RENAME TO inbox"


@pytest.fixture
async def member(servers: Addresses, engine: AsyncEngine, tmp_path: Path) -> AsyncIterator[Members]:
    async with order_writers(servers, tmp_path, 1) as members:
        yield members


def a_large_record() -> OutgoingRecord:
    """An order with a field that nobody reads."""
    order = place_order(accepted_at=datetime.now(UTC), customer_id=CUSTOMER)
    record = outgoing(order, order.order_id)
    padded = (record.value or b"")[:-1] + b',"padding":"' + b"x" * PADDING + b'"}'
    return replace(record, value=padded)


async def publish(publisher: Publisher, count: int) -> None:
    """By hundreds: this process need not hold them all."""
    for _ in range(count // 100):
        assert set(await publisher.publish([a_large_record() for _ in range(100)])) == {Outcome.ACKED}


async def stored(engine: AsyncEngine) -> int:
    return await value(engine, "SELECT count(*) FROM orders.orders WHERE customer_id = :c", c=CUSTOMER)


async def test_with_its_database_away_a_worker_holds_little_of_a_large_backlog_and_goes_on_where_it_was(
    engine: AsyncEngine, publisher: Publisher, member: Members
) -> None:
    await publish(publisher, 100)
    await eventually(lambda: is_stored(engine, 100), within=15)
    process = psutil.Process(*member.pids)
    before: int = process.memory_info().rss

    await execute(engine, AWAY)
    try:
        await publish(publisher, ORDERS - 100)
        most, until = before, time.monotonic() + BLOCKED_S
        while time.monotonic() < until:
            most = max(most, process.memory_info().rss)
            await asyncio.sleep(0.05)
        assert await stored(engine) == 100
    finally:
        await execute(engine, BACK)
    await eventually(lambda: is_stored(engine, ORDERS), within=45)

    print(f"{before / MIB:.0f} MiB before, {most / MIB:.0f} at most while {ORDERS * PADDING / MIB:.0f} MiB waited")
    assert most - before < MOST_GROWTH
    events = "SELECT count(*) FROM orders.outbox JOIN orders.orders ON key = order_id::text WHERE customer_id = :c"
    assert await value(engine, events, c=CUSTOMER) == ORDERS


async def is_stored(engine: AsyncEngine, count: int) -> bool:
    return await stored(engine) == count
