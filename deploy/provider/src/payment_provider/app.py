"""The provider's HTTP API. Each payment route is idempotent by the merchant's reference: see ledger.py.

PUT  /v1/payments/{reference}           authorize: 201, again 200
POST /v1/payments/{reference}/capture   take the money that is authorized
POST /v1/payments/{reference}/void      let it go; of an unknown reference: refuse it should it come later
GET  /v1/payments/{reference}           what became of it
GET  /v1/ledger                         every payment once, one JSON object per line
GET, PATCH /switches                    the faults: see faults.py
"""

import re
from typing import Annotated

from aiohttp import web
from msgspec import Meta, Struct
from msgspec.json import Decoder, Encoder

from payment_provider.faults import Faults
from payment_provider.ledger import Ledger, Payment, Status
from payment_provider.problems import BadRequestError, answer_problems

_MAX_BODY_BYTES = 16 * 1024
_LINES_PER_CHUNK = 1_000


class AuthorizeRequest(Struct, forbid_unknown_fields=True):
    amount_minor: Annotated[int, Meta(gt=0, le=2**63 - 1)]
    currency: Annotated[str, Meta(pattern=r"^[A-Z]{3}\Z")]
    customer_id: Annotated[str, Meta(min_length=1, max_length=200)]


def create_app(ledger: Ledger, faults: Faults) -> web.Application:
    api = _Api(ledger, faults)
    app = web.Application(middlewares=[faults.apply, answer_problems], client_max_size=_MAX_BODY_BYTES)
    app.add_routes(
        [
            web.put("/v1/payments/{reference}", api.authorize),
            web.post("/v1/payments/{reference}/capture", api.capture),
            web.post("/v1/payments/{reference}/void", api.void),
            web.get("/v1/payments/{reference}", api.show),
            web.get("/v1/ledger", api.show_ledger),
            web.get("/switches", api.show_switches),
            web.patch("/switches", api.change_switches),
            web.get("/readyz", api.show_ready),
        ]
    )
    return app


class _Api:
    def __init__(self, ledger: Ledger, faults: Faults) -> None:
        self._ledger = ledger
        self._faults = faults

    async def authorize(self, request: web.Request) -> web.Response:
        order = self._order(_reference(request), _idempotency_key(request), _AUTHORIZE.decode(await request.read()))
        payment, created = self._ledger.authorize(order)
        return _json(payment, status=201 if created else 200)

    async def capture(self, request: web.Request) -> web.Response:
        return _json(self._ledger.capture(_reference(request)))

    async def void(self, request: web.Request) -> web.Response:
        return _json(self._ledger.void(_reference(request)))

    async def show(self, request: web.Request) -> web.Response:
        return _json(self._ledger.find(_reference(request)))

    async def show_ledger(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        payments = self._ledger.payments()
        for start in range(0, len(payments), _LINES_PER_CHUNK):
            await response.write(_ENCODER.encode_lines(payments[start : start + _LINES_PER_CHUNK]))
        await response.write_eof()
        return response

    async def show_switches(self, request: web.Request) -> web.Response:
        return _json(self._faults.switches)

    async def change_switches(self, request: web.Request) -> web.Response:
        return _json(self._faults.change(_SWITCHES.decode(await request.read())))

    async def show_ready(self, request: web.Request) -> web.Response:
        return web.Response(text="ready\n")

    def _order(self, reference: str, key: str, terms: AuthorizeRequest) -> Payment:
        declined = self._faults.declines(reference)
        return Payment(
            reference=reference,
            status=Status.DECLINED if declined else Status.AUTHORIZED,
            amount_minor=terms.amount_minor,
            currency=terms.currency,
            customer_id=terms.customer_id,
            idempotency_key=key,
            decline_code="insufficient_funds" if declined else None,
        )


def _reference(request: web.Request) -> str:
    return _visible_ascii("reference", request.match_info["reference"])


def _idempotency_key(request: web.Request) -> str:
    return _visible_ascii("Idempotency-Key", request.headers.get("Idempotency-Key", ""))


def _visible_ascii(field: str, value: str) -> str:
    if _VISIBLE_ASCII.fullmatch(value) is None:
        raise BadRequestError(field, "1 to 255 visible ASCII characters are needed.")
    return value


def _json(answer: Struct, status: int = 200) -> web.Response:
    return web.Response(body=_ENCODER.encode(answer), status=status, headers={"Content-Type": "application/json"})


_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]{1,255}")
_AUTHORIZE = Decoder(AuthorizeRequest)
_SWITCHES = Decoder(dict[str, object])
_ENCODER = Encoder()
