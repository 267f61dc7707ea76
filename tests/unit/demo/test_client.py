"""A customer's client against a small gateway on the loopback interface."""

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import jwt
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from demo.cdnow import Purchase
from demo.client import Answer, OrdersClient, Result
from demo.tokens import Tokens

PURCHASE = Purchase(7, "00001", "1997-01-01", 2, 1177)
KEY = Ed25519PrivateKey.generate()


class FakeGateway:
    """Gives the prepared answers one after the other and remembers what it was asked."""

    def __init__(self, *answers: Callable[[], web.Response]) -> None:
        self.answers = list(answers)
        self.bodies: list[object] = []
        self.headers: list[dict[str, str]] = []

    async def post(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.json())
        self.headers.append(dict(request.headers))
        answer = self.answers.pop(0)
        if answer is cut:
            assert request.transport is not None
            request.transport.abort()
        return answer()


def accepted() -> web.Response:
    return web.json_response({"order_id": "an-id", "status": "accepted"}, status=202)


def cut() -> web.Response:
    return web.Response()


def problem(status: int, retry_after: str | None = None) -> Callable[[], web.Response]:
    return lambda: web.Response(status=status, headers={"Retry-After": retry_after} if retry_after else {})


@asynccontextmanager
async def placed(gateway: FakeGateway, give_up_after_s: float = 30) -> AsyncGenerator[Answer]:
    app = web.Application()
    app.router.add_post("/v1/orders", gateway.post)
    answer = Answer()
    async with TestServer(app) as server:
        tokens = Tokens(KEY, issuer="us", audience="headrace")
        async with OrdersClient(
            str(server.make_url("/")), tokens, connections=1, give_up_after_s=give_up_after_s
        ) as client:
            await client.place(PURCHASE, answer)
            yield answer


async def test_an_order_is_sent_as_its_customer_under_its_row_number():
    gateway = FakeGateway(accepted)

    async with placed(gateway) as answer:
        assert answer == Answer(Result.ACCEPTED, tries=1, order_id="an-id")

    assert gateway.bodies == [{"currency": "USD", "lines": [{"sku": "cd-2-1177", "quantity": 1}]}]
    assert gateway.headers[0]["Idempotency-Key"] == "7"
    assert gateway.headers[0]["Content-Type"] == "application/json"
    token = gateway.headers[0]["Authorization"].removeprefix("Bearer ")
    claims = jwt.decode(token, KEY.public_key(), algorithms=["EdDSA"], audience="headrace", issuer="us")
    assert (claims["sub"], claims["scope"]) == ("00001", "orders:read orders:write")
    assert claims["nbf"] <= claims["iat"] < claims["exp"]


@pytest.mark.parametrize("trouble", [problem(429), problem(409), problem(500), problem(502), problem(503), cut])
async def test_trouble_that_may_pass_is_tried_again_under_the_same_key(trouble: Callable[[], web.Response]):
    gateway = FakeGateway(trouble, trouble, accepted)

    async with placed(gateway) as answer:
        assert (answer.result, answer.tries) == (Result.ACCEPTED, 3)

    assert {headers["Idempotency-Key"] for headers in gateway.headers} == {"7"}


async def test_retry_after_is_honoured():
    began = time.monotonic()

    async with placed(FakeGateway(problem(429, "1"), accepted)) as answer:
        assert answer.tries == 2

    assert time.monotonic() - began >= 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 415, 422])
async def test_a_refusal_is_final(status: int):
    async with placed(FakeGateway(problem(status))) as answer:
        assert answer == Answer(Result.REFUSED, tries=1, detail=f"HTTP {status}")


async def test_without_a_clear_answer_in_time_the_outcome_is_unknown():
    async with placed(FakeGateway(cut), give_up_after_s=0) as answer:
        assert (answer.result, answer.tries) == (Result.UNKNOWN, 1)


async def test_a_retry_after_beyond_the_time_ends_the_tries():
    async with placed(FakeGateway(problem(503, "60"))) as answer:
        assert answer == Answer(Result.UNKNOWN, tries=1, detail="HTTP 503")


async def test_an_answer_without_an_order_id_shows():
    async with placed(FakeGateway(lambda: web.Response(status=202, text="fine"))) as answer:
        assert answer == Answer(Result.ACCEPTED, tries=1, order_id=None)


def test_a_customers_token_is_signed_once():
    tokens = Tokens(KEY, issuer="us", audience="headrace")

    assert tokens.bearer("00001") is tokens.bearer("00001")
    assert tokens.bearer("00001") != tokens.bearer("00002")
