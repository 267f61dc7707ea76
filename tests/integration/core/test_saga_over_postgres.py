"""The real use cases of orders, inventory and payments over Postgres, joined by a network that loses, repeats, delays
and reorders, with time-outs firing: every order ends, and what was taken for one that failed is given back.

`SAGA_SEEDS=200` for a longer run. The same is asked of the pure rules, far more often, in tests/unit/orders.
"""

import os
import random
from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from builders import CUSTOMER, NOW, a_line, a_message, authorize_payment, place_order, reserve_stock
from common.contracts import commands, events
from common.contracts.codec import Message
from common.contracts.topics import Topic
from fakes import FakePaymentProvider
from integration.core.database import execute, rows, sent, value
from orders.adapters.postgres import unit_of_work
from orders.domain.order import FINAL, OrderStatus
from orders.use_cases import advance_sagas, ask_again, write_orders
from workers.catalog import import_catalog
from workers.inventory import Inventory
from workers.payments import Payments

SEEDS = range(int(os.environ.get("SAGA_SEEDS", "6")))
ORDERS, STOCK, FAULTY_STEPS, MOST_STEPS = 8, 6, 40, 200
OUTBOXES = ("orders", "inventory", "payments")
REPLIES = (Topic.INVENTORY_EVENTS, Topic.PAYMENTS_EVENTS)
COMMANDS = (Topic.INVENTORY_COMMANDS, Topic.PAYMENTS_COMMANDS)


class World:
    """Everything but the broker, which is `in_flight`. Commands keep their order, as on a topic with one key."""

    def __init__(self, engine: AsyncEngine, chance: random.Random) -> None:
        self.engine, self.chance, self.now = engine, chance, NOW
        self.provider = FakePaymentProvider()
        self.provider.faults = [chance.choice(["", "lost", "away"]) for _ in range(20)]
        self.inventory = Inventory(engine)
        self.payments = Payments(engine, self.provider, 4, self.clock)
        self.in_flight: defaultdict[str, list[Message]] = defaultdict(list)

    def clock(self) -> datetime:
        return self.now

    async def place(self) -> list[UUID]:
        item = {"sku": "sku-1", "name": "One", "price_minor": "1000", "currency": "USD", "stock": str(STOCK)}
        await import_catalog(self.engine, [item])
        orders = [place_order(lines=(a_line(),)) for _ in range(ORDERS)]
        self.provider.declines = set(self.chance.sample([order.order_id for order in orders], 2))
        await self.write(*orders)
        return [order.order_id for order in orders]

    async def write(self, *bodies: Any) -> None:
        batch = [a_message(body) for body in bodies]
        await write_orders(unit_of_work(self.engine, "order_writer"), self.clock, batch)

    async def relay(self) -> None:
        for schema in OUTBOXES:
            found = await sent(self.engine, schema)
            for message in found:
                self.in_flight[message.record.topic].append(message)
            if found:
                await execute(self.engine, f"DELETE FROM {schema}.outbox")

    async def commands_arrive(self, topic: Topic) -> None:
        """Some of the oldest, in their order; they may come again."""
        waiting = self.in_flight[topic]
        taken = waiting[: self.chance.randint(1, 5)]
        if self.chance.random() < 0.7:
            del waiting[: len(taken)]
        apply = self.inventory.apply if topic is Topic.INVENTORY_COMMANDS else self.payments.apply
        if taken:
            await apply(taken)

    async def news_arrives(self) -> None:
        """Some of it, in any order; it may come again."""
        waiting = [(topic, m) for topic in (Topic.ORDERS_EVENTS, *REPLIES) for m in self.in_flight[topic]]
        taken = self.chance.sample(waiting, min(len(waiting), self.chance.randint(1, 5)))
        await self.advance([message for _, message in taken])
        for topic, message in taken:
            if self.chance.random() < 0.7:
                self.in_flight[topic].remove(message)

    async def advance(self, messages: list[Message]) -> None:
        await advance_sagas(unit_of_work(self.engine, "saga_runner"), self.clock, messages)

    async def something_is_lost(self) -> None:
        waiting = self.in_flight[self.chance.choice([*REPLIES, *COMMANDS])]
        if waiting:
            waiting.pop(self.chance.randrange(len(waiting)))

    async def time_passes(self) -> None:
        self.now += timedelta(minutes=self.chance.choice([1, 3, 20]))
        await self.payments.retry_due()
        await ask_again(unit_of_work(self.engine, "saga_runner"), self.clock)

    async def a_customer_cancels(self, order_id: UUID) -> None:
        await self.write(commands.CancelOrder(order_id=order_id, customer_id=CUSTOMER))

    async def heal(self) -> None:
        """No more faults: everything arrives, and time passes."""
        self.provider.faults = []
        for _ in range(MOST_STEPS):
            await self.relay()
            for topic in COMMANDS:
                batch, self.in_flight[topic] = self.in_flight[topic], []
                await (self.inventory if topic is Topic.INVENTORY_COMMANDS else self.payments).apply(batch)
            news = [m for topic in (Topic.ORDERS_EVENTS, *REPLIES) for m in self.in_flight.pop(topic, [])]
            await self.advance(news)
            if not news and await value(self.engine, "SELECT count(*) FROM orders.sagas WHERE state <> 'ended'") == 0:
                return
            await self.time_passes()
        raise AssertionError(f"it does not end: {await rows(self.engine, 'SELECT * FROM orders.sagas')}")


@pytest.mark.parametrize("seed", SEEDS)
async def test_whatever_the_network_does_every_order_ends_and_a_failed_one_is_compensated(
    engine: AsyncEngine, seed: int
) -> None:
    chance = random.Random(seed)
    world = World(engine, chance)
    order_ids = await world.place()
    for _ in range(FAULTY_STEPS):
        await world.relay()
        match chance.choice(["inventory", "payments", "news", "news", "loss", "time", "cancel"]):
            case "inventory":
                await world.commands_arrive(Topic.INVENTORY_COMMANDS)
            case "payments":
                await world.commands_arrive(Topic.PAYMENTS_COMMANDS)
            case "news":
                await world.news_arrives()
            case "loss":
                await world.something_is_lost()
            case "time":
                await world.time_passes()
            case _:
                await world.a_customer_cancels(chance.choice(order_ids))

    await world.heal()

    await check_the_books(world, order_ids)


async def check_the_books(world: World, order_ids: list[UUID]) -> None:
    found = await rows(world.engine, "SELECT order_id, status, reason FROM orders.orders")
    status = {row.order_id: OrderStatus(row.status) for row in found}
    confirmed = {i for i in order_ids if status[i] is OrderStatus.CONFIRMED}
    assert set(status.values()) <= FINAL
    assert world.provider.charges == dict.fromkeys(confirmed, 1)
    assert {world.provider.book.get(i) for i in set(order_ids) - confirmed} <= {None, "voided", "declined"}
    assert await value(world.engine, "SELECT available FROM inventory.items") == STOCK - len(confirmed)
    declined = {row.order_id for row in found if row.reason == "payment_declined"}
    assert declined <= world.provider.declines
    assert not confirmed & world.provider.declines


async def test_a_success_that_comes_after_its_compensation_is_compensated_again(engine: AsyncEngine) -> None:
    world = World(engine, random.Random(0))
    (i, *_) = await world.place()
    await execute(engine, "DELETE FROM orders.outbox")
    placed = events.OrderPlaced(
        order_id=i, customer_id=CUSTOMER, version=1, occurred_at=NOW, currency="USD", lines=(), total_minor=1_000
    )
    history = [placed, events.StockReserved(order_id=i), events.OrderCancelRequested(order_id=i)]
    history += [events.PaymentVoided(order_id=i), events.StockReleased(order_id=i)]
    await world.advance([a_message(body) for body in history])
    assert await value(engine, "SELECT status FROM orders.orders WHERE order_id = :i", i=i) == "cancelled"
    await execute(engine, "DELETE FROM orders.outbox")

    await world.advance([a_message(kind(order_id=i)) for kind in (events.StockReserved, events.PaymentAuthorized)])

    assert [m.body for m in await sent(engine, "orders")] == [
        commands.ReleaseStock(order_id=i),
        commands.VoidPayment(order_id=i),
    ]


async def test_a_compensation_that_comes_before_its_step_leaves_a_tombstone_in_both_owners(engine: AsyncEngine) -> None:
    world = World(engine, random.Random(0))
    world.provider.faults = []
    (i, *_) = await world.place()

    await world.inventory.apply([a_message(commands.ReleaseStock(order_id=i))])
    await world.payments.apply([a_message(commands.VoidPayment(order_id=i))])
    await execute(engine, "DELETE FROM inventory.outbox WHERE topic = 'catalog.items'")
    await world.inventory.apply([a_message(reserve_stock(i))])
    await world.payments.apply([a_message(authorize_payment(i))])

    assert await value(engine, "SELECT available FROM inventory.items") == STOCK
    assert await value(engine, "SELECT state FROM inventory.reservations") == "released"
    assert world.provider.book == {i: "voided"}
    replies = [m.kind for schema in ("inventory", "payments") for m in await sent(engine, schema)]
    assert replies == [events.StockReleased, events.PaymentVoided]
