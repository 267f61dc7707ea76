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

TIMEOUT_S = 0.25
CLUSTER = "redis+cluster://"
MAX_CONNECTIONS = 32  # one server: more callers wait for a free one
MAX_CONNECTIONS_PER_NODE = 1_024  # cluster: its pool refuses instead of waiting, so it must not be the limit

RedisClient = Redis | RedisCluster
HASH_TAGS = tuple(f"{{{number}}}" for number in range(16))


def create_redis(url: str) -> RedisClient:
    """A client that connects on first use. Use it as a context manager, or `aclose()` it."""
    retry = Retry(NoBackoff(), 0)
    if url.startswith(CLUSTER):
        return RedisCluster.from_url(
            url.replace(CLUSTER, "redis://", 1),
            max_connections=MAX_CONNECTIONS_PER_NODE,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=retry,
        )
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=MAX_CONNECTIONS,
        timeout=TIMEOUT_S,
        socket_timeout=TIMEOUT_S,
        socket_connect_timeout=TIMEOUT_S,
        retry=retry,
    )
    return Redis.from_pool(pool)


@lru_cache(maxsize=65_536)
def hash_tag(owner: str) -> str:
    """One of HASH_TAGS: keys of one owner are on one node of a cluster, so that a script may touch several of them."""
    return HASH_TAGS[zlib.crc32(owner.encode()) % len(HASH_TAGS)]
