"""50 copies of one order over a real broker and a real Redis, which is there, away, or restarted empty."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from common.contracts.topics import Topic
from common.contracts.values import order_id_for
from common.kafka.publisher import Publisher
from common.telemetry.tracing import configure_tracing
from eventually import eventually
from gateway.main import build
from gateway.settings import GatewaySettings
from gateway_process import gateway_environment, offer
from integration.core.broker import read_all
from local_stack.network import free_ports
from local_stack.servers import Addresses, redis_url, valkey
from local_stack.supervisor import supervised
from unit.gateway.fakes import ONE_CD, bearer


@pytest.fixture(autouse=True)
def trace_ids() -> None:  # pyright: ignore[reportUnusedFunction]
    configure_tracing("gateway", None, 0.0)


@asynccontextmanager
async def open_gateway(environment: dict[str, str], redis_url: str) -> AsyncGenerator[httpx.AsyncClient]:
    values = {name.removeprefix("GATEWAY_").lower(): value for name, value in environment.items() if "GATEWAY_" in name}
    shared = {name: value for name, value in environment.items() if name.startswith("KAFKA_")}
    settings = GatewaySettings.model_validate({**values, **shared, "REDIS_URL": redis_url, "rate_burst": 500})
    async with build(settings, asyncio.Event()) as gateway:
        await eventually(gateway.ready, within=10)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(gateway.app), base_url="http://door") as http:
            yield http


async def fifty(http: httpx.AsyncClient, key: str) -> list[httpx.Response]:
    headers = {**bearer(), "Idempotency-Key": key}
    return await asyncio.gather(*(http.post("/v1/orders", json=ONE_CD, headers=headers) for _ in range(50)))


@pytest.mark.parametrize("redis", ["there", "stopped", "restarted empty"])
async def test_50_copies_are_one_order_with_one_answer(
    servers: Addresses, publisher: Publisher, tmp_path: Path, redis: str
) -> None:
    environment, port, key = gateway_environment(servers, tmp_path), next(free_ports()), f"row-{uuid4()}"
    await offer(publisher)
    async with AsyncExitStack() as stack, AsyncExitStack() as life:
        await life.enter_async_context(supervised(tmp_path, [[valkey(port)]]))
        http = await stack.enter_async_context(open_gateway(environment, redis_url(port)))
        answers = await fifty(http, key)
        if redis != "there":
            await life.aclose()
        if redis == "restarted empty":
            await life.enter_async_context(supervised(tmp_path, [[valkey(port)]]))
        answers += await fifty(http, key)

    order_id = str(order_id_for("alice", key))
    records = await read_all(servers.kafka_bootstrap_servers, Topic.ORDERS_COMMANDS)
    stored = [record for record in records if record.key == order_id.encode()]
    assert {answer.status_code for answer in answers} == {202}
    assert {answer.json()["order_id"] for answer in answers} == {order_id}
    assert {record.header("message-id") for record in stored} == {order_id.encode()}
    assert redis != "there" or len(stored) == 1
