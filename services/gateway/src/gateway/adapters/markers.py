"""Accepted markers in Redis: written by `door_store` after the ack, read when Postgres does not know the order yet.

All keys of a customer carry one of 16 hash tags, so that on a cluster the markers of one tag are one call.
The client does not retry: a retry would take seconds that a request does not have.
"""

# pyright: reportUnknownMemberType=false
# (redis-py types the replies of scripts loosely)

import asyncio
import time
import zlib
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from common.errors import InfrastructureError
from gateway.idempotency import Marker

log = structlog.get_logger()

LIFETIME = timedelta(days=7)  # as long as the commands topic keeps its records
TIMEOUT_S = 0.25
EPOCH_INTERVAL_S = 1.0
TAGS = 16


class MarkerValue(msgspec.Struct):
    customer: str
    accepted_at: datetime
    fp: str = ""


class RedisMarkers:
    """The MarkerStore of gateway.accept, and since when its memory reaches back."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def find(self, order_id: UUID, customer_id: str) -> Marker | None:
        try:
            found = await self._redis.get(marker_key(order_id, customer_id))
        except (RedisError, OSError) as error:
            raise InfrastructureError(f"Redis does not answer: {error}") from error
        if found is None:
            return None
        value = msgspec.json.decode(found, type=MarkerValue)
        return Marker(order_id, customer_id, value.accepted_at, value.fp) if value.customer == customer_id else None

    async def epoch(self, customer_id: str) -> datetime | None:
        """Since when Redis remembers the markers of this customer; None when it cannot say."""
        try:
            found = await self._redis.get(f"epoch:{{{tag_of(customer_id)}}}")
        except (RedisError, OSError):
            return None
        return datetime.fromtimestamp(float(found), UTC) if found else None

    async def keep_epoch(self) -> None:
        """Until cancelled, write the time of its birth into a Redis that has none: it was started anew, and empty.

        Written late at worst, so that it never claims to remember more than it does."""
        while True:
            try:
                for tag in range(TAGS):
                    await self._redis.set(f"epoch:{{{tag}}}", f"{time.time():.6f}", nx=True)
            except (RedisError, OSError) as error:
                log.warning("epoch_not_kept", error=str(error))
            await asyncio.sleep(EPOCH_INTERVAL_S)


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


def marker_key(order_id: UUID, customer_id: str) -> str:
    return f"accepted:{{{tag_of(customer_id)}}}:{order_id}"


def tag_of(customer_id: str) -> int:
    """The hash tag that all keys of a customer carry."""
    return zlib.crc32(customer_id.encode()) % TAGS
