"""Problems: the one list of what the gateway can answer instead of what was asked for (RFC 9457).

Rule: code raises `Problem`; only this module turns it, and the framework's own errors, into application/problem+json.
What the client sent is never echoed: an error names the field and the rule, not the value.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import msgspec
import structlog
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from common.errors import InfrastructureError
from common.telemetry.tracing import trace_id_of

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"
MAX_ERRORS = 100  # of bad fields named in one answer
MAX_NAME = 80  # characters of a field's name; an unknown field brings its own


@dataclass(frozen=True, slots=True)
class Kind:
    slug: str
    title: str
    status: int


MALFORMED_REQUEST = Kind("malformed-request", "The request cannot be read", 400)
BAD_CURSOR = Kind("bad-cursor", "The cursor is not one of ours", 400)
BAD_IDEMPOTENCY_KEY = Kind("bad-idempotency-key", "The Idempotency-Key is not 1 to 255 visible ASCII characters", 400)
UNAUTHORIZED = Kind("unauthorized", "A valid bearer token is needed", 401)
FORBIDDEN = Kind("forbidden", "The token does not allow this", 403)
NOT_FOUND = Kind("not-found", "There is nothing here", 404)
METHOD_NOT_ALLOWED = Kind("method-not-allowed", "This method is not allowed here", 405)
TIMEOUT = Kind("timeout", "The request took too long", 408)
IN_FLIGHT = Kind("in-flight", "The first call with this Idempotency-Key is not answered yet", 409)
BODY_TOO_LARGE = Kind("body-too-large", "The body is larger than 64 KiB", 413)
UNSUPPORTED_MEDIA_TYPE = Kind("unsupported-media-type", "The body must be application/json in UTF-8", 415)
INVALID_FIELDS = Kind("invalid-fields", "Some fields are not valid", 422)
KEY_REUSED = Kind("idempotency-key-reused", "This Idempotency-Key stands for another order", 422)
TOO_MANY_REQUESTS = Kind("too-many-requests", "You are over your rate", 429)
INTERNAL_ERROR = Kind("internal-error", "Something went wrong on our side", 500)
OVERLOADED = Kind("overloaded", "Too many requests are waiting", 503)
LAGGING = Kind("lagging", "Accepted orders wait too long to be written", 503)
NOT_ACCEPTED = Kind("not-accepted", "Not accepted: nothing was written", 503)
OUTCOME_UNKNOWN = Kind("outcome-unknown", "It may or may not have been accepted", 503)
CANNOT_SAY_YET = Kind("cannot-say-yet", "Redis lost its memory: whether this order exists is not known yet", 503)
UNAVAILABLE = Kind("unavailable", "A service behind this one does not answer", 503)

_BY_STATUS = {
    kind.status: kind
    for kind in (MALFORMED_REQUEST, UNAUTHORIZED, FORBIDDEN, NOT_FOUND, METHOD_NOT_ALLOWED, BODY_TOO_LARGE)
}

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "instance"],
    "properties": {
        "type": {"type": "string", "description": "urn:problem:<what>; stable, made for programs"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string", "description": "the path that was asked for"},
        "trace_id": {"type": ["string", "null"]},
        "order_id": {
            "type": "string",
            "description": "the order that it is about, where that is known",
        },
        "errors": {
            "type": "array",
            "description": "with invalid-fields: every field that is wrong",
            "items": {
                "type": "object",
                "required": ["field", "code", "detail"],
                "properties": {name: {"type": "string"} for name in ("field", "code", "detail")},
            },
        },
    },
}


@dataclass(frozen=True, slots=True)
class FieldError:
    """One bad field: its path (`lines.2.quantity`, or empty for the whole body), a code, a sentence."""

    field: str
    code: str
    detail: str


class Problem(Exception):  # noqa: N818 - the word of RFC 9457
    """Raise it anywhere in a request; `members` become members of the answer."""

    def __init__(self, kind: Kind, detail: str = "", headers: Mapping[str, str] | None = None, **members: Any) -> None:
        super().__init__(kind.slug)
        self.kind, self.detail, self.headers, self.members = kind, detail, headers, members


def invalid_fields(errors: list[FieldError]) -> Problem:
    return Problem(INVALID_FIELDS, errors=[asdict(error) for error in errors[:MAX_ERRORS]])


def field_errors(errors: Any, skip: int = 0) -> list[FieldError]:
    """Our form of pydantic's errors; `skip` leaves out the first parts of a path (`query`, `body`)."""
    return [
        FieldError(".".join(str(part)[:MAX_NAME] for part in error["loc"][skip:]), error["type"], error["msg"])
        for error in errors[:MAX_ERRORS]
    ]


async def answer_error(request: Request, error: Exception) -> Response:
    """The answer to any exception; what nobody expected is logged and becomes a 500 without details."""
    return render(request, to_problem(error))


def to_problem(error: Exception) -> Problem:
    match error:
        case Problem():
            return error
        case HTTPException():
            return Problem(_BY_STATUS.get(error.status_code, MALFORMED_REQUEST), headers=error.headers)
        case RequestValidationError():
            return invalid_fields(field_errors(error.errors(), skip=1))
        case InfrastructureError():
            log.warning("dependency_away", error=str(error))
            return Problem(UNAVAILABLE, headers={"Retry-After": "1"})
        case ClientDisconnect():
            return Problem(MALFORMED_REQUEST, "The client went away.")
        case _:
            log.error("request_failed", exc_info=error)
            return Problem(INTERNAL_ERROR)


def render(request: Request, problem: Problem) -> Response:
    trace_id = trace_id_of(getattr(request.state, "traceparent", None))
    body = body_of(problem, instance=request.url.path[:200], trace_id=trace_id)
    return Response(body, problem.kind.status, problem.headers, MEDIA_TYPE)


def body_of(problem: Problem, *, instance: str, trace_id: str | None) -> bytes:
    body = {
        "type": f"urn:problem:{problem.kind.slug}",
        "title": problem.kind.title,
        "status": problem.kind.status,
        **({"detail": problem.detail} if problem.detail else {}),
        "instance": instance,
        "trace_id": trace_id,
        **problem.members,
    }
    return msgspec.json.encode(body)
