"""The gateway as a process, on a real broker and cache: how it starts, serves, and leaves."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from uuid import UUID

import httpx

from common.kafka.publisher import Publisher
from gateway_process import gateway_environment, offer, serving
from local_stack.network import HOST
from local_stack.servers import Addresses
from unit.gateway.fakes import ONE_CD, bearer

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


async def test_every_missing_setting_is_named_and_the_exit_code_is_2() -> None:
    environment = {"PATH": os.defpath}
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "gateway.main", env=environment, stderr=PIPE)

    _, stderr = await process.communicate()

    assert process.returncode == 2
    assert {line.split()[1].rstrip(":") for line in stderr.decode().splitlines()} == REQUIRED


def _json() -> dict[str, str]:
    return {"content-type": "application/json", **bearer()}
