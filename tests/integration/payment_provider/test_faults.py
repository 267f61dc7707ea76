"""Each fault does what it says to the payment routes, and nothing to the others."""

import time
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestClient
from aiohttp.web import Application, Request

Client = TestClient[Request, Application]
TERMS = {"amount_minor": 1_234, "currency": "USD", "customer_id": "customer-1"}
CALM = {"latency_ms": 0, "error_rate": 0.0, "hang": False, "lost_reply_rate": 0.0, "decline_percent": 0}


async def switch(client: Client, **switches: Any) -> tuple[int, dict[str, Any]]:
    async with client.patch("/switches", json=switches) as response:
        return response.status, await response.json(content_type=None)


async def authorize(client: Client, *, seconds: float = 5) -> int:
    deadline = aiohttp.ClientTimeout(total=seconds)
    headers = {"Idempotency-Key": "key-1"}
    async with client.put("/v1/payments/order-1", json=TERMS, headers=headers, timeout=deadline) as response:
        return response.status


async def show(client: Client) -> int:
    async with client.get("/v1/payments/order-1") as response:
        return response.status


async def test_switches_change_one_by_one_and_are_shown(client: Client) -> None:
    assert await switch(client) == (200, CALM)
    assert await switch(client, latency_ms=5) == (200, {**CALM, "latency_ms": 5})
    assert await switch(client, error_rate=1) == (200, {**CALM, "latency_ms": 5, "error_rate": 1.0})
    async with client.get("/switches") as response:
        assert await response.json() == {**CALM, "latency_ms": 5, "error_rate": 1.0}


@pytest.mark.parametrize(
    "bad", [{"latency_ms": -1}, {"error_rate": 1.1}, {"hang": 1}, {"decline_percent": 101}, {"colour": "red"}]
)
async def test_a_bad_switch_is_422_named_and_changes_nothing(client: Client, bad: dict[str, Any]) -> None:
    status, problem = await switch(client, lost_reply_rate=0.5, **bad)

    assert (status, problem["field"]) == (422, next(iter(bad)))
    assert await switch(client) == (200, CALM)


async def test_a_body_nested_too_deeply_for_a_switch_is_400(client: Client) -> None:
    async with client.patch("/switches", data=b'{"hang":' + b"[" * 10_000) as response:
        assert response.status == 400


async def test_latency_delays_the_answer(client: Client) -> None:
    await switch(client, latency_ms=100)

    begin = time.monotonic()
    status = await authorize(client)

    assert status == 201
    assert time.monotonic() - begin >= 0.1


async def test_an_error_is_503_and_does_no_work(client: Client) -> None:
    await switch(client, error_rate=1)
    refused = await authorize(client)
    await switch(client, error_rate=0)

    assert refused == 503
    assert await show(client) == 404


async def test_a_lost_reply_cuts_the_connection_after_the_work(client: Client) -> None:
    await switch(client, lost_reply_rate=1)
    with pytest.raises(aiohttp.ClientConnectionError):
        await authorize(client)
    await switch(client, lost_reply_rate=0)

    assert await show(client) == 200
    assert await authorize(client) == 200


async def test_a_hanging_provider_never_answers_and_does_no_work(client: Client) -> None:
    await switch(client, hang=True)
    with pytest.raises(TimeoutError):
        await authorize(client, seconds=0.2)
    await switch(client, hang=False)

    assert await show(client) == 404


async def test_faults_leave_the_other_routes_alone(client: Client) -> None:
    await switch(client, hang=True, error_rate=1, lost_reply_rate=1, latency_ms=60_000)

    for path in ("/readyz", "/v1/ledger", "/switches"):
        async with client.get(path, timeout=aiohttp.ClientTimeout(total=2)) as response:
            assert response.status == 200
