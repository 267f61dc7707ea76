"""Three times what a gateway can do: it sheds at once, keeps its word to who is accepted, and is soon as before.

The short form of `make bench-overload`, which measures how much of the capacity is left. OVERLOAD_S sets for how long
(3 seconds unless told).
"""

import asyncio
import os
import re
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import psutil

from bench.flood import flood
from bench.load import Requests, closed_loop
from common.contracts.topics import Topic
from common.kafka.publisher import Publisher
from eventually import eventually
from gateway_process import gateway_environment, offer, serving
from integration.core.broker import read_all
from local_stack.network import HOST
from local_stack.servers import Addresses
from unit.gateway.fakes import bearer

OVERLOAD_S = float(os.environ.get("OVERLOAD_S", "3"))
CONNECTIONS, CUSTOMERS, GROWTH_MB = 1_000, 400, 100
BODY = b'{"currency":"USD","lines":[{"sku":"cd-1","quantity":1}]}'


@dataclass
class Watched:
    """What was seen of the gateway meanwhile: the answers of its probes, and its memory."""

    statuses: Counter[int] = field(default_factory=Counter[int])
    rss: list[int] = field(default_factory=list[int])


async def test_three_times_the_capacity_is_shed_and_nobody_is_lied_to(
    servers: Addresses, publisher: Publisher, tmp_path: Path
) -> None:
    environment, us = gateway_environment(servers, tmp_path), f"flood-{uuid4().hex[:8]}"
    await offer(publisher)
    async with (
        serving(environment) as (process, url),
        httpx.AsyncClient(base_url=url, timeout=20, trust_env=False) as http,
    ):
        probes = ["/livez", "/readyz", "/metrics", f"http://{HOST}:{environment['ADMIN_PORT']}/readyz"]
        await http.get("/readyz")  # the socket holds it until the gateway serves
        port, requests = urlsplit(url).port or 0, orders_of(us)
        below = await asyncio.to_thread(closed_loop, port, requests, 0, 64, 2.0)
        capacity = below.statuses.total() / below.seconds

        async with watching(http, probes, process.pid) as watched:
            above = await asyncio.to_thread(flood, port, requests, 1_000_000, 3 * capacity, CONNECTIONS, OVERLOAD_S)
        afterwards = Counter[int]()

        async def accepts_everything() -> bool:
            first = 2_000_000 + afterwards.total()
            calm = await asyncio.to_thread(flood, port, requests, first, capacity / 4, 100, 0.5)
            afterwards.update(calm.status)
            return set(calm.status) == {202}

        await eventually(accepts_everything, within=10)
        shed = await shed_so_far(http)

    answers = Counter(above.status)
    assert set(below.statuses) == {202}
    assert set(answers) == {202, 503}
    assert (above.unanswered, above.refused_without_retry_after) == (0, 0)
    assert set(watched.statuses) == {200}
    assert max(watched.rss) - watched.rss[0] < GROWTH_MB * 2**20

    said = below.statuses + answers + afterwards

    async def every_accepted_order_is_in_the_log() -> bool:
        records = await read_all(servers.kafka_bootstrap_servers, Topic.ORDERS_COMMANDS)
        keys = {record.key for record in records if us.encode() in (record.value or b"")}
        assert said[202] <= len(keys) <= said.total() - shed  # what was shed was surely not written
        return True

    await eventually(every_accepted_order_is_in_the_log, within=20)


def orders_of(prefix: str) -> Requests:
    """Of many customers, so that nobody is over his rate, each under a key of its own."""
    head = (
        f"POST /v1/orders HTTP/1.1\r\nHost: door\r\nContent-Type: application/json\r\nContent-Length: {len(BODY)}\r\n"
    )
    tokens = [bearer(f"{prefix}-{n}")["Authorization"] for n in range(CUSTOMERS)]
    heads = [f"{head}Authorization: {token}\r\nIdempotency-Key: ".encode() for token in tokens]
    return Requests(heads, b"\r\n\r\n" + BODY)


@asynccontextmanager
async def watching(http: httpx.AsyncClient, probes: list[str], pid: int) -> AsyncGenerator[Watched]:
    watched, process = Watched(rss=[psutil.Process(pid).memory_info().rss]), psutil.Process(pid)

    async def watch() -> None:
        while True:
            for probe in probes:
                watched.statuses[(await http.get(probe)).status_code] += 1
            watched.rss.append(process.memory_info().rss)
            await asyncio.sleep(0.1)

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(watch())
        yield watched
        task.cancel()


async def shed_so_far(http: httpx.AsyncClient) -> int:
    found = re.search(r'^headrace_requests_shed_total\{reason="full"\} (\S+)$', (await http.get("/metrics")).text, re.M)
    return int(float(found[1])) if found else 0
