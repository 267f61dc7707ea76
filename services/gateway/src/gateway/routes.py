"""The routes of the public API: what each call does, step by step. `app.py` says where they hang and documents them."""

import asyncio
import math
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Protocol
from uuid import UUID

from fastapi import Query
from starlette.requests import Request
from starlette.responses import Response
from uuid_utils.compat import uuid7

from common.contracts.codec import to_record
from common.contracts.commands import CancelOrder, PlaceOrder
from common.contracts.values import order_id_for
from common.records import OutgoingRecord
from common.resilience.token_bucket import Limit as RateLimit
from common.telemetry.metrics import ORDERS_ACCEPTED, TOKEN_BUCKET_REFUSALS
from gateway.accept import Acceptor
from gateway.auth import READ, WRITE, Authenticator
from gateway.catalog import Catalog, price
from gateway.following import Following
from gateway.idempotency import Admission, Call, Marker, Verdict, fingerprint_of, new_attempt
from gateway.last_views import LastViews, mark_of
from gateway.problems import (
    IN_FLIGHT,
    KEY_REUSED,
    NOT_ACCEPTED,
    OUTCOME_UNKNOWN,
    TOO_MANY_REQUESTS,
    Problem,
)
from gateway.reads import not_changed
from gateway.requests import idempotency_key, json_body, order_id_of, wait_of
from gateway.schemas import CatalogPage, ItemView, OrderPage, Status, accepted_json, parse_order

Limit = Annotated[int, Query(ge=1, le=100, description="orders or items on a page")]
Cursor = Annotated[str | None, Query(max_length=512, description="`next_cursor` of the page before")]

_RETRY_SOON = {"Retry-After": "1"}
_RETRY_AFTER_THE_CLAIM = {"Retry-After": "6"}
_REPLAYED = {"Idempotent-Replayed": "true"}
_WAIT_FOR_THE_FIRST_S = 1.0
_LOOK_AGAIN_S = 0.1


class OrdersReader(Protocol):
    async def page(self, customer_id: str, *, status: str | None, limit: int, cursor: str | None) -> OrderPage:
        """Newest first. Raises the problem 400 for a cursor that it did not make, InfrastructureError for no answer."""
        ...


class Routes:
    def __init__(
        self,
        *,
        authenticator: Authenticator,
        acceptor: Acceptor,
        lookup: LastViews,
        orders: OrdersReader,
        catalog: Catalog,
        limit: RateLimit,
        following: Following,
    ) -> None:
        self._limit = limit
        self._authenticator, self._acceptor = authenticator, acceptor
        self._lookup, self._orders, self._catalog = lookup, orders, catalog
        self._following = following

    async def place_order(self, request: Request) -> Response:
        customer_id = self._customer(request, WRITE)
        key = idempotency_key(request.headers)
        order = parse_order(await json_body(request))
        lines, total_minor = price(order, self._catalog)
        order_id = uuid7() if key is None else order_id_for(customer_id, key)
        accepted_at = datetime.now(UTC)
        command = PlaceOrder(
            order_id=order_id,
            customer_id=customer_id,
            currency=order.currency,
            lines=lines,
            total_minor=total_minor,
            accepted_at=accepted_at,
            client_reference=order.client_reference,
        )
        record = to_record(command, order_id, request.state.traceparent)
        marker = Marker(order_id, customer_id, accepted_at, fingerprint_of(order))
        call = Call(customer_id, order_id, new_attempt(), key is not None, marker)
        answer = self._answer(order_id, await self._place(record, call), can_retry=key is not None)
        ORDERS_ACCEPTED.inc()
        return answer

    async def cancel_order(self, request: Request) -> Response:
        """Whether it could still be cancelled, or exists at all, is for the order to say."""
        customer_id = self._customer(request, WRITE)
        order_id = order_id_of(request)
        command = CancelOrder(order_id=order_id, customer_id=customer_id)
        record = to_record(command, uuid7(), request.state.traceparent)
        call = Call(customer_id, order_id, new_attempt())
        return self._answer(order_id, await self._acceptor.accept(record, call), can_retry=True)

    async def read_order(self, request: Request) -> Response:
        """At once, or with `?wait=` once it has changed."""
        customer_id = self._customer(request, READ)
        order_id, wait_s = order_id_of(request), wait_of(request)
        known = request.headers.get("if-none-match")
        find = partial(self._lookup.find, order_id, customer_id, known)
        view = await self._following.change(order_id, find, known, wait_s) if wait_s else await find()
        headers = {"ETag": view.etag, **mark_of(view)}
        if not_changed(known, view.etag):
            return Response(status_code=304, headers=headers)
        return _json(view.body, headers=headers)

    async def list_orders(
        self, request: Request, status: Status | None = None, limit: Limit = 20, cursor: Cursor = None
    ) -> OrderPage:
        customer_id = self._customer(request, READ)
        return await self._orders.page(customer_id, status=status, limit=limit, cursor=cursor)

    async def list_catalog(self, limit: Limit = 20, cursor: Cursor = None) -> CatalogPage:
        """No token needed. The cursor is the last sku of the page before."""
        found = self._catalog.page(after=cursor or "", limit=limit + 1)  # one more tells whether there is a next page
        items = [
            ItemView(sku=item.sku, name=item.name, currency=item.currency, price_minor=item.price_minor)
            for item in found[:limit]
        ]
        return CatalogPage(items=items, next_cursor=items[-1].sku if len(found) > limit else None)

    def _customer(self, request: Request, scope: str) -> str:
        return self._authenticator.customer(request.headers.get("authorization"), scope)

    async def _place(self, record: OutgoingRecord, call: Call) -> Admission:
        """While the first call with this key is in flight, wait for what becomes of it; looking again is free."""
        admission = await self._acceptor.accept(record, call)
        deadline = asyncio.get_running_loop().time() + _WAIT_FOR_THE_FIRST_S
        while admission.verdict is Verdict.IN_FLIGHT and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(_LOOK_AGAIN_S)
            admission = await self._acceptor.accept(record, replace(call, free=True))
        return admission

    def _answer(self, order_id: UUID, admission: Admission, *, can_retry: bool) -> Response:
        match admission.verdict:
            case Verdict.ACCEPTED | Verdict.REPLAYED as verdict:
                replayed = _REPLAYED if verdict is Verdict.REPLAYED else {}
                headers = {"Location": f"/v1/orders/{order_id}", **_RETRY_SOON, **replayed}
                return _json(accepted_json(order_id), status=202, headers=headers)
            case Verdict.LIMITED:
                TOKEN_BUCKET_REFUSALS.inc()
                raise Problem(TOO_MANY_REQUESTS, headers=self._limit_headers(admission.retry_after_s))
            case Verdict.IN_FLIGHT:
                raise Problem(IN_FLIGHT, headers=_RETRY_SOON)
            case Verdict.CONFLICT:
                raise Problem(KEY_REUSED, order_id=str(order_id))
            case Verdict.UNKNOWN:
                advice = _RETRY_WITH_KEY if can_retry else _LOOK_FIRST
                raise Problem(OUTCOME_UNKNOWN, advice, _RETRY_AFTER_THE_CLAIM, order_id=str(order_id))
            case Verdict.REFUSED | Verdict.NEW:
                raise Problem(NOT_ACCEPTED, "Send it again.", _RETRY_SOON)

    def _limit_headers(self, retry_after_s: float) -> dict[str, str]:
        """Source: draft-ietf-httpapi-ratelimit-headers."""
        seconds = max(1, math.ceil(retry_after_s))
        window = max(1, math.ceil(self._limit.burst_us / 1e6))
        policy = f'"customer";q={self._limit.capacity};w={window}'
        return {"RateLimit-Policy": policy, "RateLimit": f'"customer";r=0;t={seconds}', "Retry-After": str(seconds)}


_RETRY_WITH_KEY = "Retry with the same key: it cannot happen twice."
_LOOK_FIRST = "It had no Idempotency-Key, so a retry could be a second order: look for this order first."


def _json(body: str | bytes, *, status: int = 200, headers: dict[str, str]) -> Response:
    return Response(body, status, headers, "application/json")
