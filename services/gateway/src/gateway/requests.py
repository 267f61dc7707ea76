"""Reading a request: the checks that come before its body is understood."""

import asyncio
import re
from uuid import UUID

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request

from gateway.problems import (
    BAD_IDEMPOTENCY_KEY,
    BODY_TOO_LARGE,
    NOT_FOUND,
    TIMEOUT,
    UNSUPPORTED_MEDIA_TYPE,
    FieldError,
    Problem,
    invalid_fields,
)

MAX_BODY_BYTES = 64 * 1024
MAX_WAIT_S = 10

_JSON = re.compile(r'application/json\s*(;\s*charset\s*=\s*"?utf-8"?\s*)?\Z', re.IGNORECASE)
_SECONDS = re.compile(r"[0-9]{1,2}\Z")
_KEY = re.compile(r"[\x21-\x7e]{1,255}\Z")


async def json_body(request: Request, *, timeout_s: float = 8.0) -> bytes:
    """The bytes of a JSON body: the problem 415 for any other type or encoding, 413 for more than 64 KiB, 408 for
    one that takes longer than `timeout_s`.

    FastAPI's own `max_body_size` would answer 413 in plain text.
    """
    headers = request.headers
    if not _JSON.match(headers.get("content-type", "")) or headers.get("content-encoding", "identity") != "identity":
        raise Problem(UNSUPPORTED_MEDIA_TYPE)
    announced = headers.get("content-length", "0")
    if not announced.isdecimal() or int(announced) > MAX_BODY_BYTES:
        raise Problem(BODY_TOO_LARGE)
    body = b""
    try:
        async with asyncio.timeout(timeout_s):
            more = True
            while more:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                body += message.get("body", b"")
                if len(body) > MAX_BODY_BYTES:
                    raise Problem(BODY_TOO_LARGE)
                more = message.get("more_body", False)
    except TimeoutError as error:
        raise Problem(TIMEOUT, headers={"Connection": "close"}) from error
    return body


def idempotency_key(headers: Headers) -> str | None:
    match headers.getlist("idempotency-key"):
        case []:
            return None
        case [key] if _KEY.match(key):
            return key
        case _:
            raise Problem(BAD_IDEMPOTENCY_KEY)


def wait_of(request: Request) -> int:
    """The seconds of `?wait=`; 0 without it. The problem 422 for anything but an integer from 0 to 10."""
    if not request.scope["query_string"]:
        return 0
    match request.query_params.getlist("wait"):
        case []:
            return 0
        case [text] if _SECONDS.match(text) and int(text) <= MAX_WAIT_S:
            return int(text)
        case _:
            raise invalid_fields([FieldError("wait", "wait", f"An integer from 0 to {MAX_WAIT_S}, in seconds")])


def order_id_of(request: Request) -> UUID:
    """The id in the path; what is not an id is an order that does not exist."""
    text: str = request.path_params["order_id"]
    try:
        order_id = UUID(text)
    except ValueError as error:
        raise Problem(NOT_FOUND) from error
    if str(order_id) != text.lower():  # UUID() also takes braces and missing hyphens
        raise Problem(NOT_FOUND)
    return order_id
