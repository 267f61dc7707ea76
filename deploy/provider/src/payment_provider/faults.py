"""Faults to switch on while the provider runs, so that a merchant's time-outs and retries can be watched at work.

Every fault concerns the /v1/payments routes only. Late work is real: a merchant that gave up while `latency_ms` passed
is still charged, as with a provider that is merely slow.
"""

import asyncio
import random
from collections.abc import Callable
from typing import Annotated
from zlib import crc32

from aiohttp import web
from aiohttp.typedefs import Handler
from msgspec import Meta, Struct, convert, structs

from payment_provider.problems import problem

Milliseconds = Annotated[int, Meta(ge=0, le=60_000)]
Percent = Annotated[int, Meta(ge=0, le=100)]
Rate = Annotated[float, Meta(ge=0, le=1)]


class Switches(Struct, frozen=True, forbid_unknown_fields=True):
    latency_ms: Milliseconds = 0  # wait, then work and answer
    error_rate: Rate = 0.0  # this share answers 503 and does no work
    hang: bool = False  # no work and no answer; the connection is cut when this is switched off
    lost_reply_rate: Rate = 0.0  # this share does the work and then cuts the connection without an answer
    decline_percent: Percent = 0  # this share of new references is declined, always the same ones


class Faults:
    def __init__(self, switches: Switches) -> None:
        self.switches = switches
        self._release = asyncio.Event()
        self._roll: Callable[[], float] = random.SystemRandom().random

    def change(self, patch: dict[str, object]) -> Switches:
        """Set the switches named in `patch`. Raises msgspec.ValidationError, and changes nothing, on a bad one."""
        self.switches = convert({**structs.asdict(self.switches), **patch}, Switches)
        if not self.switches.hang:
            self._release.set()
            self._release = asyncio.Event()
        return self.switches

    def declines(self, reference: str) -> bool:
        """Whether a new payment is declined: a stable hash of its reference, so a second run declines the same."""
        return crc32(reference.encode()) % 100 < self.switches.decline_percent

    @web.middleware
    async def apply(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        switches = self.switches
        if switches == _CALM or not request.path.startswith("/v1/payments/"):
            return await handler(request)
        if switches.hang:
            await self._release.wait()
            return _cut(request)
        if switches.latency_ms:
            await asyncio.sleep(switches.latency_ms / 1000)
        if self._roll() < switches.error_rate:
            return problem(503, "unavailable", "The provider has a fault switched on.").response()
        response = await handler(request)
        return _cut(request) if self._roll() < switches.lost_reply_rate else response


def _cut(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()  # aiohttp wants one; there is nobody left to send it to


_CALM = Switches()
