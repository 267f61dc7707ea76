"""Payments in Postgres, with a provider that has good days and bad ones. Nobody is ever charged twice."""

import asyncio
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from builders import NOW, a_message, a_payment, authorize_payment
from common.contracts import commands, events
from common.errors import InfrastructureError, PoisonError
from fakes import FakePaymentProvider
from integration.core.database import execute, rows, sent_bodies, value
from workers import payment_store
from workers.payment import Payment, PaymentState
from workers.payments import Payments


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def provider() -> FakePaymentProvider:
    return FakePaymentProvider()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def payments(engine: AsyncEngine, provider: FakePaymentProvider, clock: Clock) -> Payments:
    return Payments(engine, provider, 4, clock)


async def apply(payments: Payments, *bodies: commands.PaymentsCommand) -> None:
    await payments.apply([a_message(body) for body in bodies])


async def state_of(engine: AsyncEngine, order_id: UUID) -> str:
    return await value(engine, "SELECT state FROM payments.payments WHERE order_id = :id", id=order_id)


async def replies(engine: AsyncEngine) -> list[type[Any]]:
    return [type(body) for body in await sent_bodies(engine, "payments")]


async def test_authorize_and_capture_charge_once(
    engine: AsyncEngine, payments: Payments, provider: FakePaymentProvider
) -> None:
    authorize = authorize_payment()
    capture = commands.CapturePayment(order_id=authorize.order_id)

    await apply(payments, authorize)
    await apply(payments, capture)
    await apply(payments, capture)

    assert provider.charges == {authorize.order_id: 1}
    assert await replies(engine) == [events.PaymentAuthorized, events.PaymentCaptured, events.PaymentCaptured]


async def test_all_commands_of_an_order_in_one_batch_are_carried_out_in_their_order(
    engine: AsyncEngine, payments: Payments, provider: FakePaymentProvider
) -> None:
    first, second = authorize_payment(), authorize_payment()
    void = commands.VoidPayment(order_id=first.order_id)

    await apply(payments, first, second, void, commands.CapturePayment(order_id=second.order_id))

    assert provider.book == {first.order_id: "voided", second.order_id: "captured"}
    assert sorted(kind.__name__ for kind in await replies(engine)) == [
        "PaymentAuthorized",
        "PaymentAuthorized",
        "PaymentCaptured",
        "PaymentVoided",
    ]


async def test_a_decline_is_an_answer_and_its_void_asks_nobody(
    engine: AsyncEngine, payments: Payments, provider: FakePaymentProvider
) -> None:
    authorize = authorize_payment()
    provider.declines.add(authorize.order_id)

    await apply(payments, authorize, commands.VoidPayment(order_id=authorize.order_id))

    assert await replies(engine) == [events.PaymentDeclined, events.PaymentVoided]
    assert [operation for operation, _ in provider.calls] == ["authorize"]


async def test_an_order_of_nothing_makes_no_call(
    engine: AsyncEngine, payments: Payments, provider: FakePaymentProvider
) -> None:
    kept, dropped = authorize_payment(amount_minor=0), authorize_payment(amount_minor=0)

    await apply(payments, kept, commands.CapturePayment(order_id=kept.order_id))
    await apply(payments, dropped, commands.VoidPayment(order_id=dropped.order_id))

    assert provider.calls == []
    assert (await state_of(engine, kept.order_id), await state_of(engine, dropped.order_id)) == ("captured", "voided")


async def test_after_a_lost_reply_the_provider_is_asked_and_what_it_knows_counts(
    engine: AsyncEngine, payments: Payments, provider: FakePaymentProvider
) -> None:
    provider.faults = ["lost"]

    await apply(payments, authorize_payment())

    assert await replies(engine) == [events.PaymentAuthorized]
    assert [operation for operation, _ in provider.calls] == ["authorize", "ask"]


@pytest.mark.parametrize("faults", [["away", "away"], ["lost", "away"]])
async def test_an_unclear_payment_stays_open_and_the_timer_settles_it_under_the_same_name(
    engine: AsyncEngine, payments: Payments, provider: FakePaymentProvider, clock: Clock, faults: list[str]
) -> None:
    authorize = authorize_payment()
    provider.faults = [*faults]
    await apply(payments, authorize)
    assert await state_of(engine, authorize.order_id) == "authorizing"
    assert await replies(engine) == []
    clock.now += timedelta(minutes=1)

    assert await payments.retry_due() == 1
    assert await payments.retry_due() == 0

    assert await replies(engine) == [events.PaymentAuthorized]
    assert await value(engine, "SELECT next_attempt_at IS NULL AND attempts = 0 FROM payments.payments")


async def test_the_timer_waits_longer_with_each_failure_and_never_gives_up(
    engine: AsyncEngine, payments: Payments, provider: FakePaymentProvider, clock: Clock
) -> None:
    provider.faults = ["away"] * 100
    await apply(payments, authorize_payment())

    for _ in range(20):
        clock.now += timedelta(minutes=1)
        assert await payments.retry_due() == 1

    ((attempts, due),) = await rows(engine, "SELECT attempts, next_attempt_at FROM payments.payments")
    assert attempts == 21
    assert clock.now <= due <= clock.now + timedelta(seconds=30)


async def test_a_capture_whose_reply_was_lost_is_settled_by_a_late_duplicate_and_still_answered(
    engine: AsyncEngine, payments: Payments, provider: FakePaymentProvider
) -> None:
    """Whoever closes an open state must tell: afterwards no timer knows of it."""
    authorize = authorize_payment()
    await apply(payments, authorize)
    provider.faults = ["lost", "away"]
    await apply(payments, commands.CapturePayment(order_id=authorize.order_id))

    await apply(payments, authorize)

    assert await state_of(engine, authorize.order_id) == "captured"
    assert (await replies(engine))[-1] is events.PaymentCaptured


async def test_a_late_authorization_after_its_void_takes_no_money(
    engine: AsyncEngine, payments: Payments, provider: FakePaymentProvider
) -> None:
    authorize = authorize_payment()

    await apply(payments, commands.VoidPayment(order_id=authorize.order_id))
    await apply(payments, authorize)

    assert await replies(engine) == [events.PaymentVoided]
    assert provider.book == {authorize.order_id: "voided"}


async def test_a_void_while_the_authorization_is_unclear_settles_both(
    engine: AsyncEngine, payments: Payments, provider: FakePaymentProvider, clock: Clock
) -> None:
    authorize = authorize_payment()
    provider.faults = ["lost", "away"]
    await apply(payments, authorize)

    await apply(payments, commands.VoidPayment(order_id=authorize.order_id))
    clock.now += timedelta(minutes=1)

    assert await payments.retry_due() == 0
    assert await replies(engine) == [events.PaymentVoided]
    assert provider.book == {authorize.order_id: "voided"}


async def test_killed_between_the_call_and_the_commit_the_redelivery_charges_nothing_more(
    engine: AsyncEngine, payments: Payments, provider: FakePaymentProvider
) -> None:
    authorize = authorize_payment()
    await apply(payments, authorize)
    capture = a_message(commands.CapturePayment(order_id=authorize.order_id))
    await execute(engine, "CREATE RULE refuse AS ON INSERT TO payments.outbox DO INSTEAD SELECT 1 / 0")
    try:
        with pytest.raises((PoisonError, InfrastructureError)):
            await payments.apply([capture])
    finally:
        await execute(engine, "DROP RULE refuse ON payments.outbox")
    assert provider.charges == {authorize.order_id: 1}
    assert await state_of(engine, authorize.order_id) == "authorized"

    for _ in range(2):
        await payments.apply([capture])

    assert provider.charges == {authorize.order_id: 1}
    assert await replies(engine) == [events.PaymentAuthorized, events.PaymentCaptured]


async def test_a_command_that_makes_no_sense_is_poison_and_nothing_of_its_batch_is_kept(
    engine: AsyncEngine, payments: Payments
) -> None:
    with pytest.raises(PoisonError):
        await apply(payments, authorize_payment(), commands.CapturePayment(order_id=uuid4()))

    assert await value(engine, "SELECT count(*) FROM payments.payments") == 0
    assert await value(engine, "SELECT count(*) FROM payments.inbox") == 0


async def test_a_payment_that_another_process_changed_meanwhile_is_not_overwritten(engine: AsyncEngine) -> None:
    payment = a_payment(PaymentState.AUTHORIZING)
    async with engine.begin() as connection:
        await payment_store.save(connection, [payment])
    mine, others = [await loaded(engine, payment.order_id) for _ in range(2)]
    others.state = PaymentState.VOIDING
    async with engine.begin() as connection:
        await payment_store.save(connection, [others])

    with pytest.raises(InfrastructureError):
        async with engine.begin() as connection:
            await payment_store.save(connection, [mine])

    assert await state_of(engine, payment.order_id) == "voiding"


async def test_two_processes_with_the_same_batch_answer_once(
    engine: AsyncEngine, provider: FakePaymentProvider, clock: Clock
) -> None:
    batch = [a_message(authorize_payment()) for _ in range(20)]
    both = [Payments(engine, provider, 4, clock) for _ in range(2)]

    outcomes = await asyncio.gather(*(p.apply(batch) for p in both), return_exceptions=True)
    await both[0].apply(batch)  # the redelivery of whoever was too late

    assert [o for o in outcomes if o is not None and not isinstance(o, InfrastructureError)] == []
    assert len(await replies(engine)) == 20


async def test_the_timers_of_two_processes_at_once_settle_and_answer_each_payment_once(
    engine: AsyncEngine, provider: FakePaymentProvider, clock: Clock
) -> None:
    both = [Payments(engine, provider, 4, clock) for _ in range(2)]
    provider.faults = ["away"] * 40
    await apply(both[0], *(authorize_payment() for _ in range(20)))
    provider.faults = []
    clock.now += timedelta(minutes=1)

    outcomes = await asyncio.gather(*(p.retry_due() for p in both), return_exceptions=True)
    await both[0].retry_due()  # what was left to whoever was too late

    assert [o for o in outcomes if isinstance(o, BaseException) and not isinstance(o, InfrastructureError)] == []
    assert await replies(engine) == [events.PaymentAuthorized] * 20


async def loaded(engine: AsyncEngine, order_id: UUID) -> Payment:
    async with engine.begin() as connection:
        return (await payment_store.load(connection, [order_id]))[order_id]
