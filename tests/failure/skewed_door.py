"""A gateway's limiter in a process whose clocks are wrong: `python -m failure.skewed_door SECONDS_OFF REDIS_URL FOR_S`.

It says `ready`, waits for a line, asks for tokens for one customer as fast as it can, and prints what it got as JSON.
"""

# pyright: reportUnknownMemberType=false
# (redis-py types some commands loosely)

import sys
import time

OFF_S = float(sys.argv[1])


def shift_clocks() -> None:
    """Before anything else is imported that could keep a clock of its own."""
    for name in ("time", "monotonic", "perf_counter"):
        right, right_ns = getattr(time, name), getattr(time, f"{name}_ns")
        setattr(time, name, lambda right=right: right() + OFF_S)
        setattr(time, f"{name}_ns", lambda right_ns=right_ns: right_ns() + int(OFF_S * 1e9))


shift_clocks()

import asyncio  # noqa: E402
import json  # noqa: E402
from uuid import uuid4  # noqa: E402

from redis.asyncio import Redis  # noqa: E402

from common.resilience.token_bucket import Limit  # noqa: E402
from gateway.adapters.door_store import RedisDoorStore  # noqa: E402
from gateway.idempotency import Call, Verdict  # noqa: E402


async def take(url: str, for_s: float) -> None:
    """`outer` and `inner`: from before the first call to after the last, and between these two, by Redis' clock."""
    redis = Redis.from_url(url, socket_timeout=10)
    store = RedisDoorStore(redis, Limit(50, 100), replicas=4, on_marker_lost=lambda: None)
    calls = [Call("alice", uuid4(), "attempt")] * 5

    async def passed() -> int:
        return sum(admission.verdict is Verdict.NEW for admission in await store.admit(calls))

    async def redis_now() -> float:
        seconds, microseconds = await redis.time()
        return seconds + microseconds / 1e6

    begin = await redis_now()
    total = await passed()
    outer, inner = [begin], [await redis_now()]
    end = time.monotonic() + for_s
    while time.monotonic() < end:
        total += await passed()
        await asyncio.sleep(0.001)
    inner.append(await redis_now())
    total += await passed()
    outer.append(await redis_now())
    print(json.dumps({"passed": total, "outer": outer, "inner": inner, "clock": time.time()}), flush=True)
    await redis.aclose()


if __name__ == "__main__":
    print("ready", flush=True)
    sys.stdin.readline()
    asyncio.run(take(sys.argv[2], float(sys.argv[3])))
