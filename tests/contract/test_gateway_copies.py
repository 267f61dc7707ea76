"""50 copies of one order over a real broker and a real Redis, which is there, away, or restarted empty."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest

from common.contracts.topics import Topic
from common.contracts.values import order_id_for
from common.kafka.reader import TopicReader
from common.records import Record
from common.telemetry.tracing import configure_tracing
from contract.test_gateway_process import servers
from eventually import eventually
from gateway.main import build
from gateway.settings import GatewaySettings
from local_stack.servers import valkey
from local_stack.supervisor import supervised
from unit.gateway.fakes import ONE_CD, bearer


@pytest.fixture(autouse=True)
def trace_ids() -> None:  # pyright: ignore[reportUnusedFunction]
    configure_tracing("gateway", None, 0.0)


ORDER_ID = str(order_id_for("alice", "row-7"))


@asynccontextmanager
async def open_gateway(environment: dict[str, str], redis_url: str) -> AsyncGenerator[httpx.AsyncClient]:
    values = {name.removeprefix("GATEWAY_").lower(): value for name, value in environment.items() if "GATEWAY_" in name}
    shared = {name: value for name, value in environment.items() if name.startswith("KAFKA_")}
    settings = GatewaySettings.model_validate({**values, **shared, "REDIS_URL": redis_url, "rate_burst": 500})
    async with build(settings) as gateway:
        await eventually(gateway.ready, within=10)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(gateway.app), base_url="http://door") as http:
            yield http


async def fifty(http: httpx.AsyncClient) -> list[httpx.Response]:
    headers = {**bearer(), "Idempotency-Key": "row-7"}
    return await asyncio.gather(*(http.post("/v1/orders", json=ONE_CD, headers=headers) for _ in range(50)))


async def records(environment: dict[str, str]) -> list[Record]:
    found: list[Record] = []
    reader = TopicReader(
        bootstrap_servers=environment["KAFKA_BOOTSTRAP_SERVERS"],
        topic=Topic.ORDERS_COMMANDS,
        handle=found.extend,
        fetch_max_wait_ms=10,
    )
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(reader.run(stop))
        async with asyncio.timeout(10):
            await reader.caught_up.wait()
        stop.set()
    return found


@pytest.mark.parametrize("redis", ["there", "stopped", "restarted empty"])
async def test_50_copies_are_one_order_with_one_answer(tmp_path: Path, redis: str) -> None:
    async with AsyncExitStack() as stack:
        environment = await stack.enter_async_context(servers(tmp_path))
        port = int(environment["REDIS_URL"].split(":")[2].split("/")[0]) + 1
        url = f"redis://127.0.0.1:{port}/0"
        async with AsyncExitStack() as life:
            (tmp_path / "own").mkdir()
            await life.enter_async_context(supervised(tmp_path / "own", [[valkey(port)]]))
            http = await stack.enter_async_context(open_gateway(environment, url))
            answers = await fifty(http)
            if redis != "there":
                await life.aclose()
            if redis == "restarted empty":
                await life.enter_async_context(supervised(tmp_path / "own", [[valkey(port)]]))
            answers += await fifty(http)

        stored = await records(environment)

    assert {answer.status_code for answer in answers} == {202}
    assert {answer.json()["order_id"] for answer in answers} == {ORDER_ID}
    assert {record.header("message-id") for record in stored} == {ORDER_ID.encode()}
    assert redis != "there" or len(stored) == 1
