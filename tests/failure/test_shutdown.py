"""Every process leaves with 0 within 25 s of SIGTERM, whatever its dependencies do meanwhile."""

import asyncio
import os
import signal
import socket
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import psutil
import pytest

from builders import migrate_settings, worker_environment
from common.kafka.publisher import Publisher
from common.postgres import create_engine
from common.shutdown import EXIT_WITHIN_S
from eventually import eventually
from gateway_process import gateway_environment, offer
from integration.core.broker import running
from local_stack import servers as local_servers
from local_stack.network import HOST, free_ports
from local_stack.servers import Addresses
from local_stack.supervisor import supervised
from unit.gateway.fakes import ONE_CD, bearer
from workers.catalog import import_catalog
from workers.main import WORKERS
from workers.migrate import migrate

CD = {"sku": "cd-1", "name": "A record", "price_minor": "1177", "currency": "USD", "stock": "100000"}


@dataclass(frozen=True, slots=True)
class Servers:
    """Broker, Postgres and Valkey of our own, and a collector that takes connections and never answers."""

    addresses: Addresses
    collector_url: str
    processes: list[psutil.Process]

    def freeze(self) -> None:
        for process in self._all():
            process.suspend()

    def thaw(self) -> None:
        for process in self._all():
            process.resume()

    def _all(self) -> list[psutil.Process]:
        """A backend of Postgres is a process of its own."""
        return [each for server in self.processes for each in (server, *server.children(recursive=True))]


@pytest.fixture
async def servers_to_freeze() -> AsyncIterator[Servers]:
    ports = free_ports()
    broker, database, redis = next(ports), next(ports), next(ports)
    addresses = Addresses(
        f"{HOST}:{broker}", False, local_servers.database_url(database), local_servers.redis_url(redis)
    )
    with TemporaryDirectory() as name, socket.create_server((HOST, 0)) as collector:
        folder, collector_url = Path(name), f"http://{HOST}:{collector.getsockname()[1]}"
        before = local_servers.initdb(folder)
        specs = [
            local_servers.postgres(folder, database),
            local_servers.valkey(redis),
            local_servers.broker(broker),
        ]
        async with supervised(folder, [before, specs]) as supervisor:
            processes = [psutil.Process(supervisor.processes[spec.name].pid) for spec in specs]
            servers = Servers(addresses, collector_url, processes)
            await fill(addresses)
            try:
                yield servers
            finally:
                servers.thaw()


async def fill(servers: Addresses) -> None:
    await migrate(migrate_settings(servers))
    engine = create_engine(servers.database_url, application_name="test")
    await import_catalog(engine, [CD])
    await engine.dispose()
    publisher = Publisher(servers.kafka_bootstrap_servers, idempotence=False)
    await publisher.start()
    await offer(publisher, CD["sku"])
    await publisher.stop()


@pytest.mark.timeout(150)
async def test_every_process_exits_0_within_25_s_with_broker_database_cache_and_collector_frozen(
    servers_to_freeze: Servers, tmp_path: Path
) -> None:
    async with every_kind(servers_to_freeze, tmp_path) as (processes, url), running(Clients(url).run):
        await eventually(lambda: an_order_is_confirmed(url), within=30)

        servers_to_freeze.freeze()
        seconds = await asyncio.gather(*(seconds_to_end(process) for process in processes.values()))

    took = dict(zip(processes, seconds, strict=True))
    assert {name: process.returncode for name, process in processes.items()} == dict.fromkeys(processes, 0)
    assert max(seconds) < EXIT_WITHIN_S, took


async def seconds_to_end(process: Process) -> float:
    told = time.monotonic()
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(2 * EXIT_WITHIN_S):
        await process.wait()
    return time.monotonic() - told


async def an_order_is_confirmed(url: str) -> bool:
    async with httpx.AsyncClient(base_url=url, timeout=5, trust_env=False, headers=bearer()) as http:
        answer = await http.get("/v1/orders", params={"status": "confirmed", "limit": 1})
        return answer.status_code == 200 and bool(answer.json()["orders"])


@asynccontextmanager
async def every_kind(servers: Servers, folder: Path) -> AsyncGenerator[tuple[dict[str, Process], str]]:
    """One process of each kind, and one with all workers, ready inside the block; and the gateway's address."""
    ports = free_ports()
    port, provider_port, grpc = next(ports), next(ports), f"{HOST}:{next(ports)}"
    worker = worker_environment(servers.addresses, 0) | {
        "WORKERS_PAYMENT_PROVIDER_URL": f"http://{HOST}:{provider_port}"
    }
    gateway = {"GATEWAY_PORT": str(port), "GATEWAY_DRAIN_S": "5", "GATEWAY_ORDERS_GRPC_TARGET": grpc}
    provider = {"PROVIDER_PORT": str(provider_port), "PROVIDER_LEDGER_FILE": str(folder / "ledger.jsonl")}
    table: dict[str, tuple[list[str], dict[str, str]]] = {
        "provider": (["payment_provider"], provider),
        "orders": (["orders.main"], worker | {"ORDERS_GRPC_LISTEN": grpc}),
        "gateway": (["gateway.main"], gateway_environment(servers.addresses, folder) | gateway),
        "all workers": (["workers.main", *WORKERS], worker),
        **{name: (["workers.main", name], worker) for name in WORKERS},
    }
    traced = {"OTEL_EXPORTER_OTLP_ENDPOINT": servers.collector_url, "TRACE_SAMPLE_RATIO": "1"}
    processes: dict[str, Process] = {}
    ready = [f"http://{HOST}:{provider_port}/readyz"]
    try:
        for name, (arguments, environment) in table.items():
            admin_port = next(ports)
            environment = os.environ | environment | traced | {"ADMIN_PORT": str(admin_port)}
            with (folder / f"{name}.log").open("wb") as log:
                processes[name] = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", *arguments, env=environment, stdout=log, stderr=log
                )
            if name != "provider":
                ready.append(f"http://{HOST}:{admin_port}/readyz")
        await eventually(lambda: all_answer_200(ready), within=60)
        yield processes, f"http://{HOST}:{port}"
    finally:
        for process in processes.values():
            if process.returncode is None:
                process.kill()
                await process.wait()


async def all_answer_200(urls: list[str]) -> bool:
    async with httpx.AsyncClient(timeout=5, trust_env=False) as http:
        answers = await asyncio.gather(*(http.get(url) for url in urls), return_exceptions=True)
    return all(isinstance(answer, httpx.Response) and answer.status_code == 200 for answer in answers)


class Clients:
    """Customers who place an order and look at its timeline, one after another, whatever they are answered."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def run(self, stop: asyncio.Event) -> None:
        async with (
            httpx.AsyncClient(base_url=self._url, timeout=20, trust_env=False, headers=bearer()) as http,
            asyncio.TaskGroup() as customers,
        ):
            for _ in range(10):
                customers.create_task(self._order(http, stop))

    async def _order(self, http: httpx.AsyncClient, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                answer = await http.post("/v1/orders", json=ONE_CD)
                await http.get(answer.headers.get("location", "/v1/orders") + "/timeline")
            except httpx.TransportError:  # the gateway has left
                return
