"""Recycling: a process that grows drains and ends by itself, before the kernel kills it in the middle of its work.

Rule: the soft limit is the setting, or 90 % of the memory limit of the process's cgroup (its container); without either
there is none. At 90 % of the soft limit the `stop` of the process is set, as by SIGTERM: it finishes its batch,
commits, exits 0, and whoever started it starts it anew.
Guarantee: recycled within one sample (1 s) of passing the threshold; the rest of the limit is room for the drain.
Limits: what is compared is this process's resident set; children of it (a process pool) must have limits of their own.
A process that already starts above the threshold is not recycled: it would never get to work. That is logged.
Source: gunicorn's `max_requests`, Apache's `MaxRequestsPerChild`; memory.max of cgroups v2, limit_in_bytes of v1.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

import psutil
import structlog

from common.telemetry.metrics import MEMORY_RECYCLES, MEMORY_SOFT_LIMIT

log = structlog.get_logger()

MIB = 1024 * 1024
SHARE_OF_CONTAINER = 0.9
RECYCLE_AT = 0.9
SAMPLE_INTERVAL_S = 1.0
CGROUP = Path("/sys/fs/cgroup")  # inside a container its own cgroup is mounted here
_LIMIT_FILES = ("memory.max", "memory/memory.limit_in_bytes")  # v2, v1
_NO_LIMIT = 1 << 60  # v1 says "none" by a huge number, v2 by the word max


def resident_bytes() -> int:
    return psutil.Process().memory_info().rss


def soft_limit(setting_mb: int | None, cgroup: Path = CGROUP) -> int | None:
    """In bytes; None when neither the setting nor the container says one."""
    if setting_mb is not None:
        return setting_mb * MIB
    container = _container_limit(cgroup)
    return None if container is None else int(container * SHARE_OF_CONTAINER)


async def recycle(
    stop: asyncio.Event,
    limit: int,
    *,
    resident: Callable[[], int] = resident_bytes,
    interval_s: float = SAMPLE_INTERVAL_S,
) -> None:
    """Watch until `stop` is set; set it when 90 % of `limit` bytes are resident."""
    MEMORY_SOFT_LIMIT.set(limit)
    threshold = int(limit * RECYCLE_AT)
    if resident() >= threshold:
        log.error("memory_soft_limit_too_low", **_figures(resident(), limit))
        return
    while not stop.is_set():
        try:
            async with asyncio.timeout(interval_s):
                await stop.wait()
        except TimeoutError:
            if (now := resident()) >= threshold:
                MEMORY_RECYCLES.inc()
                log.warning("memory_recycled", **_figures(now, limit))
                stop.set()


def _figures(resident: int, limit: int) -> dict[str, int]:
    threshold = int(limit * RECYCLE_AT)
    return {"resident_mb": resident // MIB, "recycle_at_mb": threshold // MIB, "soft_limit_mb": limit // MIB}


def _container_limit(cgroup: Path) -> int | None:
    for name in _LIMIT_FILES:
        try:
            said = (cgroup / name).read_text().strip()
        except OSError:  # the other version, no cgroups at all, not Linux
            continue
        limit = int(said) if said.isdecimal() else _NO_LIMIT
        return limit if limit < _NO_LIMIT else None
    return None
