"""A process started by way of skewed_clock.py tells the time that we set, from the outside, while it runs."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.prove.skewed_clock import ON_TIME, set_clock

TELLS_THE_TIME = """
import sys, time
from datetime import UTC, datetime
import msgspec, jwt
class Moment(msgspec.Struct):
    at: datetime
began = time.monotonic()
for _ in sys.stdin:
    now = msgspec.json.decode(msgspec.json.encode(Moment(datetime.now(UTC))), type=Moment).at  # as any datetime
    print(time.time(), time.time_ns() / 1e9, now.timestamp(), time.monotonic() - began, flush=True)
"""


class Teller:
    def __init__(self, process: asyncio.subprocess.Process, clock: Path) -> None:
        self._process, self.clock = process, clock

    async def times(self) -> list[float]:
        """time.time, time.time_ns, datetime.now, and time.monotonic since it began."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(b"\n")
        line = await asyncio.wait_for(self._process.stdout.readline(), 20)
        return [float(word) for word in line.split()]


@pytest.fixture
async def teller(tmp_path: Path) -> AsyncIterator[Teller]:
    (tmp_path / "teller.py").write_text(TELLS_THE_TIME)
    (clock := tmp_path / "clock").write_bytes(ON_TIME)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.prove.skewed_clock", "teller"),
        env={
            **os.environ,
            "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}",
            "PROVE_CLOCK_FILE": str(clock),
        },
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    yield Teller(process, clock)
    process.kill()
    await process.wait()
    assert process.stdin
    process.stdin.close()


async def test_the_clock_jumps_and_jumps_back_and_monotonic_time_does_not(teller: Teller) -> None:
    before = await teller.times()
    set_clock(teller.clock, -45.0)
    during = await teller.times()
    set_clock(teller.clock, 0.0)
    after = await teller.times()

    assert all(back < early - 30 for back, early in zip(during[:3], before[:3], strict=True))
    assert all(late >= early for late, early in zip(after, before, strict=True))
    assert before[3] <= during[3] <= after[3]
