"""The payment provider, somebody else's HTTP service, seen through one small port.

Rule: a payment is named by our order id, on every call, so a call may be repeated and never charges twice.
An answer is a state. No answer (time-out, cut connection, 5xx) is a third outcome, neither yes nor no: UnclearError.
Source: Helland, "Life beyond Distributed Transactions", 2007; the idempotency keys of Stripe's API.
"""

from types import TracebackType
from typing import Protocol, Self
from uuid import UUID

import aiohttp
import msgspec

from common.errors import InfrastructureError
from common.telemetry import metrics
from workers.payment import Payment


class UnclearError(InfrastructureError):
    """The provider may or may not have done it."""


class PaymentProvider(Protocol):
    """Each call answers the provider's status of the payment afterwards: authorized, declined, captured or voided.

    Raises UnclearError when no answer came, another InfrastructureError when it was not even asked.
    """

    async def authorize(self, payment: Payment) -> str: ...

    async def capture(self, order_id: UUID) -> str: ...

    async def void(self, order_id: UUID) -> str:
        """Voiding what was never authorized leaves a tombstone there: a late authorize is not honoured."""
        ...

    async def ask(self, order_id: UUID) -> str | None:
        """What the provider knows of it; None: nothing."""
        ...


class _Answer(msgspec.Struct):
    status: str


_decode = msgspec.json.Decoder(_Answer).decode


class HttpPaymentProvider:
    """Each call lasts at most `timeout_s`."""

    def __init__(self, url: str, *, timeout_s: float) -> None:
        self._url = url.rstrip("/")
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=self._timeout, connector=aiohttp.TCPConnector(limit=0))
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def authorize(self, payment: Payment) -> str:
        body: dict[str, object] = {
            "amount_minor": payment.amount_minor,
            "currency": payment.currency,
            "customer_id": payment.customer_id,
        }
        return await self._call("authorize", "PUT", f"/v1/payments/{payment.order_id}", body) or "unknown"

    async def capture(self, order_id: UUID) -> str:
        return await self._call("capture", "POST", f"/v1/payments/{order_id}/capture") or "unknown"

    async def void(self, order_id: UUID) -> str:
        return await self._call("void", "POST", f"/v1/payments/{order_id}/void") or "unknown"

    async def ask(self, order_id: UUID) -> str | None:
        return await self._call("ask", "GET", f"/v1/payments/{order_id}")

    async def _call(self, operation: str, method: str, path: str, body: dict[str, object] | None = None) -> str | None:
        if self._session is None:
            raise RuntimeError("use it as a context manager")
        headers = {"Idempotency-Key": f"{operation}:{path}"}
        data = msgspec.json.encode(body) if body is not None else None
        if data is not None:
            headers["Content-Type"] = "application/json"
        try:
            async with self._session.request(method, self._url + path, data=data, headers=headers) as r:
                answer = await r.read()
                code = r.status
        except (aiohttp.ClientError, TimeoutError) as error:
            metrics.PROVIDER_CALLS.labels(operation, "unclear").inc()
            raise UnclearError(f"{operation}: {error!r}") from error
        if code >= 500 or code == 429:
            metrics.PROVIDER_CALLS.labels(operation, "unclear").inc()
            raise UnclearError(f"{operation}: status {code}")
        metrics.PROVIDER_CALLS.labels(operation, "answered").inc()
        if code == 404:
            return None
        if code >= 300:
            raise UnclearError(f"{operation}: refused with {code}")
        try:
            return _decode(answer).status
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:  # somebody in between has answered
            raise UnclearError(f"{operation}: {error}") from error
