"""A customer's HTTP client that does not give up early: the same order, under the same key, until there is an answer.

Rule: 429, 409 (the first try is still in flight), 5xx, a broken connection and a time-out are tried again with the same
idempotency key, after `Retry-After` plus full jitter, until `give_up_after_s`. Any other 4xx is a refusal.
Guarantee: however often an order is sent, it is one order; its id follows from customer and key.
"""

import asyncio
import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

import aiohttp
import msgspec

from common.resilience.backoff import full_jitter
from demo.cdnow import CURRENCY, Purchase
from demo.tokens import Tokens

TRY_TIMEOUT_S = 10.0
RETRIABLE_4XX = (409, 429)


class Result(StrEnum):
    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNKNOWN = "unknown"  # no clear answer in time: the order may exist


@dataclass(slots=True)
class Answer:
    """What the gateway said in the end. `detail` is what the last try brought, `seen` what each of them brought."""

    result: Result = Result.UNKNOWN
    tries: int = 0
    order_id: str | None = None
    detail: str = "no answer"
    seen: list[str] = field(default_factory=list[str], compare=False)


class OrdersClient:
    """`connections` kept-alive connections to the gateway."""

    def __init__(self, gateway_url: str, tokens: Tokens, *, connections: int, give_up_after_s: float = 120) -> None:
        self._tokens, self._give_up_after_s = tokens, give_up_after_s
        self._session = aiohttp.ClientSession(
            gateway_url,
            connector=aiohttp.TCPConnector(limit=connections),
            timeout=aiohttp.ClientTimeout(total=TRY_TIMEOUT_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent"),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def place(self, purchase: Purchase, answer: Answer) -> None:
        """Send the order until it is accepted or refused, or the time is over. Keeps `answer` up to date on the way."""
        deadline = time.monotonic() + self._give_up_after_s
        while True:
            wait_s = await self._try(purchase, answer)
            answer.seen.append("HTTP 202" if answer.result is Result.ACCEPTED else answer.detail)
            if answer.result is not Result.UNKNOWN:
                return
            wait_s += full_jitter(answer.tries - 1, base_s=0.1, cap_s=5)
            if time.monotonic() + wait_s > deadline:
                return
            await asyncio.sleep(wait_s)

    async def _try(self, purchase: Purchase, answer: Answer) -> float:
        """One request. Answers how long the gateway asks to wait before the next one."""
        headers = {
            "Authorization": self._tokens.bearer(purchase.customer_id),
            "Content-Type": "application/json",
            "Idempotency-Key": str(purchase.row),
        }
        body = f'{{"currency":"{CURRENCY}","lines":[{{"sku":"{purchase.sku}","quantity":1}}]}}'
        answer.tries += 1
        try:
            async with self._session.post("/v1/orders", data=body.encode(), headers=headers) as response:
                content = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            answer.detail = type(error).__name__
            return 0
        if response.status == 202:
            answer.result, answer.order_id = Result.ACCEPTED, _order_id(content)
        elif response.status < 500 and response.status not in RETRIABLE_4XX:
            answer.result, answer.detail = Result.REFUSED, f"HTTP {response.status}"
        else:
            answer.detail = f"HTTP {response.status}"
        return _seconds(response.headers.get("Retry-After", ""))


class _Accepted(msgspec.Struct):
    order_id: str


_decode = msgspec.json.Decoder(_Accepted).decode


def _order_id(content: bytes) -> str | None:
    try:
        return _decode(content).order_id
    except msgspec.MsgspecError:
        return None


def _seconds(retry_after: str) -> float:
    """Retry-After in seconds; the form with a date is not used by our gateway and counts as none."""
    return float(retry_after) if retry_after.isdecimal() else 0.0
