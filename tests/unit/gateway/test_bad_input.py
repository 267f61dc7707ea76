"""Bad input has an exact answer: a problem that names the field, never the value, and never a 5xx."""

from collections.abc import AsyncGenerator

import httpx
import pytest

from unit.gateway.fakes import Door, bearer, item_record

DEEP = b"[" * 60_000


def order(line: str = '{"sku":"cd-1","quantity":1}', rest: str = "") -> bytes:
    return f'{{"currency":"USD","lines":[{line}]{rest}}}'.encode()


def quantity(value: str) -> bytes:
    return order(f'{{"sku":"cd-1","quantity":{value}}}')


def reference(value: str) -> bytes:
    return order(rest=f',"client_reference":{value}')


BAD_QUANTITIES = ["NaN", "-Infinity", "Infinity", '"inf"', '"nan"', "0", "-1", "1.0", "1e2", "1e400", "true", '"5"']
BAD_SIZES = ["null", "1001", "2147483648", "9223372036854775808", "1" + "0" * 30]

BODIES: dict[str, tuple[bytes, int, str | None]] = {
    "empty": (b"", 422, ""),
    "null": (b"null", 422, ""),
    "list": (b"[]", 422, ""),
    "no fields": (b"{}", 422, "currency"),
    "truncated": (order()[:-3], 400, None),
    "trailing bytes": (order() + b"x", 400, None),
    "deep": (DEEP, 400, None),
    "too many lines": (b'{"currency":"USD","lines":[' + b"0," * 30_000 + b"0]}", 422, "lines"),
    "no lines": (b'{"currency":"USD","lines":[]}', 422, "lines"),
    "unknown field": (order(rest=',"colour":"red"'), 422, "colour"),
    "price of the client": (order('{"sku":"cd-1","quantity":1,"price":1}'), 422, "lines.0.price"),
    "bad utf-8": (b'{"currency":"\xff"}', 400, None),
    "utf-16": (order().decode().encode("utf-16"), 400, None),
    "byte order mark": (b"\xef\xbb\xbf" + order(), 400, None),
    **{f"quantity {value[:12]}": (quantity(value), 422, "lines.0.quantity") for value in BAD_QUANTITIES + BAD_SIZES},
    "quantity of 5,000 digits": (quantity("9" * 5_000), 422, ""),
    "sku with newline": (order('{"sku":"cd-1\\n","quantity":1}'), 422, "lines.0.sku"),
    "sku of sql": (order('{"sku":"\'; DROP TABLE","quantity":1}'), 422, "lines.0.sku"),
    "unknown sku": (order('{"sku":"cd-99","quantity":1}'), 422, "lines.0.sku"),
    "same sku twice": (order('{"sku":"cd-1","quantity":1},{"sku":"cd-1","quantity":2}'), 422, "lines.1.sku"),
    "currency of nobody": (order().replace(b"USD", b"XXX"), 422, "currency"),
    "currency of another item": (order().replace(b"USD", b"EUR"), 422, "currency"),
    "currency in small letters": (order().replace(b"USD", b"usd"), 422, "currency"),
    "NUL": (reference('"a\\u0000b"'), 422, "client_reference"),
    "lone leading surrogate": (reference('"\\ud800"'), 422, ""),
    "lone trailing surrogate": (reference('"\\udc00"'), 422, ""),
    "reference of 201": (reference(f'"{"é" * 201}"'), 422, "client_reference"),
    "reference of 60 kB": (reference(f'"{"x" * 60_000}"'), 422, "client_reference"),
}


@pytest.mark.parametrize("case", BODIES)
async def test_a_bad_body_gets_its_exact_answer(door: Door, case: str) -> None:
    body, status, field = BODIES[case]

    answer = await door.send(body)

    problem = answer.json()
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["status"] == status
    if field is not None:
        assert field in [error["field"] for error in problem["errors"]]
    assert door.publisher.records == []


async def test_every_bad_field_is_named(door: Door) -> None:
    body = b'{"currency":"usd","lines":[{"sku":"","quantity":0},{"sku":"cd-1","quantity":"1"}],"extra":1}'

    errors = (await door.send(body)).json()["errors"]

    assert {error["field"] for error in errors} == {
        "currency",
        "lines.0.sku",
        "lines.0.quantity",
        "lines.1.quantity",
        "extra",
    }
    assert all(error["code"] and error["detail"] for error in errors)


async def test_the_input_is_never_echoed(door: Door) -> None:
    answer = await door.send(order('{"sku":"<script>alert(1)</script>","quantity":"secret"}', ',"x":"confidential"'))

    assert answer.status_code == 422
    assert not any(word in answer.text for word in ("script", "secret", "confidential"))


@pytest.mark.parametrize("text", ["👩‍🚀 e\u0301 ünïcode", "'; DROP TABLE orders; --", "<script>", "x" * 200, ""])
async def test_free_text_is_kept_as_it_is(door: Door, text: str) -> None:
    answer = await door.place({"currency": "USD", "lines": [{"sku": "cd-1", "quantity": 1}], "client_reference": text})

    assert answer.status_code == 202
    assert door.publisher.command().client_reference == text


async def test_of_a_key_twice_the_last_wins(door: Door) -> None:
    await door.send(b'{"lines":[],"currency":"EUR","lines":[{"sku":"cd-1","quantity":1}],"currency":"USD"}')

    assert door.publisher.command().currency == "USD"


async def test_a_total_beyond_int64_is_refused(door: Door) -> None:
    door.catalog.update([item_record("gold", 2**62), item_record("silver", 2**62)])
    lines = [{"sku": sku, "quantity": 1} for sku in ("gold", "silver")]

    answer = await door.place({"currency": "USD", "lines": lines})

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["code"] == "total_too_large"


@pytest.mark.parametrize(
    "headers",
    [
        {"content_type": "text/plain"},
        {"content_type": ""},
        {"content_type": "application/json; charset=latin-1"},
        {"content_type": "application/jsonp"},
        {"content_encoding": "gzip"},
    ],
)
async def test_only_utf8_json_is_read(door: Door, headers: dict[str, str]) -> None:
    answer = await door.send(order(), **headers)

    assert answer.status_code == 415
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", 'Application/JSON ;charset="UTF-8"'])
async def test_a_utf8_charset_may_be_said(door: Door, kind: str) -> None:
    assert (await door.send(order(), content_type=kind)).status_code == 202


async def test_a_body_over_64_kib_is_413_announced_or_not(door: Door) -> None:
    async def chunks() -> AsyncGenerator[bytes]:
        for _ in range(100):
            yield b" " * 1_024

    announced = await door.send(b" " * 65_537)
    chunked = await door.send(chunks())

    assert announced.status_code == chunked.status_code == 413
    assert announced.headers["content-type"] == chunked.headers["content-type"] == "application/problem+json"
    assert (await door.send(order() + b" " * (65_536 - len(order())))).status_code == 202


@pytest.mark.parametrize("key", ["", "k" * 256, "k" * 10_000, "a b", "schlüssel", "tab\t"])
async def test_a_bad_idempotency_key_is_400(door: Door, key: str) -> None:
    answer = await _place_with_keys(door, key)

    assert answer.status_code == 400
    assert answer.json()["type"] == "urn:problem:bad-idempotency-key"


async def test_two_idempotency_keys_are_400(door: Door) -> None:
    assert (await _place_with_keys(door, "a", "b")).status_code == 400


async def _place_with_keys(door: Door, *keys: str) -> httpx.Response:
    headers = [(name.encode(), value.encode()) for name, value in bearer().items()]
    headers += [(b"content-type", b"application/json")]
    headers += [(b"idempotency-key", key.encode("latin-1")) for key in keys]
    return await door.http.post("/v1/orders", content=order(), headers=headers)
