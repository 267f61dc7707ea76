"""Slow clients are cut off by nginx, and the others do not feel them."""

import asyncio
import statistics
import sys
import time
from pathlib import Path

import aiohttp
import pytest

from compose.slow_clients import HALF_A_HEADER, SLOW_BODY, seconds_until_closed
from compose.stack import ROOT, Compose
from demo.tokens import Tokens, load_private_key

pytestmark = pytest.mark.timeout(400)
CUT_OFF_S = 10
REQUESTS = 2_000


def bearer() -> bytes:
    key = load_private_key(ROOT / "deploy/compose/keys/private.pem")
    return Tokens(key, issuer="headrace-dev", audience="headrace").bearer("slow").encode()


@pytest.mark.parametrize(
    ("first", "every_second"),
    [(HALF_A_HEADER, b""), (HALF_A_HEADER, b"a"), (b"", b""), (b"G", b"E"), ("body", b""), ("body", b" ")],
    ids=["half a header", "header at 1 byte/s", "idle", "request line at 1 byte/s", "no body", "body at 1 byte/s"],
)
async def test_a_slow_client_is_cut_off_within_10_seconds(
    compose: Compose, first: bytes | str, every_second: bytes
) -> None:
    sent = first if isinstance(first, bytes) else SLOW_BODY % bearer()

    assert await seconds_until_closed(sent, every_second=every_second, within=2 * CUT_OFF_S) <= CUT_OFF_S


async def test_a_thousand_slow_clients_do_not_double_the_p99_of_the_others(compose: Compose) -> None:
    await p99_ms()  # warm
    quiet: list[float] = []
    attacked: list[float] = []
    for _ in range(3):
        quiet.append(await p99_ms())
        attackers = await asyncio.create_subprocess_exec(
            sys.executable, Path(__file__).with_name("slow_clients.py"), "1000", "60", stdout=asyncio.subprocess.PIPE
        )
        assert attackers.stdout is not None
        assert await attackers.stdout.readline() == b"open\n"
        attacked.append(await p99_ms())
        attackers.kill()
        await attackers.wait()

    print(f"p99 quiet {quiet} ms, with 1,000 slow clients {attacked} ms")
    assert statistics.median(attacked) <= 2 * statistics.median(quiet)


async def p99_ms(connections: int = 8) -> float:
    """Of requests that go through nginx to a gateway."""
    taken: list[float] = []
    async with aiohttp.ClientSession("http://127.0.0.1:8000") as session, asyncio.TaskGroup() as tasks:

        async def ask() -> None:
            for _ in range(REQUESTS // connections):
                started = time.perf_counter()
                async with session.get("/v1/catalog", params={"limit": 1}) as answer:
                    assert answer.status == 200
                    await answer.read()
                taken.append((time.perf_counter() - started) * 1_000)

        for _ in range(connections):
            tasks.create_task(ask())
    return statistics.quantiles(taken, n=100)[98]
