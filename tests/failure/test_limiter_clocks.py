"""The limit holds over gateways whose clocks are a minute apart: only Redis' clock counts.

LIMITER_S sets for how long they ask (3 seconds unless told).
"""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import Any

from contract.cache_servers import running_valkey

FOR_S = float(os.environ.get("LIMITER_S", "3"))
CAPACITY, RATE = 50, 100
CLOCKS_OFF_S = (-90, -30, 30, 90)
TESTS = Path(__file__).parents[1]


async def test_four_gateways_with_clocks_60_s_apart_let_exactly_the_limit_pass(tmp_path: Path) -> None:
    async with running_valkey(tmp_path) as redis:
        doors = [await skewed_door(off_s, redis) for off_s in CLOCKS_OFF_S]
        said = await asyncio.gather(*(answer(door) for door in doors))

    passed = sum(each["passed"] for each in said)
    outer = max(each["outer"][1] for each in said) - min(each["outer"][0] for each in said)
    inner = max(each["inner"][1] for each in said) - min(each["inner"][0] for each in said)
    clocks = sorted(each["clock"] for each in said)
    print(f"{passed} passed in {outer:.3f} s of Redis' clock: {passed / (CAPACITY + RATE * outer):.2%} of the limit")
    assert clocks[-1] - clocks[0] > 150
    assert passed <= CAPACITY + RATE * outer
    assert passed >= 0.98 * (CAPACITY + RATE * inner)


async def skewed_door(off_s: float, redis: str) -> Process:
    """Started, and ready to ask."""
    door = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "failure.skewed_door", str(off_s), redis, str(FOR_S)),
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        stdin=PIPE,
        stdout=PIPE,
    )
    assert door.stdout is not None
    assert await door.stdout.readline() == b"ready\n"
    return door


async def answer(door: Process) -> dict[str, Any]:
    stdout, _ = await door.communicate(b"go\n")
    assert door.returncode == 0
    return json.loads(stdout)
