"""`make bench-read`: how long the cached read of an order takes through the gateway, at a fixed rate.

Rule: the rate does not depend on the answers, and a latency counts from the moment when its request was due. The whole
embedded stack runs; the orders are confirmed and in the cache before the first read counts.
"""

import asyncio
import os
import re
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import msgspec
from rich.console import Console
from rich.table import Table

from bench import machine
from bench.load import Answers, open_loop
from bench.servers import BenchError
from demo.catalog import write_catalog
from demo.cdnow import Purchase, read_purchases
from demo.client import Answer, OrdersClient, Result
from demo.run import ORDERS_FILE
from demo.tokens import Tokens, load_private_key
from local_stack.stack import Stack, running_stack
from local_stack.supervisor import StackFailedError

ORDERS = 400
RATE = 500.0
CONNECTIONS = 32
READ_S = float(os.environ.get("READ_S", "20"))
GOALS_MS = {"p50_ms": 1.0, "p99_ms": 3.0}
CONFIRMED_WITHIN_S = 60


async def measure() -> dict[str, Any]:
    results = machine.here() | {"rate_per_s": RATE, "seconds": READ_S, "orders": ORDERS}
    with TemporaryDirectory(prefix="headrace-bench-") as folder, ProcessPoolExecutor(1, get_context("spawn")) as pool:
        catalog = Path(folder) / "catalog.csv"
        write_catalog(ORDERS_FILE, catalog, limit=ORDERS, shortage=False)
        async with running_stack(Path(folder), catalog=catalog) as stack:
            requests = await _confirmed_orders(stack)
            port, loop = int(stack.env["GATEWAY_URL"].rpartition(":")[2]), asyncio.get_running_loop()
            await loop.run_in_executor(pool, open_loop, port, requests, RATE, CONNECTIONS, 2.0)  # warm up
            before = await _cache_reads(stack)
            answers = await loop.run_in_executor(pool, open_loop, port, requests, RATE, CONNECTIONS, READ_S)
            after = await _cache_reads(stack)
    return results | _figures(answers, {outcome: n - before.get(outcome, 0) for outcome, n in after.items()})


def _figures(answers: Answers, reads: dict[str, float]) -> dict[str, Any]:
    """Raises BenchError when anything but 200 was answered."""
    if set(answers.statuses) != {200}:
        raise BenchError(f"not only 200: {dict(answers.statuses)}")
    figures = {
        name: round(answers.percentile_ms(p), 3) for name, p in (("p50_ms", 50), ("p99_ms", 99), ("max_ms", 100))
    }
    return {
        **figures,
        "hit_share": round(reads.get("hit", 0) / max(1, sum(reads.values())), 4),
        "goals": [{"figure": name, "at_most": most, "met": figures[name] <= most} for name, most in GOALS_MS.items()],
    }


async def _confirmed_orders(stack: Stack) -> list[bytes]:
    """Place the orders and read each until it is confirmed; answers a ready-made GET for each."""
    env = stack.env
    key = load_private_key(Path(env["JWT_PRIVATE_KEY_FILE"]))
    tokens = Tokens(key, issuer=env["JWT_ISSUER"], audience=env["JWT_AUDIENCE"])
    async with (
        OrdersClient(env["GATEWAY_URL"], tokens, connections=CONNECTIONS) as client,
        aiohttp.ClientSession(env["GATEWAY_URL"]) as session,
        asyncio.timeout(CONFIRMED_WITHIN_S),
    ):
        return await asyncio.gather(
            *(_confirmed(client, session, tokens, purchase) for purchase in read_purchases(ORDERS_FILE, ORDERS))
        )


async def _confirmed(client: OrdersClient, session: aiohttp.ClientSession, tokens: Tokens, purchase: Purchase) -> bytes:
    answer, bearer = Answer(), tokens.bearer(purchase.customer_id)
    await client.place(purchase, answer)
    if answer.result is not Result.ACCEPTED:
        raise BenchError(f"an order was not accepted: {answer.detail}")
    path = f"/v1/orders/{answer.order_id}"
    while True:
        async with session.get(path, headers={"Authorization": bearer}) as response:
            if response.status == 200 and msgspec.json.decode(await response.read())["status"] == "confirmed":
                return f"GET {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: {bearer}\r\n\r\n".encode()
        await asyncio.sleep(0.25)


async def _cache_reads(stack: Stack) -> dict[str, float]:
    """The gateway's reads so far, by outcome."""
    async with aiohttp.ClientSession(stack.env["GATEWAY_URL"]) as session, session.get("/metrics") as response:
        text = await response.text()
    found = re.findall(r'^headrace_cache_reads_total\{outcome="(\w+)"\} (\S+)$', text, re.MULTILINE)
    return {outcome: float(value) for outcome, value in found}


def show(results: dict[str, Any]) -> None:
    console, table = Console(), Table("reads/s", "p50 ms", "p99 ms", "max ms", "from the cache")
    milliseconds = [f"{results[name]:.2f}" for name in ("p50_ms", "p99_ms", "max_ms")]
    table.add_row(f"{results['rate_per_s']:.0f}", *milliseconds, f"{results['hit_share']:.1%}")
    console.print(table)
    for goal in results["goals"]:
        verdict = "met" if goal["met"] else "MISSED"
        print(f"{goal['figure']} {results[goal['figure']]:.2f}; wanted at most {goal['at_most']}: {verdict}")


def main() -> None:
    try:
        results = asyncio.run(measure())
    except TimeoutError:
        sys.exit(f"the orders were not confirmed within {CONFIRMED_WITHIN_S} s")
    except (BenchError, StackFailedError) as error:
        sys.exit(str(error))
    machine.save("read", results)
    show(results)


if __name__ == "__main__":
    main()
