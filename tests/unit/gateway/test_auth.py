"""Who may do what: a token that is not exactly right is 401, one that may not is 403."""

import time
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from common.errors import SettingsError
from gateway.auth import READ, WRITE, Authenticator, load_public_key
from gateway.problems import Problem
from unit.gateway.fakes import AUDIENCE, ISSUER, ONE_CD, PRIVATE_KEY, Door, bearer, token

NOW = int(time.time())
SECRET = "a secret that is long enough for HS256"


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Basic YWxpY2U6cGFzc3dvcmQ=",
        "Bearer",
        "Bearer not-a-token",
        "Bearer " + token(exp=NOW - 70),
        "Bearer " + token(nbf=NOW + 300, iat=NOW + 300),
        "Bearer " + token(aud="another"),
        "Bearer " + token(iss="another"),
        "Bearer " + token(key=Ed25519PrivateKey.generate()),
        "Bearer " + token(key=SECRET, algorithm="HS256"),
        "Bearer " + token(key="", algorithm="none"),
        "Bearer " + token(iss=None),
        "Bearer " + token(aud=None),
        "Bearer " + token(exp=None),
        "Bearer " + token(nbf=None),
        "Bearer " + token(sub=None),
        "Bearer " + token(sub=""),
        "Bearer " + token(sub="a\x00b"),
        "Bearer " + token(sub="a\ud800"),
        "Bearer " + token(scope=["orders:write"]),
    ],
)
async def test_a_token_that_is_not_right_is_401(door: Door, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}

    answer = await door.http.post("/v1/orders", json=ONE_CD, headers=headers)

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.json()["type"] == "urn:problem:unauthorized"
    assert door.publisher.records == []


async def test_a_token_is_good_though_the_issuers_clock_is_45_s_ahead(door: Door) -> None:
    headers = {"Authorization": "Bearer " + token(nbf=NOW + 45, iat=NOW + 45)}

    answer = await door.http.post("/v1/orders", json=ONE_CD, headers=headers)

    assert answer.status_code == 202


async def test_each_call_needs_its_scope(door: Door) -> None:
    order_id = (await door.place()).json()["order_id"]
    reader, writer = bearer(scope=READ), bearer(scope=WRITE)

    refused = [
        await door.http.post("/v1/orders", json=ONE_CD, headers=reader),
        await door.http.post(f"/v1/orders/{order_id}/cancel", headers=reader),
        await door.http.get("/v1/orders", headers=writer),
        await door.http.get(f"/v1/orders/{order_id}", headers=writer),
        await door.http.get("/v1/orders", headers=bearer(scope=None)),
    ]

    assert [answer.status_code for answer in refused] == [403] * 5
    assert all("insufficient_scope" in answer.headers["www-authenticate"] for answer in refused)
    assert (await door.http.get("/v1/orders", headers=reader)).status_code == 200


def test_a_remembered_token_expires_too() -> None:
    clock = Clock()
    authenticator = _authenticator(clock=clock)
    authorization = "Bearer " + token(exp=NOW + 3_600)
    assert authenticator.customer(authorization, READ) == "alice"

    clock.now += 3_601
    with pytest.raises(Problem, match="unauthorized"):
        _forging(authenticator).customer(authorization, READ)


def test_a_token_is_verified_once_and_few_are_remembered() -> None:
    authenticator = _authenticator(remembered=2)
    first, second, third = (f"Bearer {token(name)}" for name in ("a", "b", "c"))
    for authorization in (first, second, third):
        authenticator.customer(authorization, READ)
    _forging(authenticator)

    assert authenticator.customer(second, READ) == "b"
    assert authenticator.customer(third, READ) == "c"
    with pytest.raises(Problem, match="unauthorized"):
        authenticator.customer(first, READ)


def test_only_an_ed25519_public_key_is_taken() -> None:
    rsa = generate_private_key(65_537, 2_048).public_key()
    pem = rsa.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    with pytest.raises(SettingsError, match="Ed25519"):
        load_public_key(pem)
    with pytest.raises(SettingsError, match="PEM"):
        load_public_key(b"nonsense")
    ours = PRIVATE_KEY.public_key()
    assert load_public_key(ours.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)) == ours


class Clock:
    now = float(NOW)

    def __call__(self) -> float:
        return self.now


def _authenticator(**options: Any) -> Authenticator:
    return Authenticator(PRIVATE_KEY.public_key(), issuer=ISSUER, audience=AUDIENCE, **options)


def _forging(authenticator: Authenticator) -> Authenticator:
    """From now on it verifies with another key, so that only what it remembers is let in."""
    authenticator._public_key = Ed25519PrivateKey.generate().public_key()  # pyright: ignore[reportPrivateUsage]
    return authenticator
