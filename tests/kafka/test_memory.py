"""A process that leaks drains and ends by itself, its supervisor starts it anew, and nothing is lost on the way."""

import asyncio
import json
import logging
import os
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from builders import worker_environment
from common.contracts.topics import Topic
from common.kafka.publisher import Publisher
from eventually import eventually
from gateway_process import gateway_environment, offer
from integration.core.broker import read_all, running
from kafka.load import Load, assert_nothing_is_lost_or_doubled
from local_stack.network import HOST, free_ports, listen
from local_stack.process import Process, Spec
from local_stack.readiness import http_ready
from local_stack.servers import Addresses
from local_stack.supervisor import supervised
from unit.gateway.fakes import ONE_CD, bearer

LEAKING = Path(__file__).parent / "leaking.py"
SOFT_LIMIT_MB = 200  # twice of what a process takes at its start
DOCUMENTED = json.loads((Path(__file__).parents[2] / "docs/openapi.json").read_text())["paths"]["/v1/orders"]["post"]


@asynccontextmanager
async def leaking(
    name: str, folder: Path, env: Mapping[str, str], inherits: tuple[int, ...] = ()
) -> AsyncGenerator[Process]:
    """Ready inside the block, under the supervisor of the embedded stack."""
    env = {**os.environ, **env, "MEMORY_SOFT_LIMIT_MB": str(SOFT_LIMIT_MB)}
    check = http_ready(f"http://{HOST}:{env['ADMIN_PORT']}/readyz")
    spec = Spec(name=name, argv=[sys.executable, str(LEAKING), name], env=env, check=check, inherits=inherits)
    async with supervised(folder, [[spec]]) as supervisor:
        yield supervisor.processes[name]


async def test_a_worker_that_leaks_recycles_itself_and_nothing_is_lost_or_doubled(
    servers: Addresses,
    engine: AsyncEngine,
    publisher: Publisher,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "local_stack")
    load = Load(publisher)
    async with leaking("order_writer", tmp_path, worker_environment(servers, next(free_ports()))) as worker:
        async with running(load.run):
            await eventually(lambda: worker.restarts >= 1, within=30)
            await load.goes_on(5, within=15)
        await assert_nothing_is_lost_or_doubled(engine, load, within=30)

    assert "memory_recycled" in worker.log.read_text()
    assert all("ended with exit code 0" in message for message in caplog.messages if "restart" in message)


async def test_a_gateway_that_leaks_recycles_itself_and_every_answer_is_documented_and_nothing_accepted_is_lost(
    servers: Addresses, publisher: Publisher, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "local_stack")
    await offer(publisher)
    port = next(free_ports())
    with listen(port) as door:
        own = {"GATEWAY_LISTEN_FD": str(door.fileno()), "GATEWAY_RATE_BURST": "10000"}
        env = gateway_environment(servers, tmp_path) | own
        async with leaking("gateway", tmp_path, env, (door.fileno(),)) as gateway:
            clients = Clients(f"http://{HOST}:{port}")
            async with running(clients.run):
                await eventually(lambda: gateway.restarts >= 2, within=45)
            records = await read_all(servers.kafka_bootstrap_servers, Topic.ORDERS_COMMANDS)

    assert "memory_recycled" in gateway.log.read_text()
    assert all("ended with exit code 0" in message for message in caplog.messages if "restart" in message)
    assert {str(status) for status in clients.statuses} <= DOCUMENTED["responses"].keys()
    assert clients.statuses[-10:] == [202] * 10
    assert clients.accepted <= {(record.key or b"").decode() for record in records}


class Clients:
    """Each places one order after another, each again and again with its key until it is accepted."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.statuses: list[int] = []
        self.accepted: set[str] = set()

    async def run(self, stop: asyncio.Event) -> None:
        async with (
            httpx.AsyncClient(base_url=self._url, timeout=20, trust_env=False) as http,
            asyncio.TaskGroup() as all_,
        ):
            for _ in range(10):
                all_.create_task(self._place(http, stop))

    async def _place(self, http: httpx.AsyncClient, stop: asyncio.Event) -> None:
        key = uuid4()
        while not stop.is_set():
            try:
                headers = {**bearer(), "Idempotency-Key": str(key)}
                answer = await http.post("/v1/orders", json=ONE_CD, headers=headers)
            except httpx.TransportError:  # no answer at all: an idle connection that was just closed
                continue
            self.statuses.append(answer.status_code)
            if answer.status_code == 202:
                self.accepted.add(answer.json()["order_id"])
                key = uuid4()
