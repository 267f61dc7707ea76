"""Keys from the issuer, over a real HTTP server on loopback."""

import asyncio
import base64
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

import jwt
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.adapters.jwks import Jwks, LearnKeys, kid_of
from unit.gateway.fakes import token


def jwk(kid: str, key: Ed25519PrivateKey) -> dict[str, Any]:
    raw = base64.urlsafe_b64encode(key.public_key().public_bytes_raw()).rstrip(b"=").decode()
    return {"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": raw}


def with_kid(kid: str) -> str:
    claims = jwt.decode(token(), options={"verify_signature": False})
    return jwt.encode(claims, Ed25519PrivateKey.generate(), algorithm="EdDSA", headers={"kid": kid})


@dataclass
class Issuer:
    url: str = ""
    document: Any = field(default_factory=dict[str, Any])
    asked: int = 0


@pytest.fixture
async def issuer() -> AsyncGenerator[Issuer]:
    issuer = Issuer()

    async def answer(_: web.Request) -> web.Response:
        issuer.asked += 1
        return web.json_response(issuer.document)

    app = web.Application()
    app.router.add_get("/keys", answer)
    async with TestServer(app) as server:
        issuer.url = str(server.make_url("/keys"))
        yield issuer


async def test_an_unknown_key_is_fetched_and_then_remembered(issuer: Issuer) -> None:
    key = Ed25519PrivateKey.generate()
    issuer.document = {"keys": [{"kty": "RSA", "kid": "r"}, {"kty": "OKP"}, jwk("new", key)]}
    jwks = Jwks(issuer.url)

    for _ in range(3):
        await jwks.learn("new")

    assert jwks.key("new") == key.public_key()
    assert issuer.asked == 1


async def test_many_unknown_keys_are_one_fetch_until_the_pause_is_over(issuer: Issuer) -> None:
    now = 0.0
    jwks = Jwks(issuer.url, clock=lambda: now)
    await asyncio.gather(*(jwks.learn(f"nobody-{n}") for n in range(50)))
    asked_at_once = issuer.asked

    now = 11.0
    await jwks.learn("nobody")

    assert (asked_at_once, issuer.asked) == (1, 2)


@pytest.mark.parametrize("document", [[], {"keys": 1}, {"keys": [{"x": "y" * 300_000}]}, {"no": "keys"}])
async def test_an_issuer_that_answers_nonsense_leaves_the_keys_as_they_are(issuer: Issuer, document: Any) -> None:
    now = 0.0
    issuer.document = {"keys": [jwk("old", Ed25519PrivateKey.generate())]}
    jwks = Jwks(issuer.url, clock=lambda: now)
    await jwks.learn("old")

    now, issuer.document = 11.0, document
    await jwks.learn("new")

    assert issuer.asked == 2
    assert jwks.key("old") is not None


async def test_the_layer_learns_the_key_of_a_request_before_it_is_handled(issuer: Issuer) -> None:
    issuer.document = {"keys": [jwk("new", Ed25519PrivateKey.generate())]}
    jwks = Jwks(issuer.url)
    seen: list[bool] = []

    async def app(*_: object) -> None:
        seen.append(jwks.key("new") is not None)

    async def unused(*_: object) -> Any: ...

    for authorization in ("", "Bearer nonsense", f"Bearer {with_kid('new')}"):
        scope = {"type": "http", "headers": [(b"authorization", authorization.encode())]}
        await LearnKeys(app, jwks)(scope, unused, unused)

    assert seen == [False, False, True]
    assert kid_of(with_kid("new")) == "new"
