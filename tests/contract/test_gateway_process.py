"""The gateway as a process, on a real broker and cache: how it starts, serves, and leaves."""

# pyright: reportUnknownMemberType=false
# (the generated stubs carry no types for the service class)

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter
from typing import Any
from uuid import UUID, uuid4

import grpc
import grpc.aio
import httpx
from aiokafka import AIOKafkaConsumer, TopicPartition  # pyright: ignore[reportMissingTypeStubs]

from common.contracts import orders_pb2 as pb
from common.contracts import orders_pb2_grpc
from common.contracts.topics import ORDER_WRITER, Topic
from common.kafka.publisher import Publisher
from eventually import eventually
from gateway.web_server import FINISH_REQUESTS_S
from gateway_process import gateway_environment, offer, serving
from local_stack.network import HOST
from local_stack.servers import Addresses
from unit.gateway.fakes import ONE_CD, bearer

PLACED = '{"status":"placed"}'
REQUIRED = {"GATEWAY_ORDERS_GRPC_TARGET", "KAFKA_BOOTSTRAP_SERVERS", "REDIS_URL"}


async def test_it_serves_on_an_inherited_socket_and_exits_0_on_sigterm(
    servers: Addresses, publisher: Publisher, tmp_path: Path
) -> None:
    environment = gateway_environment(servers, tmp_path)
    await offer(publisher)
    async with serving(environment) as (process, url):
        async with httpx.AsyncClient(base_url=url, timeout=30, trust_env=False) as http:
            # the listening socket holds the request until the gateway is ready to take it
            placed = await http.post("/v1/orders", json=ONE_CD, headers=bearer())
            read = await http.get(placed.headers["location"], headers=bearer())
            ready = await http.get("/readyz")
            huge = await http.post("/v1/orders", content=b" " * 20_000_000, headers=_json())
            admin = await http.get(f"http://{HOST}:{environment['ADMIN_PORT']}/readyz")

        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(25):
            code = await process.wait()

    assert placed.status_code == 202
    assert UUID(placed.json()["order_id"])
    assert read.status_code == 503  # there is no orders service in this test, so nobody can say
    assert (ready.status_code, admin.status_code) == (200, 200)
    assert huge.status_code == 413
    assert huge.headers["content-type"] == "application/problem+json"
    assert code == 0


async def test_streams_and_waits_end_at_sigterm_and_the_process_exits_0_at_once(
    servers: Addresses, publisher: Publisher, tmp_path: Path
) -> None:
    order_id, environment = uuid4(), gateway_environment(servers, tmp_path)
    await offer(publisher)
    async with (
        orders_with(order_id) as target,
        serving({**environment, "GATEWAY_ORDERS_GRPC_TARGET": target}) as (process, url),
        httpx.AsyncClient(base_url=url, timeout=30, trust_env=False, headers=bearer()) as http,
    ):
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(http.get(f"/v1/orders/{order_id}?wait=10"))
            async with http.stream("GET", f"/v1/orders/{order_id}/events") as stream:
                lines = stream.aiter_lines()
                first = await anext(lines)
                await eventually(lambda: followers(http, "wait"), within=5)

                process.send_signal(signal.SIGTERM)
                stopped = perf_counter()
                rest = [line async for line in lines]  # raises if the stream is cut off
        async with asyncio.timeout(25):
            code = await process.wait()

    assert (stream.status_code, first, rest) == (200, "id: 1", ["event: placed", f"data: {PLACED}", ""])
    assert (waiting.result().status_code, waiting.result().text) == (200, PLACED)
    assert code == 0
    assert perf_counter() - stopped < FINISH_REQUESTS_S


async def followers(http: httpx.AsyncClient, kind: str) -> bool:
    """Whether somebody follows an order in this way."""
    return f'headrace_followers{{kind="{kind}"}} 1.0' in (await http.get("/metrics")).text


async def test_orders_are_refused_while_those_accepted_before_are_not_written_and_reads_are_not(
    servers: Addresses, publisher: Publisher, tmp_path: Path
) -> None:
    await offer(publisher)
    environment = gateway_environment(servers, tmp_path) | {"GATEWAY_SHED_LAG_S": "0.5"}
    async with (
        serving(environment) as (_, url),
        httpx.AsyncClient(base_url=url, timeout=30, trust_env=False, headers=bearer()) as http,
    ):
        await order_writer_has_written_all(servers)

        async def answered(status: int) -> bool:
            answers.append(await http.post("/v1/orders", json=ONE_CD))
            return answers[-1].status_code == status

        answers: list[httpx.Response] = []
        await eventually(lambda: answered(202), within=10)
        await eventually(lambda: answered(503), within=10)
        catalog, ready = await http.get("/v1/catalog"), await http.get("/readyz")
        metrics = (await http.get("/metrics")).text
        refused = answers[-1]
        await order_writer_has_written_all(servers)
        await eventually(lambda: answered(202), within=10)

    assert refused.json()["type"] == "urn:problem:lagging"
    assert 10 <= int(refused.headers["retry-after"]) <= 30
    assert (catalog.status_code, ready.status_code) == (200, 200)
    assert 'headrace_requests_shed_total{reason="lag"}' in metrics
    assert float(re.findall(r"^headrace_unwritten_age_seconds (.+)$", metrics, re.MULTILINE)[0]) > 0.5


async def order_writer_has_written_all(servers: Addresses) -> None:
    """Its group has committed everything that stands in the log."""
    consumer: Any = AIOKafkaConsumer(
        bootstrap_servers=servers.kafka_bootstrap_servers, group_id=ORDER_WRITER, enable_auto_commit=False
    )
    await consumer.start()
    try:
        partitions = [TopicPartition(Topic.ORDERS_COMMANDS, number) for number in range(6)]
        consumer.assign(partitions)
        await consumer.commit(await consumer.end_offsets(partitions))
    finally:
        await consumer.stop()


async def test_every_missing_setting_is_named_and_the_exit_code_is_2() -> None:
    environment = {"PATH": os.defpath}
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "gateway.main", env=environment, stderr=PIPE)

    _, stderr = await process.communicate()

    assert process.returncode == 2
    assert {line.split()[1].rstrip(":") for line in stderr.decode().splitlines()} == REQUIRED


@asynccontextmanager
async def orders_with(order_id: UUID) -> AsyncGenerator[str]:
    """An orders service that knows one order, which never changes; yields its address."""

    class Orders(orders_pb2_grpc.OrdersServicer):
        async def GetOrder(self, request: pb.GetOrderRequest, context: object) -> pb.GetOrderReply:  # noqa: N802
            assert request.order_id == str(order_id)
            return pb.GetOrderReply(version=1, view=PLACED.encode())

    server = grpc.aio.server()
    orders_pb2_grpc.add_OrdersServicer_to_server(Orders(), server)
    port = server.add_insecure_port(f"{HOST}:0")
    await server.start()
    try:
        yield f"{HOST}:{port}"
    finally:
        await server.stop(grace=0)


def _json() -> dict[str, str]:
    return {"content-type": "application/json", **bearer()}
