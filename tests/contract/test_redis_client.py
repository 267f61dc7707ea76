"""The Redis client when Redis, or the way to it, breaks and comes back."""

# pyright: reportUnknownMemberType=false
# (redis-py types some commands loosely)

import asyncio
import os
import signal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from common.cache import RedisCache
from common.errors import InfrastructureError
from common.redis_client import create_redis
from eventually import eventually
from gateway.adapters.markers import RedisMarkers
from local_stack.network import free_ports
from local_stack.servers import redis_url, valkey
from local_stack.supervisor import supervised

CALLS = 20  # at a time: each on a connection of its own


async def test_after_a_restart_of_redis_no_call_meets_a_connection_of_before(tmp_path: Path) -> None:
    port = next(free_ports())
    async with supervised(tmp_path, [[valkey(port)]]) as supervisor, create_redis(redis_url(port)) as redis:
        await asyncio.gather(*(redis.ping() for _ in range(CALLS)))
        server = supervisor.processes["valkey"]
        os.kill(killed := server.pid or 0, signal.SIGKILL)
        await eventually(lambda: server.state == "running" and server.pid not in (None, killed), within=10)

        answers = await asyncio.gather(*(redis.ping() for _ in range(CALLS)), return_exceptions=True)

    assert answers == [True] * CALLS


class ResetBeforeTheFirstByte:
    """What redis-py lets through from uvloop when a connection is reset between connect and write."""

    async def evalsha(self, *_: Any) -> None:
        raise RuntimeError(
            "unable to perform operation on <TCPTransport closed=True reading=False>; the handler is closed"
        )

    mget = evalsha


async def test_a_connection_that_is_reset_before_it_is_used_is_a_dependency_that_is_away() -> None:
    redis: Any = ResetBeforeTheFirstByte()

    with pytest.raises(InfrastructureError):
        await RedisCache(redis).get("view")
    with pytest.raises(InfrastructureError):
        await RedisMarkers(redis).find(uuid4(), "alice")
