"""What a merchant may rely on, over HTTP."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient
from aiohttp.web import Application, Request

Client = TestClient[Request, Application]
TERMS: dict[str, Any] = {"amount_minor": 1_234, "currency": "USD", "customer_id": "customer-1"}


async def call(client: Client, method: str, path: str, **options: Any) -> tuple[int, dict[str, Any]]:
    async with client.request(method, path, **options) as response:
        expected = "application/json" if response.status < 400 else "application/problem+json"
        assert response.content_type == expected
        return response.status, await response.json(content_type=None)


async def authorize(client: Client, reference: str, key: str = "", **terms: Any) -> tuple[int, dict[str, Any]]:
    headers = {"Idempotency-Key": key or f"key of {reference}".replace(" ", "-")}
    return await call(client, "PUT", f"/v1/payments/{reference}", json={**TERMS, **terms}, headers=headers)


async def book(client: Client) -> list[dict[str, Any]]:
    async with client.get("/v1/ledger") as response:
        assert response.content_type == "application/x-ndjson"
        return [json.loads(line) for line in (await response.text()).splitlines()]


def lines_of(ledger_file: Path) -> list[str]:
    return ledger_file.read_text().splitlines()


async def test_authorize_then_capture_charges_the_amount(client: Client) -> None:
    created, body = await authorize(client, "order-1")
    captured, after = await call(client, "POST", "/v1/payments/order-1/capture")

    assert (created, captured) == (201, 200)
    assert {
        "reference": "order-1",
        "status": "authorized",
        "amount_minor": 1_234,
        "currency": "USD",
    }.items() <= body.items()
    assert after["status"] == "captured"
    assert await call(client, "GET", "/v1/payments/order-1") == (200, after)


async def test_fifty_authorizes_at_once_charge_once(client: Client, ledger_file: Path) -> None:
    answers = await asyncio.gather(*(authorize(client, "order-1") for _ in range(50)))

    assert sorted(status for status, _ in answers) == [200] * 49 + [201]
    assert len(await book(client)) == 1
    assert len(lines_of(ledger_file)) == 1


async def test_capture_and_void_repeated_answer_the_same_and_write_nothing(client: Client, ledger_file: Path) -> None:
    await authorize(client, "order-1")
    await authorize(client, "order-2")
    first = [await call(client, "POST", f"/v1/payments/order-{p}") for p in ("1/capture", "2/void")]
    written = lines_of(ledger_file)

    again = [await call(client, "POST", f"/v1/payments/order-{p}") for p in ("1/capture", "2/void")]

    assert again == first
    assert lines_of(ledger_file) == written


async def test_an_idempotency_key_never_charges_two_references(client: Client) -> None:
    await authorize(client, "order-1", key="key-1")

    status, problem = await authorize(client, "order-2", key="key-1")

    assert (status, problem["type"]) == (409, "urn:payment-provider:idempotency-key-reused")
    assert len(await book(client)) == 1


async def test_a_reference_with_another_amount_is_refused_and_keeps_the_first(client: Client) -> None:
    await authorize(client, "order-1")

    status, problem = await authorize(client, "order-1", amount_minor=1)

    assert (status, problem["type"]) == (409, "urn:payment-provider:terms-differ")
    assert [payment["amount_minor"] for payment in await book(client)] == [1_234]


async def test_void_before_authorize_leaves_a_tombstone_so_that_the_late_authorize_takes_nothing(
    client: Client,
) -> None:
    voided, tombstone = await call(client, "POST", "/v1/payments/order-1/void")
    late, answer = await authorize(client, "order-1")
    capture, _ = await call(client, "POST", "/v1/payments/order-1/capture")

    assert (voided, late, capture) == (200, 200, 409)
    assert tombstone["status"] == answer["status"] == "voided"
    assert [payment["amount_minor"] for payment in await book(client)] == [0]


async def test_void_after_capture_is_refused(client: Client) -> None:
    await authorize(client, "order-1")
    await call(client, "POST", "/v1/payments/order-1/capture")

    status, problem = await call(client, "POST", "/v1/payments/order-1/void")

    assert (status, problem["type"]) == (409, "urn:payment-provider:payment-captured")


async def test_declined_stays_declined_even_when_declines_are_switched_off(client: Client) -> None:
    await call(client, "PATCH", "/switches", json={"decline_percent": 100})
    first, declined = await authorize(client, "order-1")
    await call(client, "PATCH", "/switches", json={"decline_percent": 0})

    again, same = await authorize(client, "order-1")
    capture, _ = await call(client, "POST", "/v1/payments/order-1/capture")

    assert (first, again, capture) == (201, 200, 409)
    assert same == declined
    assert (declined["status"], declined["decline_code"]) == ("declined", "insufficient_funds")


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("POST", "/capture")])
async def test_an_unknown_payment_is_404(client: Client, method: str, path: str) -> None:
    status, problem = await call(client, method, f"/v1/payments/nobody{path}")

    assert (status, problem["status"], problem["type"]) == (404, 404, "urn:payment-provider:unknown-payment")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"amount_minor": 0}, "amount_minor"),
        ({"amount_minor": 1.0}, "amount_minor"),
        ({"amount_minor": True}, "amount_minor"),
        ({"amount_minor": "5"}, "amount_minor"),
        ({"amount_minor": 2**63}, "amount_minor"),
        ({"amount_minor": 10**30}, "amount_minor"),
        ({"currency": "usd"}, "currency"),
        ({"currency": "USD\n"}, "currency"),
        ({"customer_id": ""}, "customer_id"),
        ({"customer_id": None}, "customer_id"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_a_bad_field_is_422_and_named(client: Client, change: dict[str, Any], field: str) -> None:
    status, problem = await authorize(client, "order-1", **change)

    assert (status, problem["field"]) == (422, field)
    assert await book(client) == []


async def test_a_missing_field_is_422_and_named(client: Client) -> None:
    body = {"amount_minor": 1, "customer_id": "customer-1"}

    status, problem = await call(client, "PUT", "/v1/payments/o", json=body, headers={"Idempotency-Key": "k"})

    assert (status, problem["field"]) == (422, "currency")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"amount_minor": 1, "currency": "USD", "customer_id": "c"} x',
        b'{"customer_id": "\xff"}',
        b"\xef\xbb\xbf{}",
        b'{"amount_minor": NaN}',
    ],
)
async def test_a_body_that_is_not_json_is_400(client: Client, body: bytes) -> None:
    status, _ = await call(client, "PUT", "/v1/payments/o", data=body, headers={"Idempotency-Key": "k"})

    assert status == 400


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": ""}, {"Idempotency-Key": "k" * 256}])
async def test_a_missing_or_bad_idempotency_key_is_400_and_named(client: Client, headers: dict[str, str]) -> None:
    status, problem = await call(client, "PUT", "/v1/payments/o", json=TERMS, headers=headers)

    assert (status, problem["field"]) == (400, "Idempotency-Key")


@pytest.mark.parametrize("reference", ["%00", "a%0A", "caf%C3%A9", "r" * 256])
async def test_a_bad_reference_is_400_and_named(client: Client, reference: str) -> None:
    status, problem = await call(client, "POST", f"/v1/payments/{reference}/void")

    assert (status, problem["field"]) == (400, "reference")


async def test_errors_of_the_http_layer_are_problems_too(client: Client) -> None:
    key = {"Idempotency-Key": "k"}
    assert (await call(client, "GET", "/nowhere"))[0] == 404
    assert (await call(client, "DELETE", "/v1/payments/order-1"))[0] == 405
    assert (await call(client, "PUT", "/v1/payments/o", data=b" " * 20_000, headers=key))[0] == 413


async def test_the_ledger_shows_every_payment_once_in_its_final_state(client: Client) -> None:
    for number in range(3):
        await authorize(client, f"order-{number}")
    await call(client, "POST", "/v1/payments/order-0/capture")

    assert [(p["reference"], p["status"]) for p in await book(client)] == [
        ("order-0", "captured"),
        ("order-1", "authorized"),
        ("order-2", "authorized"),
    ]


async def test_ready_once_it_serves(client: Client) -> None:
    async with client.get("/readyz") as response:
        assert response.status == 200
