"""An order whose saga asks in vain: who sees it, and how it goes on."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from prometheus_client import REGISTRY
from sqlalchemy.ext.asyncio import AsyncEngine

from builders import CUSTOMER, NOW, a_message, place_order
from common.contracts import commands, events
from integration.core.database import execute, sent_bodies
from orders.adapters.postgres import unit_of_work
from orders.adapters.queries import OrderQueries
from orders.domain.saga import ATTEMPTS_BEFORE_ATTENTION
from orders.use_cases import advance_sagas, ask_again, write_orders
from workers.saga_runner import measure_sagas


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


def metric(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


async def test_an_order_that_waits_in_vain_is_seen_is_asked_for_for_ever_and_goes_on_by_itself(
    engine: AsyncEngine,
) -> None:
    begin, clock, queries, order = unit_of_work(engine, "test"), Clock(), OrderQueries(engine), place_order()

    async def hear(*bodies: Any) -> None:
        await advance_sagas(begin, clock, [a_message(body) for body in bodies])

    async def ask_in_vain(times: int) -> None:
        for _ in range(times):
            clock.now += timedelta(hours=1)
            assert await ask_again(begin, clock) == 1

    await write_orders(begin, clock, [a_message(order)])
    await hear(*await sent_bodies(engine, "orders"))
    await execute(engine, "DELETE FROM orders.outbox")

    await ask_in_vain(ATTEMPTS_BEFORE_ATTENTION)
    await measure_sagas(queries, clock)

    shown = await queries.get(order.order_id, CUSTOMER)
    assert shown is not None
    assert (shown.status, shown.reason) == ("needs_attention", "inventory")
    (news,) = [b for b in await sent_bodies(engine, "orders") if isinstance(b, events.OrderNeedsAttention)]
    assert news.reason == "inventory"
    assert metric("headrace_orders_needing_attention", waits_for="inventory") == 1
    assert metric("headrace_orders_needing_attention", waits_for="payments") == 0
    assert metric("headrace_saga_age_seconds") == pytest.approx(ATTEMPTS_BEFORE_ATTENTION * 3_600)

    await ask_in_vain(5)
    asked = [b for b in await sent_bodies(engine, "orders") if isinstance(b, commands.ReserveStock)]
    assert len(asked) == ATTEMPTS_BEFORE_ATTENTION + 5

    await hear(*(kind(order_id=order.order_id) for kind in (events.StockReserved, events.PaymentAuthorized)))
    await hear(events.PaymentCaptured(order_id=order.order_id))
    await measure_sagas(queries, clock)

    shown = await queries.get(order.order_id, CUSTOMER)
    assert shown is not None
    assert (shown.status, shown.reason) == ("confirmed", None)
    assert metric("headrace_orders_needing_attention", waits_for="inventory") == 0
    assert metric("headrace_saga_age_seconds") == 0
