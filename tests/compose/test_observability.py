"""The profile `observability`: every process is scraped, and one trace leads through every topic."""

import asyncio
import json
import secrets
from collections import Counter
from typing import Any

import aiohttp
import pytest

from common.contracts.topics import Topic
from compose.stack import CANARY, ROOT, SECRETS, Compose
from demo.tokens import Tokens, load_private_key
from eventually import eventually

pytestmark = pytest.mark.timeout(400)
ENVIRONMENT = {
    "COMPOSE_PROFILES": "observability",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://jaeger:4318",
    "TRACE_SAMPLE_RATIO": "1",
    "GATEWAY_REPLICAS": "3",
    "HEADRACE_SECRETS": str(SECRETS),
}
EVENTS_OF_AN_ORDER = 4  # placed, reserved, authorized, confirmed


async def get(url: str, **parameters: str) -> dict[str, Any]:
    async with aiohttp.ClientSession() as session, session.get(url, params=parameters) as answer:
        return await answer.json() if answer.ok else {}


async def place_order(trace_id: str) -> None:
    key = load_private_key(ROOT / "deploy/compose/keys/private.pem")
    headers = {
        "Authorization": Tokens(key, issuer="headrace-dev", audience="headrace").bearer("traced"),
        "traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-01",
    }
    order = {"currency": "USD", "lines": [{"sku": "cd-1-1177", "quantity": 1}]}
    async with (
        aiohttp.ClientSession() as session,
        session.post("http://127.0.0.1:8000/v1/orders", json=order, headers=headers) as answer,
    ):
        assert answer.status == 202


async def test_prometheus_finds_and_scrapes_every_process(compose: Compose) -> None:
    async def up() -> bool:
        answer = await get("http://127.0.0.1:9090/api/v1/targets?state=active")
        targets = answer["data"]["activeTargets"]
        found = Counter(target["labels"]["service"] for target in targets if target["health"] == "up")
        assert found == {"gateway": 3, "orders": 1, "workers": 1}
        return True

    await eventually(up, within=30)


async def test_prometheus_understands_every_question_of_the_dashboard(compose: Compose) -> None:
    dashboard = json.loads((ROOT / "deploy/grafana/dashboards/headrace.json").read_text(encoding="utf-8"))
    for target in (target for panel in dashboard["panels"] for target in panel["targets"]):
        query = target["expr"].replace("$__rate_interval", "1m")
        answer = await get("http://127.0.0.1:9090/api/v1/query", query=query)
        assert answer.get("status") == "success", query


async def test_one_trace_leads_from_the_request_through_every_topic_to_the_last_event(compose: Compose) -> None:
    trace_id = secrets.token_hex(16)

    await place_order(trace_id)

    async def complete() -> bool:
        answer = await get(f"http://127.0.0.1:16686/api/traces/{trace_id}")
        spans = sorted(answer["data"][0]["spans"], key=lambda span: span["startTime"]) if answer else []
        names = [span["operationName"] for span in spans]
        assert names[:1] == ["POST /v1/orders"]
        assert {f"process {topic}" for topic in Topic if topic is not Topic.CATALOG_ITEMS} <= set(names), names
        assert names.count("process orders.events") == EVENTS_OF_AN_ORDER, names
        assert names[-1] == "process orders.events", names
        return True

    await eventually(complete, within=30)


async def test_no_secret_is_in_a_trace_that_tells_of_a_database_that_is_away(compose: Compose) -> None:
    async def traces() -> str:
        services = (await get("http://127.0.0.1:16686/api/services"))["data"]
        of_each = [await get("http://127.0.0.1:16686/api/traces", service=name, limit="500") for name in services]
        return json.dumps(of_each)

    async def told() -> bool:
        return "exception.message" in await traces()

    (postgres,) = compose.containers("postgres")
    compose.kill(postgres)
    try:
        await place_order(secrets.token_hex(16))
        await eventually(told, within=60)
    finally:
        compose.start(postgres)

    assert CANARY not in await traces()


async def test_the_alert_rules_pass_their_tests_and_the_configuration_is_valid(compose: Compose) -> None:
    for command in ("test rules /etc/headrace/alerts_test.yml", "check config /etc/headrace/prometheus.yml"):
        await asyncio.to_thread(compose.run, "exec", "-T", "prometheus", "promtool", *command.split())
