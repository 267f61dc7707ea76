"""A running load of orders, and what must be true of it afterwards, whatever happened meanwhile."""

import asyncio
import time
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from builders import place_order
from common.kafka.publisher import Outcome, Publisher
from common.records import OutgoingRecord
from eventually import eventually
from integration.core.broker import outgoing
from integration.core.database import rows

LANES, PAUSE_S = 20, 0.1  # about 200 orders a second


class Load:
    """Lanes that publish one order after another, each again and again under its id until it is acked."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._turns = [0] * LANES
        self.acked: set[UUID] = set()
        self.longest_wait_s = 0.0  # of one order for its ack, all its attempts together

    async def run(self, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as lanes:
            for lane in range(LANES):
                lanes.create_task(self._publish(lane, stop))

    async def goes_on(self, orders: int, *, within: float) -> None:
        """Wait until every lane has had this many more orders acked."""
        goal = [turns + orders for turns in self._turns]
        await eventually(lambda: all(t >= g for t, g in zip(self._turns, goal, strict=True)), within=within)

    async def _publish(self, lane: int, stop: asyncio.Event) -> None:
        while not stop.is_set():
            order, begin = place_order(), time.monotonic()
            record = outgoing(order, order.order_id)
            await eventually(lambda record=record: self._acks(record), within=120)
            self.acked.add(order.order_id)
            self.longest_wait_s = max(self.longest_wait_s, time.monotonic() - begin)
            self._turns[lane] += 1
            await asyncio.sleep(PAUSE_S)

    async def _acks(self, record: OutgoingRecord) -> bool:
        return await self._publisher.publish([record]) == [Outcome.ACKED]


async def written(engine: AsyncEngine) -> set[UUID]:
    return {row.order_id for row in await rows(engine, "SELECT order_id FROM orders.orders")}


async def assert_nothing_is_lost_or_doubled(engine: AsyncEngine, load: Load, *, within: float) -> None:
    """Every acked order comes to Postgres and has one event, however often its record was delivered."""

    async def all_written() -> bool:
        missing = load.acked - await written(engine)
        assert not missing, f"{len(missing)} of {len(load.acked)} acked orders are not written"
        return True

    await eventually(all_written, within=within)
    counts = {row.key: row.events for row in await rows(engine, EVENTS_PER_ORDER)}
    assert {counts.get(str(order_id), 0) for order_id in load.acked} == {1}


EVENTS_PER_ORDER = "SELECT key, count(*) AS events FROM orders.outbox GROUP BY key"
