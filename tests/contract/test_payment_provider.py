"""One suite for the HTTP adapter, bare and guarded, against the real stand-in process, and for the fake provider."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from builders import a_payment
from fakes import FakePaymentProvider
from workers.payment import PaymentState
from workers.payments import guarded
from workers.provider import HttpPaymentProvider, PaymentProvider, UnclearError


@pytest.fixture(params=["fake", "http", "guarded"])
async def provider(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[PaymentProvider]:
    if request.param == "fake":
        yield FakePaymentProvider()
        return
    settings = {"PROVIDER_LEDGER_FILE": str(tmp_path / "ledger.jsonl"), "PROVIDER_PORT": "0"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "payment_provider", env={**os.environ, **settings}, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(20):
            url = (await process.stdout.readline()).decode().split()[-1]
        async with HttpPaymentProvider(url, timeout_s=5) as http:
            yield guarded(http, timeout_s=5) if request.param == "guarded" else http
    finally:
        process.terminate()
        await process.communicate()


async def test_a_payment_is_authorized_captured_and_can_be_asked_about(provider: PaymentProvider) -> None:
    payment = a_payment(PaymentState.AUTHORIZING)

    assert await provider.ask(payment.order_id) is None
    assert await provider.authorize(payment) == "authorized"
    assert await provider.ask(payment.order_id) == "authorized"
    assert await provider.capture(payment.order_id) == "captured"
    assert await provider.ask(payment.order_id) == "captured"


async def test_every_call_may_be_repeated_and_answers_the_same(provider: PaymentProvider) -> None:
    taken, dropped = a_payment(PaymentState.AUTHORIZING), a_payment(PaymentState.AUTHORIZING)

    assert [await provider.authorize(taken) for _ in range(2)] == ["authorized"] * 2
    assert [await provider.capture(taken.order_id) for _ in range(2)] == ["captured"] * 2
    assert await provider.authorize(taken) == "captured"
    await provider.authorize(dropped)
    assert [await provider.void(dropped.order_id) for _ in range(2)] == ["voided"] * 2


async def test_a_void_that_comes_first_leaves_a_tombstone_and_the_late_authorize_holds_no_money(
    provider: PaymentProvider,
) -> None:
    payment = a_payment(PaymentState.AUTHORIZING)

    assert await provider.void(payment.order_id) == "voided"
    assert await provider.authorize(payment) == "voided"
    assert await provider.ask(payment.order_id) == "voided"


async def test_a_captured_payment_is_not_voided(provider: PaymentProvider) -> None:
    payment = a_payment(PaymentState.AUTHORIZING)
    await provider.authorize(payment)
    await provider.capture(payment.order_id)

    with pytest.raises(UnclearError):
        await provider.void(payment.order_id)

    assert await provider.ask(payment.order_id) == "captured"


async def test_a_voided_payment_is_not_captured(provider: PaymentProvider) -> None:
    payment = a_payment(PaymentState.AUTHORIZING)
    await provider.authorize(payment)
    await provider.void(payment.order_id)

    with pytest.raises(UnclearError):
        await provider.capture(payment.order_id)


async def test_a_capture_of_what_nobody_knows_settles_nothing(provider: PaymentProvider) -> None:
    assert await provider.capture(uuid4()) == "unknown"
