"""The customers: they place, repeat, change their mind and look, and each call and answer goes into the client log.

Rule: whoever has no clear answer asks again under the same key, after `Retry-After` and full jitter, until `give_up`
(a time of the log's clock).
"""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import aiohttp
import msgspec

from common.resilience.backoff import full_jitter
from demo.cdnow import CURRENCY
from demo.tokens import Tokens
from tests.prove.calls import Answer, CallLog, What
from tests.prove.load import Plan, customers

CALL_S = 8.0
RETRIED = frozenset({409, 429})
FINAL = ("confirmed", "rejected", "cancelled")


class Customers:
    def __init__(self, session: aiohttp.ClientSession, tokens: Tokens, log: CallLog) -> None:
        self._session, self._tokens, self._log = session, tokens, log
        self.give_up = float("inf")
        self.placing = 0  # orders that are due and have no clear answer yet

    async def order_all(self, plans: Sequence[Plan]) -> None:
        """Every order at its moment; returns when the last customer is content or has given up."""
        for customer in customers(plans):
            self._tokens.bearer(customer)  # signed before there is anything to measure
        self._log.start()
        async with asyncio.TaskGroup() as tasks:
            for plan in plans:
                await asyncio.sleep(plan.due - self._log.now())
                tasks.create_task(self._live(plan))

    async def _live(self, plan: Plan) -> None:
        self.placing += 1
        async with asyncio.TaskGroup() as copies:
            placed = [copies.create_task(self._place(plan)) for _ in range(plan.copies)]
        self.placing -= 1
        if not all(copy.result() for copy in placed):
            return
        async with asyncio.TaskGroup() as acts:
            acts.create_task(self._look(plan))
            if plan.again_after is not None:
                acts.create_task(self._again(plan, plan.again_after))
            if plan.other_body_after is not None:
                acts.create_task(self._other_body(plan, plan.other_body_after))
            if plan.cancel_after is not None:
                acts.create_task(self._cancel(plan, plan.cancel_after))

    async def _again(self, plan: Plan, after: float) -> None:
        await asyncio.sleep(after)
        await self._place(plan)

    async def _place(self, plan: Plan) -> bool:
        """Whether it was accepted in the end."""
        tries = 0
        while self._log.now() < self.give_up:
            answer = await self._post_order(plan, What.PLACE, quantity=1)
            if answer.status == 202:
                return True
            if answer.status is not None and answer.status < 500 and answer.status not in RETRIED:
                return False
            await asyncio.sleep((1 if answer.retry_after else 0) + full_jitter(tries, base_s=0.1, cap_s=3))
            tries += 1
        return False

    async def _other_body(self, plan: Plan, after: float) -> None:
        await asyncio.sleep(after)
        await self._post_order(plan, What.PLACE_OTHER, quantity=2)

    async def _cancel(self, plan: Plan, after: float) -> None:
        await asyncio.sleep(after)
        tries = 0
        while self._log.now() < self.give_up:
            answer = await self._call(plan, What.CANCEL, "POST", f"/v1/orders/{plan.order_id}/cancel")
            if answer.status == 202:
                return
            await asyncio.sleep(full_jitter(tries, base_s=0.2, cap_s=3))
            tries += 1

    async def _look(self, plan: Plan) -> None:
        """Read until it is final, or the customer has lost interest."""
        known: Answer | None = None
        for turn in range(plan.reads):
            headers = {"If-None-Match": f'"{known.version}"'} if known and known.version is not None else {}
            wait = "?wait=3" if plan.waits else ""
            answer = await self._call(plan, What.READ, "GET", f"/v1/orders/{plan.order_id}{wait}", headers, known=known)
            known = answer if answer.version is not None else known
            if known and known.state in FINAL and turn % 3 == 2:  # once more, to see that it stays so
                return
            await asyncio.sleep(plan.read_gap * random.uniform(0.5, 1.5))
        if plan.reads:
            await self._call(plan, What.LIST, "GET", "/v1/orders?limit=20")

    async def _post_order(self, plan: Plan, what: What, *, quantity: int) -> Answer:
        body = {"currency": CURRENCY, "lines": [{"sku": plan.purchase.sku, "quantity": quantity}]}
        headers = {"Idempotency-Key": plan.key, "Content-Type": "application/json"}
        return await self._call(plan, what, "POST", "/v1/orders", headers, msgspec.json.encode(body))

    async def _call(
        self,
        plan: Plan,
        what: What,
        method: str,
        path: str,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
        *,
        known: Answer | None = None,
    ) -> Answer:
        purchase = plan.purchase
        call = self._log.sent(what, purchase.customer_id, plan.order_id, purchase.amount_minor)
        headers = {"Authorization": self._tokens.bearer(purchase.customer_id), **(headers or {})}
        try:
            async with self._session.request(method, path, data=body, headers=headers) as response:
                answer = _answer(call.n, self._log.now(), response, await response.read(), known)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            answer = Answer(call.n, self._log.now(), trouble=type(error).__name__)
        self._log.answered(answer)
        return answer


def _answer(n: int, at: float, response: aiohttp.ClientResponse, content: bytes, known: Answer | None) -> Answer:
    said = _members(content)
    unchanged = response.status == 304 and known is not None
    return Answer(
        n,
        at,
        status=response.status,
        trouble=said.get("type"),
        order_id=said.get("order_id"),
        version=known.version if unchanged and known else said.get("version"),
        state=known.state if unchanged and known else said.get("status") if response.status < 300 else None,
        media_type=response.content_type if content else None,
        retry_after="Retry-After" in response.headers,
    )


def _members(content: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(content, type=dict[str, Any])
    except msgspec.DecodeError:
        return {}


def new_session(gateway_url: str) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        gateway_url,
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=CALL_S),
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=("Accept-Encoding", "User-Agent"),
    )
