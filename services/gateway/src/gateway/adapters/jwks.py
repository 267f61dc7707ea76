"""The issuer's public keys, by JWKS: cached, fetched again for a key id that is not known yet.

Rule: an unknown `kid` causes a fetch, at most one per `pause_s` whoever asks; every `refresh_s` all keys are fetched,
so that a withdrawn one is forgotten. A fetch that fails leaves the keys as they are.
Limits: Ed25519 keys only, at most 100 of them, at most 256 KiB, 2 s. Source: RFC 7517, RFC 8037.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import aiohttp
import jwt
import msgspec
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

log = structlog.get_logger()

MAX_BYTES = 256 * 1024
MAX_KEYS = 100
TIMEOUT = aiohttp.ClientTimeout(total=2)


class _Document(msgspec.Struct):
    keys: list[dict[str, Any]]


class Jwks:
    def __init__(
        self,
        url: str,
        *,
        pause_s: float = 10.0,
        refresh_s: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url, self._pause_s, self._refresh_s, self._clock = url, pause_s, refresh_s, clock
        self._keys: dict[str, Ed25519PublicKey] = {}
        self._not_before = float("-inf")
        self._fetching = asyncio.Lock()

    def key(self, kid: str) -> Ed25519PublicKey | None:
        return self._keys.get(kid)

    async def learn(self, kid: str) -> None:
        """Fetch the keys if this one is not known, unless that was just done."""
        async with self._fetching:
            if kid not in self._keys and self._clock() >= self._not_before:
                await self._fetch()

    async def keep_fresh(self) -> None:
        """Fetch the keys now and then, until cancelled."""
        while True:
            async with self._fetching:
                await self._fetch()
            await asyncio.sleep(self._refresh_s if self._keys else self._pause_s)

    async def _fetch(self) -> None:
        self._not_before = self._clock() + self._pause_s
        try:
            async with (
                aiohttp.ClientSession(timeout=TIMEOUT, raise_for_status=True) as session,
                session.get(self._url, allow_redirects=False) as answer,
            ):
                content = await answer.content.read(MAX_BYTES + 1)
                while len(content) <= MAX_BYTES and (more := await answer.content.read(MAX_BYTES)):
                    content += more
            if len(content) > MAX_BYTES:
                raise msgspec.ValidationError("too large")
            self._keys = _keys_in(msgspec.json.decode(content, type=_Document))
        except (aiohttp.ClientError, TimeoutError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.warning("jwks_not_fetched", error=repr(error))


def _keys_in(document: _Document) -> dict[str, Ed25519PublicKey]:
    """What is no Ed25519 key with an id is for somebody else."""
    keys: dict[str, Ed25519PublicKey] = {}
    for entry in document.keys[:MAX_KEYS]:
        kid = entry.get("kid")
        if not isinstance(kid, str) or entry.get("kty") != "OKP" or entry.get("crv") != "Ed25519":
            continue
        try:
            key = jwt.PyJWK(entry, algorithm="EdDSA").key
        except (jwt.PyJWTError, TypeError, ValueError) as error:
            log.warning("jwk_unreadable", error=repr(error))
            continue
        if isinstance(key, Ed25519PublicKey):
            keys[kid] = key
    return keys


class LearnKeys:
    """An ASGI layer: before a request with a token is handled, its key is looked for. It never answers itself."""

    def __init__(self, app: ASGIApp, jwks: Jwks) -> None:
        self._app, self._jwks = app, jwks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            kid = kid_of(Request(scope).headers.get("authorization", "").partition(" ")[2].strip())
            if kid is not None and self._jwks.key(kid) is None:
                await self._jwks.learn(kid)
        await self._app(scope, receive, send)


def kid_of(token: str) -> str | None:
    try:
        kid = jwt.get_unverified_header(token).get("kid")
    except jwt.PyJWTError:
        return None
    return kid if isinstance(kid, str) else None
