"""`make soak`: the embedded stack at half of what it can do, for MINUTES=30, and whether anything grows.

Rule: first the capacity is measured: as many orders as clients can place in a few seconds, over the time until the last
of them is final. Half of it then comes as orders, and as many reads, at a fixed rate. Every 5 s each process of ours is
looked at: resident memory, tasks on its event loop, sockets, open files. After a warm-up of 5 minutes a line is laid
through its memory, and the least count in the first third is compared with the least in the last: what comes and
goes with a request is no growth.
Limits: a warm-up of half the time when that is shorter than 10 minutes. Below 15 minutes the bounds are looser, because
allocator and caches are not settled yet: it finds a leak of a kilobyte per order, not one of twenty bytes; and no more
than 100 orders come a second, because a few seconds of burst overstate what a machine can do for minutes. The
servers and the provider's stand-in remember every order on purpose, and are not judged.
"""

import asyncio
import math
import os
import re
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import linear_regression, median
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import psutil
from rich.console import Console
from rich.table import Table
from sqlalchemy import text

from bench import machine
from bench.load import Answers, Requests, closed_loop, open_loop
from bench.servers import BenchError
from common.postgres import create_engine, transaction
from demo.tokens import Tokens, load_private_key
from local_stack.network import HOST
from local_stack.process import Process
from local_stack.stack import WORKERS, Stack, running_stack
from local_stack.supervisor import StackFailedError

MINUTES = float(os.environ.get("MINUTES", "30"))
WARM_UP_S = 60 * min(5.0, MINUTES / 2)
OURS = ("gateway-1", "orders", *WORKERS)
MIB = 1024 * 1024
CUSTOMERS, SKUS = 50, 100
CONNECTIONS = 32
MEASURE_S = 3.0
SAMPLE_S = 5.0
FINAL_WITHIN_S = 180
MOST_PER_S = math.inf if MINUTES >= 15 else 100.0  # orders
SLOPE_MB = 1.0 if MINUTES >= 15 else 50.0  # growth of memory in 10 minutes
DRIFT = 2 if MINUTES >= 15 else 10  # of a count, by chance: the shorter the time, the fewer moments without a request
COUNTS = ("tasks", "sockets", "files")


@dataclass(frozen=True, slots=True)
class Sample:
    """Of one process at one moment, in seconds since the load began."""

    at_s: float
    rss_mb: float
    tasks: int
    sockets: int
    files: int


async def soak() -> dict[str, Any]:
    results = machine.here() | {"minutes": MINUTES, "warm_up_s": WARM_UP_S}
    with TemporaryDirectory(prefix="headrace-soak-") as folder, ProcessPoolExecutor(1, get_context("spawn")) as pool:
        async with running_stack(Path(folder), catalog=_catalog(Path(folder))) as stack:
            door = _Door(stack, pool)
            capacity = await door.capacity()
            rate = min(capacity / 2, MOST_PER_S)
            results |= {"capacity_orders_per_s": round(capacity), "orders_per_s": round(rate)}
            print(f"{capacity:.0f} orders/s at most; now {rate:.0f} orders/s and as many reads", flush=True)
            samples: dict[str, list[Sample]] = defaultdict(list)
            watched = {name: psutil.Process(stack.processes[name].pid) for name in OURS}
            async with asyncio.TaskGroup() as tasks:
                loading = tasks.create_task(door.load(rate, 60 * MINUTES))
                await _sample(stack, watched, samples, 60 * MINUTES)
                answers = await loading
            restarts = sum(stack.processes[name].restarts for name in OURS)
    return results | verdict(samples, answers, restarts)


class _Door:
    """The gateway, seen by its clients."""

    def __init__(self, stack: Stack, pool: ProcessPoolExecutor) -> None:
        env = stack.env
        tokens = Tokens(
            load_private_key(Path(env["JWT_PRIVATE_KEY_FILE"])), issuer=env["JWT_ISSUER"], audience=env["JWT_AUDIENCE"]
        )
        self._bearers = [tokens.bearer(f"soak-{number}") for number in range(CUSTOMERS)]
        self._port, self._pool = int(env["GATEWAY_URL"].rpartition(":")[2]), pool
        self._engine = create_engine(env["DATABASE_URL"], application_name="soak", pool_size=1)

    async def capacity(self) -> float:
        """Orders per second, from the first one sent to the last one final."""
        heads = [self._place(number, "Idempotency-Key: ") for number in range(CUSTOMERS)]
        began = time.monotonic()
        answers = await self._run(closed_loop, self._port, Requests(heads, _tail(0)), 0, CONNECTIONS, MEASURE_S)
        accepted = answers.statuses[202]
        async with asyncio.timeout(FINAL_WITHIN_S):
            while True:
                final = await self._scalar("SELECT count(*) FROM orders.orders WHERE status = 'confirmed'")
                if final >= accepted:
                    return accepted / (time.monotonic() - began)
                await asyncio.sleep(0.25)

    async def load(self, rate: float, seconds: float) -> Answers:
        """So many orders a second, each followed by the read of an older one."""
        paths = await self._scalar("SELECT array_agg(customer_id || '/' || order_id) FROM orders.orders LIMIT 1")
        requests: list[bytes] = []
        for number, path in enumerate(paths[:5_000]):
            customer, _, order_id = path.partition("/")
            bearer = self._bearers[int(customer.removeprefix("soak-"))]
            read = f"GET /v1/orders/{order_id} HTTP/1.1\r\nHost: soak\r\nAuthorization: {bearer}\r\n\r\n"
            requests += [self._place(number) + _tail(number), read.encode()]
        try:
            return await self._run(open_loop, self._port, requests, 2 * rate, CONNECTIONS, seconds)
        finally:
            await self._engine.dispose()

    def _place(self, number: int, header: str = "X-Soak: 1") -> bytes:
        bearer = self._bearers[number % CUSTOMERS]
        return f"POST /v1/orders HTTP/1.1\r\nHost: soak\r\nAuthorization: {bearer}\r\n{header}".encode()

    async def _run(self, loop: Any, *arguments: Any) -> Answers:
        return await asyncio.get_running_loop().run_in_executor(self._pool, loop, *arguments)

    async def _scalar(self, sql: str) -> Any:
        async with transaction(self._engine) as connection:
            return (await connection.execute(text(sql))).scalar_one()


def _tail(number: int) -> bytes:
    body = f'{{"currency":"USD","lines":[{{"sku":"soak-{number % SKUS}","quantity":1}}]}}'
    return f"\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


def _catalog(folder: Path) -> Path:
    rows = [f"soak-{number},Sku {number},1000,USD,1000000000\n" for number in range(SKUS)]
    catalog = folder / "catalog.csv"
    catalog.write_text("sku,name,price_minor,currency,stock\n" + "".join(rows))
    return catalog


async def _sample(
    stack: Stack, watched: dict[str, psutil.Process], samples: dict[str, list[Sample]], seconds: float
) -> None:
    began = time.monotonic()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(5)) as http:
        for turn in range(1, int(seconds / SAMPLE_S) + 1):
            await asyncio.sleep(max(0.0, began + turn * SAMPLE_S - time.monotonic()))
            for name, process in watched.items():
                tasks = await _tasks(http, stack.processes[name])
                sockets = len(process.net_connections("inet"))
                at_s, rss_mb = time.monotonic() - began, process.memory_info().rss / MIB
                samples[name].append(Sample(at_s, rss_mb, tasks, sockets, process.num_fds() - sockets))


async def _tasks(http: aiohttp.ClientSession, process: Process) -> int:
    async with http.get(f"http://{HOST}:{process.spec.env['ADMIN_PORT']}/metrics") as response:
        found = re.search(r"^headrace_event_loop_tasks (\S+)$", await response.text(), re.MULTILINE)
    if found is None:
        raise BenchError(f"{process.spec.name} does not say how many tasks it has")
    return int(float(found[1]))


def verdict(samples: dict[str, list[Sample]], answers: Answers, restarts: int) -> dict[str, Any]:
    """The figures of each process after the warm-up, and which bound each of them breaks."""
    processes = {name: figures([s for s in of if s.at_s >= WARM_UP_S]) for name, of in samples.items()}
    broken = [f"{name}: {what}" for name, of in processes.items() for what in of["broken"]]
    failed = {str(status): n for status, n in answers.statuses.items() if status not in (200, 202)}
    if restarts:
        broken.append(f"{restarts} restarts")
    if failed.keys() - {"503"} or failed.get("503", 0) > 0.01 * answers.statuses.total():
        broken.append(f"answers: {failed}")
    return {
        "answers": {str(status): n for status, n in sorted(answers.statuses.items())},
        "p99_ms": round(answers.percentile_ms(99), 1),
        "bounds": {"mb_in_10_minutes": SLOPE_MB, "drift_of_counts": DRIFT},
        "processes": processes,
        "broken": broken,
    }


def figures(samples: Sequence[Sample]) -> dict[str, Any]:
    slope = linear_regression([s.at_s for s in samples], [s.rss_mb for s in samples]).slope * 600
    third = len(samples) // 3
    parts = samples[:third], samples[-third:]
    counts = {name: [min(getattr(s, name) for s in part) for part in parts] for name in COUNTS}
    broken = [name for name, (first, last) in counts.items() if abs(last - first) > DRIFT]
    if slope >= SLOPE_MB:
        broken.append("memory")
    memory = [round(median(s.rss_mb for s in part), 1) for part in parts]
    return {"mb_in_10_minutes": round(slope, 2), "rss_mb": memory, **counts, "broken": broken}


def show(results: dict[str, Any]) -> None:
    table = Table("process", "memory MB", "MB in 10 min", *COUNTS)
    for name, of in results["processes"].items():
        memory, *counts = (f"{first:g} → {last:g}" for first, last in (of[what] for what in ("rss_mb", *COUNTS)))
        table.add_row(name, memory, f"{of['mb_in_10_minutes']:.2f}", *counts)
    Console().print(table)
    print(f"answers {results['answers']}, p99 {results['p99_ms']} ms")
    bounds = results["bounds"]
    print(f"wanted: less than {bounds['mb_in_10_minutes']:g} MB in 10 minutes, counts that drift by at most {DRIFT}")
    print("BROKEN: " + "; ".join(results["broken"]) if results["broken"] else "Nothing grows.")


def main() -> None:
    try:
        results = asyncio.run(soak())
    except (BenchError, StackFailedError) as error:
        print(f"soak: {error}", file=sys.stderr)
        raise SystemExit(1) from error
    show(results)
    machine.save("soak", results)
    raise SystemExit(1 if results["broken"] else 0)


if __name__ == "__main__":
    main()
