"""Load shedding, seen from outside: what is refused unread, and what never is."""

import asyncio
from uuid import uuid4

import httpx
import pytest
from prometheus_client import REGISTRY

from unit.gateway.fakes import Door, bearer, open_door

PROBES = ("/livez", "/readyz", "/metrics")


def shed(reason: str) -> float:
    return REGISTRY.get_sample_value("headrace_requests_shed_total", {"reason": reason}) or 0


def answered_503() -> float:
    labels = {"route": "shed", "method": "POST", "status": "503"}
    return REGISTRY.get_sample_value("headrace_http_requests_total", labels) or 0


async def cancel(door: Door) -> httpx.Response:
    return await door.http.post(f"/v1/orders/{uuid4()}/cancel", headers=bearer())


async def test_when_too_many_wait_the_next_is_refused_unread() -> None:
    async with open_door(capacity=1) as door, asyncio.TaskGroup() as tasks:
        door.publisher.gate.clear()
        first = tasks.create_task(door.place())
        await door.publisher.called.wait()

        second, third = await door.send(b"not even json"), await cancel(door)
        door.publisher.gate.set()

    assert (second.status_code, third.status_code) == (503, 503)
    assert second.json() == {
        "type": "urn:problem:overloaded",
        "title": "Too many requests are waiting",
        "status": 503,
        "instance": "/v1/orders",
        "trace_id": None,
    }
    assert second.headers["content-type"] == "application/problem+json"
    assert second.headers["retry-after"] in ("1", "2", "3")
    assert first.result().status_code == 202
    assert len(door.publisher.records) == 1


async def test_when_an_accepted_order_is_unwritten_for_too_long_no_more_are_accepted(door: Door) -> None:
    door.backlog.age_s = 60.1
    order, cancelled = await door.send(b"not even json"), await cancel(door)
    door.backlog.age_s = 60
    again = await door.place()

    assert (order.status_code, cancelled.status_code) == (503, 503)
    assert order.json()["type"] == "urn:problem:lagging"
    assert again.status_code == 202


async def test_who_is_refused_together_does_not_come_back_together(door: Door) -> None:
    door.backlog.age_s = 100

    waits = {int((await door.place()).headers["retry-after"]) for _ in range(60)}

    assert waits <= set(range(10, 31))
    assert len(waits) > 5


@pytest.mark.parametrize("capacity", [1, 100])
async def test_reads_and_probes_are_never_shed(capacity: int) -> None:
    async with open_door(capacity=capacity) as door, asyncio.TaskGroup() as tasks:
        order = (await door.place()).headers["location"]
        door.publisher.gate.clear()
        door.publisher.called.clear()
        tasks.create_task(door.place())
        await door.publisher.called.wait()
        door.backlog.age_s = 1_000

        refused = await door.place()
        reads = [await door.get(path) for path in (order, "/v1/orders", f"{order}/timeline", "/v1/catalog")]
        probes = [await door.http.get(path) for path in PROBES]
        door.publisher.gate.set()

    assert refused.status_code == 503
    assert [answer.status_code for answer in reads + probes] == [200] * 7


async def test_each_refusal_is_counted_with_its_reason(door: Door) -> None:
    before = shed("lag"), answered_503()
    door.backlog.age_s = 100

    await door.place()
    await cancel(door)

    assert (shed("lag"), answered_503()) == (before[0] + 2, before[1] + 2)
