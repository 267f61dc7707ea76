"""Customers who keep ordering."""

import asyncio
import time
from collections.abc import Sequence

from demo.cdnow import Purchase
from demo.client import Answer, Result
from demo.customers import AT_ONCE, keep_ordering
from demo.tally import Tally
from eventually import eventually

PER_SECOND = 200
PURCHASES = [Purchase(row, f"0000{row}", "1997-01-01", 1, 1177) for row in (1, 2, 3)]


class FakeDoor:
    """Accepts at once, or, while closed, when it opens."""

    def __init__(self, *, closed: bool = False) -> None:
        self.orders: list[Purchase] = []
        self.opened = asyncio.Event()
        if not closed:
            self.opened.set()

    async def place(self, purchase: Purchase, answer: Answer) -> None:
        self.orders.append(purchase)
        await self.opened.wait()
        answer.result = Result.ACCEPTED


async def ordered(count: int, purchases: Sequence[Purchase] = PURCHASES) -> list[Purchase]:
    door, stop, tally = FakeDoor(), asyncio.Event(), Tally(len(purchases))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(keep_ordering(door, purchases, PER_SECOND, tally, stop))
        await eventually(lambda: tally.accepted >= count, within=5)
        stop.set()
    return door.orders


async def test_after_the_last_purchase_comes_the_first_one_as_a_new_order():
    orders = await ordered(2 * len(PURCHASES))

    assert {order.customer_id for order in orders} == {"00001", "00002", "00003"}
    assert len({order.row for order in orders}) == len(orders)  # the idempotency key


async def test_a_restart_goes_on_instead_of_ordering_again():
    first = await ordered(3)
    last = max(order.row for order in first)
    await eventually(lambda: time.time() * PER_SECOND > last + 1, within=1)  # a restart takes longer than an order

    second = await ordered(3)

    assert last < min(order.row for order in second)


async def test_a_door_that_does_not_answer_is_not_flooded_and_a_stop_waits_for_its_answers():
    door, stop, tally = FakeDoor(closed=True), asyncio.Event(), Tally(len(PURCHASES))
    ordering = asyncio.create_task(keep_ordering(door, PURCHASES, 10_000, tally, stop))
    await eventually(lambda: len(door.orders) == AT_ONCE, within=5)

    stop.set()
    door.opened.set()
    await ordering

    assert len(door.orders) == AT_ONCE
    assert tally.accepted == AT_ONCE
