"""payments: authorizes, captures and voids at the provider, once per order, whatever the network does.

Rule: ask first, write after. The provider is called before the transaction, by the order's own id, so that a crash in
between only repeats the question. No answer is neither yes nor no: the provider is asked what it knows; if that stays
unclear, the payment stays open in Postgres and a timer tries again. A provider that does not answer is left alone by
the breaker: then nobody is asked, and the timer goes on.
Guarantees: no order is charged twice; no partition waits for the provider.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from common.contracts.codec import Emitted, Message
from common.contracts.topics import Topic
from common.errors import InfrastructureError, PoisonError
from common.inbox import Inbox
from common.outbox import Outbox
from common.postgres import transaction
from common.resilience.backoff import full_jitter
from common.resilience.circuit_breaker import CircuitBreaker
from common.resilience.retry import Retry
from common.resilience.through import through
from workers.payment import COMMAND_OF, OPEN, Payment, PaymentState, answer_to, begin
from workers.payment_store import load, load_due, save
from workers.provider import HttpPaymentProvider, PaymentProvider, UnclearError
from workers.resources import Resources, utc_now
from workers.tables import PAYMENTS
from workers.worker import ConsumingWorker, Timer

BATCH_BUDGET_S = 10  # what a batch may spend on a slow provider; the rest is left to the timer
TIMER_INTERVAL_S = 0.5


def build(resources: Resources) -> "PaymentsWorker":
    settings = resources.settings
    http = HttpPaymentProvider(settings.payment_provider_url, timeout_s=settings.payment_provider_timeout_s)
    provider = guarded(http, timeout_s=settings.payment_provider_timeout_s)
    payments = Payments(resources.engine, provider, settings.payment_provider_concurrency, utc_now)
    consumer = resources.consumer("payments", [Topic.PAYMENTS_COMMANDS], payments.apply)
    return PaymentsWorker(ConsumingWorker(consumer, [Timer(TIMER_INTERVAL_S, payments.retry_due)]), http)


def guarded(provider: PaymentProvider, *, timeout_s: float) -> PaymentProvider:
    """`timeout_s`: what one call of this provider may take. Each of the two lines can go by itself (ADR 21, 22)."""
    name = "payment_provider"
    provider = through(provider, CircuitBreaker(name, timeout_s=timeout_s + 0.5).call)
    provider = through(provider, Retry(name, errors=(UnclearError,), try_s=timeout_s, deadline_s=timeout_s + 1).call)
    return provider  # noqa: RET504 - the lines above come and go


@dataclass(frozen=True, slots=True)
class PaymentsWorker:
    """The consuming worker with its provider's connections around it."""

    worker: ConsumingWorker
    provider: HttpPaymentProvider

    def alive(self) -> bool:
        return self.worker.alive()

    def ready(self) -> bool:
        return self.worker.ready()

    async def run(self, stop: asyncio.Event) -> None:
        async with self.provider:
            await self.worker.run(stop)


@dataclass(slots=True)
class _Handled:
    """What became of one order's commands in a batch."""

    payment: Payment
    replies: list[Emitted]


class Payments:
    def __init__(
        self, engine: AsyncEngine, provider: PaymentProvider, concurrency: int, clock: Callable[[], datetime]
    ) -> None:
        self._engine, self._provider, self._clock = engine, provider, clock
        self._bulkhead = asyncio.Semaphore(concurrency)
        self._inbox, self._outbox = Inbox(PAYMENTS, "payments"), Outbox(PAYMENTS)

    async def apply(self, messages: Sequence[Message]) -> None:
        """Apply a batch of commands; safe to repeat. Raises PoisonError for a command that makes no sense."""
        async with transaction(self._engine) as connection:
            new = await self._inbox.only_new(connection, messages)
            known = await load(connection, {m.body.order_id for m in new})
        by_order: dict[UUID, list[Message]] = defaultdict(list)
        for message in new:
            by_order[message.body.order_id].append(message)
        deadline = asyncio.get_running_loop().time() + BATCH_BUDGET_S
        handled = await asyncio.gather(
            *(self._handle(of_order, known.get(order_id), deadline) for order_id, of_order in by_order.items()),
            return_exceptions=True,
        )
        results: list[_Handled] = []
        for result in handled:
            if isinstance(result, BaseException):
                raise result
            results.append(result)
        async with transaction(self._engine) as connection:
            if len(await self._inbox.take_new(connection, new)) != len(new):
                raise InfrastructureError("another process took some of these messages; read them again")
            await save(connection, [r.payment for r in results if r.payment != known.get(r.payment.order_id)])
            await self._outbox.add(connection, [reply for r in results for reply in r.replies])

    async def retry_due(self, limit: int = 200) -> int:
        """Try open payments again whose time has come; answer how many there were."""
        async with transaction(self._engine) as connection:
            due = await load_due(connection, self._clock(), limit)
        deadline = asyncio.get_running_loop().time() + BATCH_BUDGET_S
        asked = {payment.order_id: COMMAND_OF[payment.state] for payment in due}
        await asyncio.gather(*(self._settle(payment, deadline) for payment in due))
        replies = [(answer_to(asked[p.order_id], p), p.traceparent) for p in due]
        async with transaction(self._engine) as connection:
            await save(connection, due)
            await self._outbox.add(connection, [Emitted(reply, trace) for reply, trace in replies if reply is not None])
        return len(due)

    async def _handle(self, messages: Sequence[Message], known: Payment | None, deadline: float) -> _Handled:
        payment = replace(known) if known is not None else None
        replies: list[Emitted] = []
        for message in messages:
            payment = begin(message.body, payment, message.traceparent)
            # a late duplicate may close what a later command left open: the answer is the later one's
            asked = COMMAND_OF.get(payment.state, message.kind)
            if payment.state in OPEN:
                await self._settle(payment, deadline)
            reply = answer_to(asked, payment)
            if reply is not None:
                replies.append(Emitted(reply, message.traceparent))
        if payment is None:
            raise PoisonError("an order without commands")
        return _Handled(payment, replies)

    async def _settle(self, payment: Payment, deadline: float) -> None:
        async with self._bulkhead:
            in_time = asyncio.get_running_loop().time() < deadline
            status = await self._status(payment) if in_time else None
        if not payment.settle(status):
            payment.attempts += 1
            payment.next_attempt_at = self._clock() + timedelta(
                seconds=full_jitter(payment.attempts, base_s=0.5, cap_s=30)
            )

    async def _status(self, payment: Payment) -> str | None:
        if payment.is_free:
            return {
                PaymentState.AUTHORIZING: "authorized",
                PaymentState.CAPTURING: "captured",
                PaymentState.VOIDING: "voided",
            }[payment.state]
        try:
            match payment.state:
                case PaymentState.CAPTURING:
                    return await self._provider.capture(payment.order_id)
                case PaymentState.VOIDING:
                    return await self._provider.void(payment.order_id)
                case _:
                    return await self._provider.authorize(payment)
        except InfrastructureError:
            try:
                return await self._provider.ask(payment.order_id)
            except InfrastructureError:
                return None
