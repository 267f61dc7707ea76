"""Every error as an RFC 9457 problem: one table from what was raised to what the merchant reads."""

import re
from http import HTTPStatus

from aiohttp import web
from aiohttp.typedefs import Handler
from msgspec import DecodeError, Struct, ValidationError
from msgspec.json import Encoder

from payment_provider.ledger import ConflictError, LedgerError, UnknownPaymentError


class BadRequestError(Exception):
    """A header or a part of the path is not acceptable; `field` is its name."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(detail)
        self.field = field


class Problem(Struct, omit_defaults=True):
    type: str
    title: str
    status: int
    detail: str
    field: str | None = None

    def response(self, *, headers: dict[str, str] | None = None) -> web.Response:
        content_type = {"Content-Type": "application/problem+json"}
        return web.Response(body=_ENCODER.encode(self), status=self.status, headers={**content_type, **(headers or {})})


def problem(status: int, code: str, detail: str, field: str | None = None) -> Problem:
    return Problem(f"urn:payment-provider:{code}", HTTPStatus(status).phrase, status, detail, field)


@web.middleware
async def answer_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPError as error:  # raised by aiohttp: no such route or method, body too large
        allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
        return problem(error.status, "http", error.reason).response(headers=allow)
    except (BadRequestError, LedgerError, DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _problem_of(error).response()


def _problem_of(error: Exception) -> Problem:
    match error:
        case BadRequestError():
            return problem(400, "bad-request", str(error), error.field)
        case UnknownPaymentError():
            return problem(404, "unknown-payment", str(error))
        case ConflictError():
            return problem(409, error.code, str(error))
        case LedgerError():
            return problem(503, "ledger-unavailable", str(error))
        case ValidationError():
            return problem(422, "invalid-field", str(error), _field_in(str(error)))
        case DecodeError():
            return problem(400, "malformed-json", str(error))
        case _:
            return problem(400, "malformed-json", "The body is not JSON in UTF-8, or is nested too deeply.")


def _field_in(message: str) -> str | None:
    """The field that msgspec names: "… - at `$.amount_minor`", or "Object contains unknown field `colour`"."""
    found = re.search(r"at `\$\.(\w+)|field `([^`]+)`", message)
    return (found[1] or found[2]) if found else None


_ENCODER = Encoder()
