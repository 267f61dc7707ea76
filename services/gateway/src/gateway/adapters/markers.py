"""Accepted markers in Redis: written after the ack, read when Postgres does not know the order yet.

All keys of a customer carry one of 16 hash tags, so that on a cluster the markers of one tag are one call.
The client does not retry: a retry would take seconds that a request does not have.
"""

# pyright: reportUnknownMemberType=false
# (redis-py types the replies of scripts loosely)

import zlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import msgspec
import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from common.errors import InfrastructureError
from common.telemetry import metrics
from gateway.accept import Marker

log = structlog.get_logger()

LIFETIME = timedelta(days=7)  # as long as the commands topic keeps its records
TIMEOUT_S = 0.25

# One call for all markers of a flush: a thousand replies would cost the client 30 ms, one costs it nothing.
_REMEMBER = """
for i, key in ipairs(KEYS) do redis.call('SET', key, ARGV[i + 1], 'EX', ARGV[1]) end
return #KEYS
"""


class _Value(msgspec.Struct):
    customer: str
    accepted_at: datetime


class RedisMarkers:
    """The MarkerStore of gateway.accept."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._remember = redis.register_script(_REMEMBER)

    async def remember(self, markers: Sequence[Marker]) -> None:
        keys = [_key(marker.order_id, marker.customer_id) for marker in markers]
        values = [msgspec.json.encode(_Value(marker.customer_id, marker.accepted_at)) for marker in markers]
        try:
            await self._remember(keys=keys, args=[int(LIFETIME.total_seconds()), *values])
        except (RedisError, OSError) as error:
            metrics.MARKERS_LOST.inc(len(markers))
            log.warning("markers_lost", count=len(markers), error=str(error))

    async def find(self, order_id: UUID, customer_id: str) -> Marker | None:
        try:
            found = await self._redis.get(_key(order_id, customer_id))
        except (RedisError, OSError) as error:
            raise InfrastructureError(f"Redis does not answer: {error}") from error
        if found is None:
            return None
        value = msgspec.json.decode(found, type=_Value)
        return Marker(order_id, customer_id, value.accepted_at) if value.customer == customer_id else None


def create_redis(url: str) -> Redis:
    """A client for the request path: bounded calls, bounded connections, no retries. `aclose()` it."""
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=32,
        timeout=TIMEOUT_S,
        socket_timeout=TIMEOUT_S,
        socket_connect_timeout=TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
    )
    return Redis.from_pool(pool)


def _key(order_id: UUID, customer_id: str) -> str:
    return f"accepted:{{{zlib.crc32(customer_id.encode()) % 16}}}:{order_id}"
