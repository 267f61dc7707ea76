"""The gateway as a process while Redis is frozen: hardly anybody waits for it, and it is used again when it is back."""

# pyright: reportUnknownMemberType=false
# (redis-py types some commands loosely)

import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import uuid4

import httpx

from common.kafka.publisher import Publisher
from common.redis_client import TIMEOUT_S, create_redis
from contract.cache_servers import running_valkey
from contract.orders_server import HangingOrders, served
from eventually import eventually
from gateway_process import gateway_environment, offer, serving
from local_stack.servers import Addresses
from unit.gateway.fakes import ONE_CD, bearer

CALLS = 40


async def test_with_redis_frozen_reads_and_orders_do_not_wait_for_it_each_time(
    servers: Addresses, publisher: Publisher, tmp_path: Path
) -> None:
    await offer(publisher)
    async with (
        running_valkey(tmp_path) as redis_url,
        create_redis(redis_url) as redis,
        served(HangingOrders()) as target,
        serving(
            gateway_environment(servers, tmp_path) | {"REDIS_URL": redis_url, "GATEWAY_ORDERS_GRPC_TARGET": target}
        ) as (_, url),
        httpx.AsyncClient(base_url=url, timeout=30, trust_env=False, headers=bearer()) as http,
    ):
        assert (await http.post("/v1/orders", json=ONE_CD)).status_code == 202
        pid = int((await redis.info("server"))["process_id"])
        os.kill(pid, signal.SIGSTOP)
        try:
            ordering_s = await one_after_the_other(lambda: http.post("/v1/orders", json=ONE_CD), 202)
            reading_s = await one_after_the_other(lambda: http.get(f"/v1/orders/{uuid4()}"), 200)
        finally:
            os.kill(pid, signal.SIGCONT)

        # each order would wait twice, for its token and for its marker, and each read once: half of that
        assert ordering_s < CALLS * TIMEOUT_S
        assert reading_s < CALLS * TIMEOUT_S / 2
        await eventually(lambda: all_closed(http), within=10)
        placed = await http.post("/v1/orders", json=ONE_CD, headers={"Idempotency-Key": "a"})
        again = await http.post("/v1/orders", json=ONE_CD, headers={"Idempotency-Key": "a"})
        assert (placed.status_code, again.headers["idempotent-replayed"]) == (202, "true")


async def one_after_the_other(call: Callable[[], Awaitable[httpx.Response]], status: int) -> float:
    """Seconds for all of them."""
    started = time.monotonic()
    for _ in range(CALLS):
        assert (await call()).status_code == status
    return time.monotonic() - started


async def all_closed(http: httpx.AsyncClient) -> bool:
    await http.get(f"/v1/orders/{uuid4()}")  # somebody must ask before a breaker can learn
    await http.post("/v1/orders", json=ONE_CD)
    metrics = (await http.get("/metrics")).text
    return all(f'headrace_breaker_state{{breaker="{name}"}} 0.0' in metrics for name in ("redis_views", "redis_door"))
