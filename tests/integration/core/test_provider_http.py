"""What the HTTP adapter makes of answers that are not the provider's, and of none at all."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from builders import a_payment
from workers.payment import PaymentState
from workers.provider import HttpPaymentProvider, UnclearError


class Proxy:
    """Something that stands where the provider should be, and answers as it pleases."""

    def __init__(self, status: int, body: str) -> None:
        self.status, self.body = status, body
        self.hang = False

    async def answer(self, request: web.Request) -> web.Response:
        if self.hang:
            await asyncio.Event().wait()
        return web.Response(status=self.status, text=self.body)


@pytest.fixture
async def proxy() -> AsyncIterator[tuple[Proxy, str]]:
    proxy = Proxy(200, "{}")
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", proxy.answer)
    async with TestServer(app) as server:
        yield proxy, str(server.make_url("/"))


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, "<html>Welcome to the hotel's network</html>"),
        (200, ""),
        (200, '{"no": "status"}'),
        (200, "\xff"),
        (301, ""),
        (401, "{}"),
        (409, "{}"),
        (429, "{}"),
        (500, "{}"),
        (503, "{}"),
    ],
)
async def test_an_answer_that_is_not_the_providers_is_unclear(proxy: tuple[Proxy, str], status: int, body: str) -> None:
    behaviour, url = proxy
    behaviour.status, behaviour.body = status, body

    async with HttpPaymentProvider(url, timeout_s=5) as provider:
        with pytest.raises(UnclearError):
            await provider.authorize(a_payment(PaymentState.AUTHORIZING))


async def test_a_hanging_provider_is_unclear_after_the_time_out(proxy: tuple[Proxy, str]) -> None:
    behaviour, url = proxy
    behaviour.hang = True

    async with HttpPaymentProvider(url, timeout_s=0.1) as provider:
        with pytest.raises(UnclearError):
            await provider.capture(uuid4())


async def test_a_provider_that_nobody_serves_is_unclear() -> None:
    async with HttpPaymentProvider("http://127.0.0.1:1", timeout_s=5) as provider:
        with pytest.raises(UnclearError):
            await provider.ask(uuid4())
