"""Redis for the request path: bounded calls, bounded connections, no retries; one server or a cluster.

Rule: `redis://` is one server, `redis+cluster://` any node of a cluster: one setting says where and what. A call ends
within `TIMEOUT_S` for each thing it may wait for. The client never retries: a retry would run a script twice, and takes
seconds that a request does not have.
Limits: an answer that is late is a RedisError, and what was asked may still have been done.
"""

# pyright: reportUnknownMemberType=false
# (redis-py types its constructors loosely)

import zlib
from functools import lru_cache

from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.maint_notifications import MaintNotificationsConfig

TIMEOUT_S = 0.25
CLUSTER = "redis+cluster://"
MAX_CONNECTIONS = 32  # one server: more callers wait for a free one
MAX_CONNECTIONS_PER_NODE = 1_024  # cluster: its pool refuses instead of waiting, so it must not be the limit

# What a call raises when Redis does not answer. RuntimeError is uvloop's, of a connection that was reset before the
# first byte was written; redis-py lets it through.
NO_ANSWER = (RedisError, OSError, RuntimeError)

RedisClient = Redis | RedisCluster
HASH_TAGS = tuple(f"{{{number}}}" for number in range(16))


def create_redis(url: str) -> RedisClient:
    """A client that connects on first use. Use it as a context manager, or `aclose()` it."""
    retry = Retry(NoBackoff(), 0)
    # Ours is no Redis Enterprise, and with "auto", the default, redis-py 8 hands out connections that the server has
    # closed meanwhile: after a restart of Redis each of them failed once.
    no_notifications = MaintNotificationsConfig(enabled=False)
    if url.startswith(CLUSTER):
        return RedisCluster.from_url(
            url.replace(CLUSTER, "redis://", 1),
            max_connections=MAX_CONNECTIONS_PER_NODE,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=retry,
            maint_notifications_config=no_notifications,
        )
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=MAX_CONNECTIONS,
        timeout=TIMEOUT_S,
        socket_timeout=TIMEOUT_S,
        socket_connect_timeout=TIMEOUT_S,
        retry=retry,
        maint_notifications_config=no_notifications,
    )
    return Redis.from_pool(pool)


@lru_cache(maxsize=65_536)
def hash_tag(owner: str) -> str:
    """One of HASH_TAGS: keys of one owner are on one node of a cluster, so that a script may touch several of them."""
    return HASH_TAGS[zlib.crc32(owner.encode()) % len(HASH_TAGS)]
