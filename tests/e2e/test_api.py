"""The public API of a whole stack: from the 202 to the end of an order, and back again when it is refused."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

from demo.tokens import Tokens, load_private_key
from e2e.conftest import RunningStack
from eventually import eventually
from local_stack.stack import WORKERS

pytestmark = pytest.mark.timeout(180)
SKU, PRICE_MINOR = "cd-1-1177", 1177
FINAL_WITHIN_S = 60
READS, CUSTOMERS = 10_000, 32


@pytest.fixture
async def api(stack: RunningStack) -> AsyncIterator[aiohttp.ClientSession]:
    """Requests of the customer `tester`."""
    headers = {"Authorization": tokens(stack).bearer("tester"), "Content-Type": "application/json"}
    timeout = aiohttp.ClientTimeout(total=10)
    async with aiohttp.ClientSession(stack.env["GATEWAY_URL"], headers=headers, timeout=timeout) as session:
        yield session


async def test_an_order_goes_from_the_door_to_confirmed(api: aiohttp.ClientSession) -> None:
    async with api.post("/v1/orders", json=order(client_reference="träumerei 🎹")) as response:
        accepted, location = await response.json(), response.headers["Location"]

        assert response.status == 202
        assert accepted["status"] == "accepted"
    view = await final_view(api, location)
    assert view["status"] == "confirmed"
    assert view["client_reference"] == "träumerei 🎹"
    assert view["total_minor"] == PRICE_MINOR
    async with api.get("/v1/orders?status=confirmed&limit=100") as response:
        assert accepted["order_id"] in [entry["order_id"] for entry in (await response.json())["orders"]]


async def test_an_order_is_followed_from_accepted_to_confirmed_and_its_timeline_tells_how(
    api: aiohttp.ClientSession,
) -> None:
    async with api.post("/v1/orders", json=order()) as response:
        links = (await response.json())["links"]

    async with api.get(links["events"]) as response:
        text = await response.text()  # a stream ends with its order
    async with api.get(links["timeline"]) as response:
        steps = (await response.json())["steps"]

    fields = [line.split(": ", 1) for line in text.splitlines() if line]
    statuses = [value for name, value in fields if name == "event"]
    versions = [int(value) for name, value in fields if name == "id"]
    assert statuses[-1] == "confirmed"
    assert versions == sorted(set(versions))  # on its way none comes twice, and none after a newer one
    assert [(s["what"], s["status"]) for s in steps] == [
        ("accepted", "accepted"),
        ("PlaceOrder", "placed"),
        ("OrderPlaced", None),
        ("StockReserved", "reserved"),
        ("PaymentAuthorized", "authorized"),
        ("PaymentCaptured", "confirmed"),
    ]
    assert len({s["trace_id"] for s in steps[1:]}) == 1  # that of the request
    assert {s["attempt"] for s in steps} == {1}


async def test_who_waits_for_an_order_hears_of_it_sooner_than_the_wait_ends(api: aiohttp.ClientSession) -> None:
    async with api.post("/v1/orders", json=order()) as response:
        location = response.headers["Location"]

    etag, statuses = "none", list[str]()
    while not statuses or statuses[-1] != "confirmed":
        async with api.get(f"{location}?wait=5", headers={"If-None-Match": etag}) as response:
            assert response.status == 200, "nothing was heard for 5 s"
            etag = response.headers["ETag"]
            statuses.append((await response.json())["status"])

    assert len(statuses) == len(set(statuses))


async def test_the_same_key_is_the_same_order(api: aiohttp.ClientSession) -> None:
    key = {"Idempotency-Key": "once-and-again"}

    answers: list[str] = []
    for _ in range(3):
        async with api.post("/v1/orders", json=order(), headers=key) as response:
            assert response.status == 202
            answers.append((await response.json())["order_id"])

    assert len(set(answers)) == 1


async def test_a_strangers_order_looks_like_none(stack: RunningStack, api: aiohttp.ClientSession) -> None:
    async with api.post("/v1/orders", json=order()) as response:
        location = response.headers["Location"]
    stranger = {"Authorization": tokens(stack).bearer("stranger")}

    async with api.get(location, headers=stranger) as response:
        assert response.status == 404
        assert response.content_type == "application/problem+json"


async def test_a_cancel_that_comes_after_capture_changes_nothing(api: aiohttp.ClientSession) -> None:
    async with api.post("/v1/orders", json=order()) as response:
        location = response.headers["Location"]
    before = await final_view(api, location)

    async with api.post(f"{location}/cancel") as response:
        assert response.status == 202

    async with api.post("/v1/orders", json=order()) as response:
        later = response.headers[
            "Location"
        ]  # of another order: once it is final, the cancel has most likely been heard
    await final_view(api, later)
    async with api.get(location) as response:
        assert (await response.json())["version"] == before["version"]


async def test_bad_input_names_every_field_and_is_never_echoed(api: aiohttp.ClientSession) -> None:
    async with api.post("/v1/orders", json={"currency": "USD", "lines": [{"sku": "no-such-cd", "quantity": 0}]}) as r:
        assert r.status == 422
        assert r.content_type == "application/problem+json"
        assert "no-such-cd" not in await r.text()


async def test_10_000_reads_after_the_202_find_the_order_with_workers_frozen_and_redis_killed(
    stack: RunningStack, api: aiohttp.ClientSession
) -> None:
    """0, 10 and 100 ms after the 202. While Redis has forgotten what Postgres does not know yet, 503 is the truth."""
    statuses: Counter[int] = Counter()
    placed: list[tuple[str, dict[str, str]]] = []

    async def place_and_read(number: int) -> None:
        headers = {"Authorization": bearers[number % len(bearers)]}
        async with api.post("/v1/orders", json=order(), headers=headers) as response:
            assert response.status == 202, await response.text()
            location = response.headers["Location"]
        placed.append((location, headers))
        for pause_s in (0, 0.01, 0.09):
            await asyncio.sleep(pause_s)
            async with api.get(location, headers=headers) as response:
                statuses[response.status] += 1

    async def customer(number: int) -> None:
        for turn in range(READS // 3 // CUSTOMERS + 1):
            await place_and_read(number + turn * CUSTOMERS)

    bearers = [tokens(stack).bearer(f"reader-{number}") for number in range(500)]
    async with asyncio.TaskGroup() as tasks:
        for number in range(CUSTOMERS):
            tasks.create_task(customer(number))
        await eventually(lambda: len(placed) > 500, within=60)
        pids = await asyncio.to_thread(stack.pids)
        with frozen([pids[name] for name in WORKERS]):
            before = len(placed)
            await eventually(lambda: len(placed) > before + 300, within=60)
            os.kill(pids["valkey"], signal.SIGKILL)
            before = len(placed)
            await eventually(lambda: len(placed) > before + 300, within=60)

    assert statuses.total() >= READS
    assert set(statuses) <= {200, 503}, statuses
    assert statuses[200] > READS / 2
    for location, headers in placed[:: len(placed) // 50]:
        await final_view(api, location, headers)
    async with api.get(f"/v1/orders/{uuid4()}") as response:
        assert response.status == 404  # and now it is sure again


@contextmanager
def frozen(pids: list[int]) -> Generator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def order(**more: Any) -> dict[str, Any]:
    return {"currency": "USD", "lines": [{"sku": SKU, "quantity": 1}], **more}


async def final_view(
    api: aiohttp.ClientSession, location: str, headers: dict[str, str] | None = None
) -> dict[str, Any]:
    """The order once it is final; at no moment on the way is it unknown."""
    view: dict[str, Any] = {}

    async def is_final() -> bool:
        async with api.get(location, headers=headers) as response:
            assert response.status == 200, await response.text()
            view.update(await response.json())
        return view["status"] in ("confirmed", "rejected", "cancelled")

    await eventually(is_final, within=FINAL_WITHIN_S)
    return view


def tokens(stack: RunningStack) -> Tokens:
    key = load_private_key(Path(stack.env["JWT_PRIVATE_KEY_FILE"]))
    return Tokens(key, issuer=stack.env["JWT_ISSUER"], audience=stack.env["JWT_AUDIENCE"])
