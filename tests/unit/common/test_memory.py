import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from common.memory import MIB, recycle, resident_bytes, soft_limit

LIMIT = 1_000 * MIB


async def recycled(*samples: int) -> tuple[bool, int]:
    """Whether `stop` is set when all `samples` (MiB) but the last are used up, and how many were taken."""
    stop, taken = asyncio.Event(), 0

    def resident() -> int:
        nonlocal taken
        taken += 1
        if taken == len(samples):
            watching.cancel()
        return samples[taken - 1] * MIB

    watching = asyncio.ensure_future(recycle(stop, LIMIT, resident=resident, interval_s=0.001))
    async with asyncio.timeout(5):
        await asyncio.wait({watching})
    return stop.is_set(), taken


async def test_at_90_percent_of_the_soft_limit_the_process_is_told_to_stop_and_the_log_says_why() -> None:
    with capture_logs() as logs:
        assert await recycled(100, 500, 899, 900, 0) == (True, 4)

    figures = {"resident_mb": 900, "recycle_at_mb": 900, "soft_limit_mb": 1_000}
    assert logs == [{"event": "memory_recycled", "log_level": "warning", **figures}]


async def test_below_it_nothing_happens() -> None:
    assert await recycled(100, 899, 899, 899) == (False, 4)


async def test_a_process_that_starts_above_it_works_on_and_says_so() -> None:
    with capture_logs() as logs:
        assert await recycled(950, 0) == (False, 2)

    assert [entry["event"] for entry in logs] == ["memory_soft_limit_too_low"]


async def test_it_ends_at_once_when_the_process_stops_for_another_reason() -> None:
    stop = asyncio.Event()

    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        tasks.create_task(recycle(stop, LIMIT, resident=lambda: 0, interval_s=3_600))
        stop.set()


def test_what_is_measured_is_this_process() -> None:
    before = resident_bytes()
    kept = b"x" * 50 * MIB

    assert before + 40 * MIB < resident_bytes() < before + 60 * MIB
    del kept


@pytest.mark.parametrize(
    ("name", "said", "limit"),
    [
        ("memory.max", "1048576000\n", 943_718_400),
        ("memory.max", "max\n", None),
        ("memory/memory.limit_in_bytes", "1048576000\n", 943_718_400),
        ("memory/memory.limit_in_bytes", "9223372036854771712\n", None),
        ("cgroup.procs", "1\n", None),
    ],
)
def test_the_container_says_the_limit_unless_the_setting_does(
    tmp_path: Path, name: str, said: str, limit: int | None
) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(said)

    assert soft_limit(None, tmp_path) == limit
    assert soft_limit(300, tmp_path) == 300 * MIB
