"""What every answer has in common: problems for errors, no traceback, health, metrics, documentation."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest
from prometheus_client import REGISTRY
from starlette.requests import Request
from starlette.types import Message

from gateway.problems import Problem
from gateway.reads import View
from gateway.requests import json_body
from unit.gateway.fakes import Door, open_door


async def test_unknown_paths_and_methods_are_problems_too(door: Door) -> None:
    nowhere = await door.http.get("/v1/nowhere")
    slash = await door.http.get("/v1/orders/")
    put = await door.http.put("/v1/orders")
    trace = await door.http.request("TRACE", "/v1/catalog")

    assert [answer.status_code for answer in (nowhere, slash, put, trace)] == [404, 404, 405, 405]
    assert all(a.headers["content-type"] == "application/problem+json" for a in (nowhere, slash, put, trace))
    assert "allow" in put.headers
    assert nowhere.json()["instance"] == "/v1/nowhere"


async def test_a_problem_carries_the_trace_of_its_request(door: Door) -> None:
    answer = await door.place({}, traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")

    assert answer.json()["trace_id"] == "0af7651916cd43dd8448eb211c80319c"


async def test_a_bug_is_500_without_a_traceback(door: Door, capsys: pytest.CaptureFixture[str]) -> None:
    async def broken(order_id: UUID, customer_id: str, lease: str) -> View | None:
        raise RuntimeError("secret detail")

    door.orders.view = broken

    answer = await door.get(f"/v1/orders/{uuid4()}")

    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret" not in answer.text
    assert "secret detail" in capsys.readouterr().out  # the log has it


async def test_no_answer_may_be_sniffed(door: Door) -> None:
    answers = [await door.place(), await door.place({}), await door.http.get("/nowhere"), await door.http.get("/docs")]

    assert all(answer.headers["x-content-type-options"] == "nosniff" for answer in answers)


async def test_readiness_follows_what_it_stands_on() -> None:
    async with open_door(ready=False) as closed, open_door(ready=True) as opened:
        assert (await closed.http.get("/readyz")).status_code == 503
        assert (await closed.http.get("/livez")).status_code == 200
        assert (await opened.http.get("/readyz")).status_code == 200


async def test_metrics_are_by_route_never_by_order(door: Door) -> None:
    def count(route: str, status: str) -> float:
        labels = {"route": route, "method": "GET", "status": status}
        return REGISTRY.get_sample_value("headrace_http_requests_total", labels) or 0

    before = count("/v1/orders/{order_id}", "404"), count("unmatched", "404")
    order_id = uuid4()
    await door.get(f"/v1/orders/{order_id}")
    await door.get("/wp-admin")

    assert (count("/v1/orders/{order_id}", "404"), count("unmatched", "404")) == (before[0] + 1, before[1] + 1)
    assert str(order_id) not in (await door.http.get("/metrics")).text


async def test_every_status_is_documented(door: Door) -> None:
    document: dict[str, Any] = (await door.http.get("/openapi.json")).json()

    documented = {
        f"{method} {path}": set(operation["responses"])
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }
    assert document["openapi"].startswith("3.1")
    assert documented["post /v1/orders"] == {
        *("202", "400", "401", "403", "405", "408", "409", "413", "415", "422", "429", "431", "503")
    }
    assert documented["get /v1/orders"] == {"200", "400", "401", "403", "405", "422", "503"}
    assert documented["get /v1/orders/{order_id}"] == {"200", "304", "401", "403", "404", "405", "422", "503"}
    assert documented["get /v1/orders/{order_id}/events"] == {"200", "204", "401", "403", "404", "405", "503"}
    assert documented["get /v1/orders/{order_id}/timeline"] == {"200", "401", "403", "404", "405", "503"}
    assert documented["post /v1/orders/{order_id}/cancel"] == {"202", "401", "403", "404", "405", "429", "503"}
    assert documented["get /v1/catalog"] == {"200", "405", "422"}


async def test_the_body_and_the_key_are_documented(door: Door) -> None:
    document: dict[str, Any] = (await door.http.get("/openapi.json")).json()

    place = document["paths"]["/v1/orders"]["post"]
    assert place["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/NewOrder")
    assert [parameter["name"] for parameter in place["parameters"]] == ["idempotency-key"]
    assert place["security"] == [{"HTTPBearer": []}]
    assert "application/problem+json" in place["responses"]["422"]["content"]
    assert set(place["responses"]["202"]["headers"]) == {"Location", "Retry-After", "Idempotent-Replayed"}


async def test_waiting_and_following_are_documented(door: Door) -> None:
    document: dict[str, Any] = (await door.http.get("/openapi.json")).json()
    read, events = (document["paths"]["/v1/orders/{order_id}" + rest]["get"] for rest in ("", "/events"))

    (wait,) = (parameter for parameter in read["parameters"] if parameter["name"] == "wait")
    assert (wait["in"], wait["schema"]["minimum"], wait["schema"]["maximum"]) == ("query", 0, 10)
    assert list(events["responses"]["200"]["content"]) == ["text/event-stream"]
    assert "Last-Event-ID" in [parameter["name"] for parameter in events["parameters"]]


async def test_the_documentation_is_served(door: Door) -> None:
    assert (await door.http.get("/docs")).status_code == 200


async def test_a_body_that_never_ends_is_a_408() -> None:
    async def receive() -> Message:
        return await asyncio.Future[Message]()

    headers = [(b"content-type", b"application/json")]
    request = Request({"type": "http", "method": "POST", "path": "/", "headers": headers}, receive)

    with pytest.raises(Problem) as refused:
        await json_body(request, timeout_s=0.01)

    assert refused.value.kind.status == 408
