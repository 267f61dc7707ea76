"""A provider that is away for seconds, over real sockets: which calls still reach it, and what becomes of payments."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from builders import NOW, a_message, authorize_payment
from common.errors import InfrastructureError
from common.resilience.retry import Retry
from common.resilience.through import through
from eventually import eventually
from fakes import FakePaymentProvider
from integration.core.database import rows, value
from local_stack.network import HOST, free_ports
from workers.payments import Payments, guarded
from workers.provider import HttpPaymentProvider, PaymentProvider

TIMEOUT_S = 0.1
AWAY_S = 1.5
CALLS_PER_S = 100
ANSWER, BODY = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b", b'{"status": "authorized"}'


class FrozenProvider:
    """Takes every request and answers none, until it is thawed."""

    def __init__(self) -> None:
        self.requests = 0
        self.frozen = True

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            self.requests += 1
            if self.frozen:
                await reader.read()  # until the client gives up
            else:
                body = b'{"status": "authorized"}'
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body)
                )
        writer.close()


@pytest.fixture
async def frozen() -> AsyncIterator[tuple[FrozenProvider, HttpPaymentProvider]]:
    frozen = FrozenProvider()
    server = await asyncio.start_server(frozen.serve, HOST, 0)
    async with server:
        url = f"http://{HOST}:{server.sockets[0].getsockname()[1]}"
        async with HttpPaymentProvider(url, timeout_s=TIMEOUT_S) as http:
            yield frozen, http


def retried(provider: PaymentProvider) -> PaymentProvider:
    """Without the breaker, and time-outs are tried again too: the worst that a retry can do."""
    return through(provider, Retry("test", errors=(InfrastructureError,), try_s=TIMEOUT_S, deadline_s=1).call)


def retried_and_broken(provider: PaymentProvider) -> PaymentProvider:
    return guarded(provider, timeout_s=TIMEOUT_S)


async def test_a_frozen_provider_gets_at_most_1_1_times_the_offered_calls(
    frozen: tuple[FrozenProvider, HttpPaymentProvider],
) -> None:
    behaviour, http = frozen

    offered = await offer(retried(http))

    assert offered < behaviour.requests <= 1.1 * offered


async def test_a_frozen_provider_is_left_alone_by_the_breaker_and_used_again_once_it_answers(
    frozen: tuple[FrozenProvider, HttpPaymentProvider],
) -> None:
    behaviour, http = frozen
    provider = retried_and_broken(http)

    offered = await offer(provider)
    assert behaviour.requests < offered / 2
    behaviour.frozen = False

    async def answers() -> bool:
        with suppress(InfrastructureError):
            return await provider.ask(uuid4()) == "authorized"
        return False

    await eventually(answers, within=15)
    assert [await provider.ask(uuid4()) for _ in range(50)] == ["authorized"] * 50


@pytest.mark.parametrize("wrap", [retried, retried_and_broken])
async def test_at_a_closed_port_at_most_1_1_times_the_offered_calls_are_tried(
    wrap: Callable[[PaymentProvider], PaymentProvider],
) -> None:
    tried = 0

    async def counted(action: Callable[[], Awaitable[Any]]) -> Any:
        nonlocal tried
        tried += 1
        return await action()

    async with HttpPaymentProvider(f"http://{HOST}:{next(free_ports())}", timeout_s=TIMEOUT_S) as http:
        offered = await offer(wrap(through(http, counted)))

    assert 0 < tried <= 1.1 * offered


async def test_with_an_open_breaker_payments_stay_open_in_postgres_and_the_timer_settles_them_later(
    engine: AsyncEngine,
) -> None:
    fake, later = FakePaymentProvider(), timedelta(0)
    payments = Payments(engine, guarded(fake, timeout_s=1), 4, lambda: NOW + later)
    fake.faults = ["away"] * 40
    await payments.apply([a_message(authorize_payment()) for _ in range(20)])
    asked = len(fake.calls)

    await payments.apply([a_message(authorize_payment()) for _ in range(100)])
    assert len(fake.calls) == asked
    assert await value(engine, "SELECT count(*) FROM payments.payments WHERE next_attempt_at IS NOT NULL") == 120
    fake.faults.clear()

    async def settled() -> bool:
        nonlocal later
        later += timedelta(minutes=1)  # so that all are due; the breaker's rest is in real time
        await payments.retry_due()
        return await rows(engine, "SELECT DISTINCT state FROM payments.payments") == [("authorized",)]

    await eventually(settled, within=20)
    assert len(fake.book) == 120


async def offer(provider: PaymentProvider) -> int:
    """Ask evenly for AWAY_S; answers how many calls were offered. None of them is answered."""

    async def ask() -> None:
        with pytest.raises(InfrastructureError):
            await provider.ask(uuid4())

    start, offers = time.monotonic(), int(AWAY_S * CALLS_PER_S)
    async with asyncio.TaskGroup() as tasks:
        for number in range(offers):
            await asyncio.sleep(max(start + number / CALLS_PER_S - time.monotonic(), 0))
            tasks.create_task(ask())
    return offers
