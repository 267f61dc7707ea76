"""The use cases that write: place orders, advance sagas, ask again. Each is one transaction: load, decide, save."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from common.contracts import commands, events
from common.contracts.codec import Emitted, Message
from common.contracts.values import StockLine
from common.errors import PoisonError
from common.telemetry import metrics
from common.telemetry.tracing import trace_id_of
from orders.adapters.postgres import UnitOfWorkFactory
from orders.adapters.view import OrderViews, show
from orders.domain.order import FINAL, Order
from orders.domain.ports import Process, Step, UnitOfWork
from orders.domain.saga import STEP_TIMEOUT, Decision, decide, time_out
from orders.timeline import COPY, command_steps, dropped, step_of, time_out_step

log = structlog.get_logger()
Clock = Callable[[], datetime]
FIRST_ORDER = datetime(2020, 1, 1, tzinfo=UTC)  # an order from before this system, or from tomorrow, is a wrong clock
CLOCK_SKEW = timedelta(days=1)
UNSEEN = OrderViews()


async def write_orders(
    begin: UnitOfWorkFactory, clock: Clock, messages: Sequence[Message], *, views: OrderViews = UNSEEN
) -> None:
    """Apply a batch of PlaceOrder and CancelOrder: orders, lines and events in one transaction.

    Redelivered orders change nothing, but their views are published again: the writer before us may have died.
    Raises PoisonError for an order from another time.
    """
    earliest, latest = FIRST_ORDER, clock() + CLOCK_SKEW
    if wrong := [m for m in messages if not earliest <= getattr(m.body, "accepted_at", earliest) <= latest]:
        raise PoisonError("accepted before 2020 or after tomorrow: that cannot be", wrong)
    wanted = {m.body.order_id: m.body.customer_id for m in messages if isinstance(m.body, commands.PlaceOrder)}
    async with views.writing(wanted) as shown:
        async with begin() as work:
            new = await work.take_new(messages)
            known = await work.owners({m.body.order_id for m in messages})
            wishes = (m for m in reversed(new) if isinstance(m.body, commands.PlaceOrder))
            placed = {m.body.order_id: m for m in wishes if m.body.order_id not in known}
            orders = [_order(m.body, clock()) for m in reversed(placed.values())]  # first come first
            await work.add_orders(orders)
            emitted = [Emitted(o.placed(), placed[o.order_id].traceparent) for o in orders]
            known |= {o.order_id: o.customer_id for o in orders}
            for message in new:
                body = message.body
                if isinstance(body, commands.CancelOrder) and known.get(body.order_id) == body.customer_id:
                    emitted.append(Emitted(events.OrderCancelRequested(order_id=body.order_id), message.traceparent))
            await work.emit(emitted)
            again = wanted.keys() - placed.keys()
            older = await work.load(again) if again else {}
            orders += [process.order for process in older.values()]
            ours = [m for m in messages if known.get(m.body.order_id) == m.body.customer_id]
            first, repeated = command_steps(ours, new, placed, {o.order_id: o for o in orders}, clock())
            await work.record(first, repeated)
        shown.update(show(orders))


async def advance_sagas(
    begin: UnitOfWorkFactory,
    clock: Clock,
    messages: Sequence[Message],
    *,
    views: OrderViews = UNSEEN,
    step_timeout: timedelta = STEP_TIMEOUT,
) -> None:
    """Apply a batch of events and replies to the sagas of their orders; publish the views, also if redelivered.

    Raises PoisonError for one whose order does not exist: nobody sends that, so it must not vanish.
    """
    relevant = [m for m in messages if m.kind in HEARD]
    if not relevant:
        return
    async with begin() as work:  # the cache must know before the transaction begins, and needs the customers
        customers = await work.owners({m.body.order_id for m in relevant})
    if strangers := [m for m in relevant if m.body.order_id not in customers]:
        raise PoisonError("an event for an unknown order", strangers)
    async with views.writing(customers) as shown:
        async with begin() as work:
            new = await work.take_new(relevant)
            processes = await work.load(m.body.order_id for m in relevant)
            outgoing: list[Emitted] = []
            steps: list[Step] = []
            for message in new:
                now = clock()
                process = processes[message.body.order_id]
                process.traceparent = process.traceparent or message.traceparent
                reason = getattr(message.body, "reason", None)
                decision = decide(process.saga, message.kind, now, reason=reason, step_timeout=step_timeout)
                outgoing += _carry_out(process, decision, now)
                steps.append(step_of(message, now, process.order if decision.order else None))
            touched = {m.body.order_id for m in new}
            await work.record(steps, [step_of(m, clock(), note=COPY) for m in dropped(relevant, new)])
            await _finish(work, [p for i, p in processes.items() if i in touched], outgoing)
        shown.update(show(process.order for process in processes.values()))


async def ask_again(
    begin: UnitOfWorkFactory,
    clock: Clock,
    limit: int = 500,
    *,
    views: OrderViews = UNSEEN,
    step_timeout: timedelta = STEP_TIMEOUT,
) -> int:
    """Send the current step again for sagas that waited too long; answer how many."""
    async with begin() as work:
        due = {i: process.order.customer_id for i, process in (await work.load_due(clock(), limit)).items()}
    if not due:
        return 0
    async with views.writing(due) as shown:
        async with begin() as work:
            processes = await work.load(due)
            late = [p for p in processes.values() if p.saga.deadline is not None and p.saga.deadline <= clock()]
            outgoing: list[Emitted] = []
            steps: list[Step] = []
            for process in late:
                metrics.SAGA_TIMEOUTS.labels(process.saga.state).inc()
                decision = time_out(process.saga, clock(), step_timeout=step_timeout)
                outgoing += _carry_out(process, decision, clock())
                steps.append(time_out_step(process, decision, clock()))
            await work.record(steps)
            await _finish(work, late, outgoing)
        shown.update(show(process.order for process in processes.values()))
    return len(late)


HEARD = frozenset(
    {
        events.OrderPlaced,
        events.OrderCancelRequested,
        events.StockReserved,
        events.StockRefused,
        events.StockReleased,
        events.PaymentAuthorized,
        events.PaymentDeclined,
        events.PaymentCaptured,
        events.PaymentVoided,
    }
)


async def _finish(work: UnitOfWork, processes: Sequence[Process], outgoing: Sequence[Emitted]) -> None:
    await work.save(processes)
    await work.emit(outgoing)


def _carry_out(process: Process, decision: Decision, now: datetime) -> list[Emitted]:
    order, outgoing = process.order, list[Emitted]()
    if decision.order is not None:
        outgoing.append(Emitted(order.move(decision.order, now, decision.reason), process.traceparent))
        if order.status in FINAL:
            metrics.ORDERS_FINISHED.labels(order.status).inc()
            trace_id = trace_id_of(process.traceparent)
            log.info(f"order_{order.status}", order_id=str(order.order_id), trace_id=trace_id, reason=order.reason)
    if decision.send is not None:
        outgoing.append(Emitted(_command(decision.send, order), process.traceparent))
    return outgoing


def _command(kind: type[Any], order: Order) -> Any:
    if kind is commands.ReserveStock:
        lines = tuple(StockLine(sku=line.sku, quantity=line.quantity) for line in order.lines)
        return commands.ReserveStock(order_id=order.order_id, lines=lines)
    if kind is commands.AuthorizePayment:
        return commands.AuthorizePayment(
            order_id=order.order_id,
            customer_id=order.customer_id,
            currency=order.currency,
            amount_minor=order.total_minor,
        )
    return kind(order_id=order.order_id)


def _order(body: commands.PlaceOrder, now: datetime) -> Order:
    return Order(
        order_id=body.order_id,
        customer_id=body.customer_id,
        currency=body.currency,
        total_minor=body.total_minor,
        lines=body.lines,
        client_reference=body.client_reference,
        accepted_at=body.accepted_at,
        updated_at=now,
    )
