"""Write-through cache: a reader of one key never sees its versions go backwards.

Problem: "write only what is newer" is not enough. A reader that fills an old value after an eviction, or a writer that
dies between database and cache, brings an old version back.
Rule: one hash per key, in one of three states: a value, a lease (somebody is reading the database), or writers under
way. A writer MARKs before BEGIN, which takes value and lease away, and PUBlishes after COMMIT. Only the holder of the
lease FILLs, and only as long as no writer came. With a writer under way readers go to the database and do not fill.
A reader that waited too long for a lease takes it over, so that the slow holder can no longer fill.
Of several writers the last one to publish sets the value, if no other has published a newer one; else it is dropped.
Guarantees: no read is older than one that ended before it began, also with evictions of values and leases, and with
writers killed at any line. Marking takes the old value away, so nothing old outlives a crash after COMMIT.
Limits: a writer must end within `MARKER_MS`. A marker lost (Redis restarted) while two writers are under way, or
a reader that cannot reach Redis while others can: a value that is at most its TTL old. No replicas may be read.
Source: leases: Nishtala et al., "Scaling Memcache at Facebook", 2013. The writer's marker is ours (ADR-0011).
"""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any, Protocol
from uuid import uuid4

from redis.asyncio import RedisCluster
from redis.exceptions import NoScriptError

from common.errors import InfrastructureError
from common.redis_client import NO_ANSWER, RedisClient

LEASE_MS = 3_000
MARKER_MS = 30_000  # longer than any transaction may take
COMPANION_S = 60


@dataclass(frozen=True, slots=True)
class Value:
    """What is cached under a key. `companion`: a key with the same hash tag that ends soon after this is published."""

    version: int
    payload: bytes
    ttl: timedelta
    companion: str = ""


NOTHING = Value(0, b"", timedelta(0))  # what a writer publishes that was rolled back: it is gone, and no value is set


@dataclass(frozen=True, slots=True)
class Hit:
    version: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Lease:
    """Read the database, then `fill` with this token."""

    token: str


class Miss(Enum):
    WAIT = "somebody else reads the database: ask again soon"
    BYPASS = "a writer is under way: read the database, do not fill"


class Cache(Protocol):
    """Every call raises InfrastructureError when the cache does not answer; what was asked may still be done."""

    async def get(self, key: str, *, take_over: bool = False) -> Hit | Lease | Miss:
        """`take_over`: the lease, if somebody else has it; to be used after some waiting."""
        ...

    async def fill(self, key: str, token: str, value: Value | None) -> None:
        """What the holder of the lease read; None: there is nothing. Without the lease nothing happens."""
        ...

    async def mark(self, keys: Sequence[str]) -> str:
        """Before BEGIN: a writer comes. Answers its name, for `publish`."""
        ...

    async def publish(self, writer: str, values: Mapping[str, Value]) -> None:
        """After COMMIT: the new values. With another name than `mark` gave, old values are dropped, none is set."""
        ...


class RedisCache:
    """On one server a batch is one call, on a cluster one per hash tag."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis

    async def get(self, key: str, *, take_over: bool = False) -> Hit | Lease | Miss:
        token = uuid4().hex
        match await self._run(_GET, [key], [token, int(take_over), LEASE_MS]):
            case [b"hit", version, payload]:
                return Hit(int(version), payload)
            case [b"lease"]:
                return Lease(token)
            case [b"wait"]:
                return Miss.WAIT
            case _:
                return Miss.BYPASS

    async def fill(self, key: str, token: str, value: Value | None) -> None:
        arguments = [0, b"", 0] if value is None else [value.version, value.payload, _ms(value)]
        await self._run(_FILL, [key], [token, *arguments])

    async def mark(self, keys: Sequence[str]) -> str:
        writer = uuid4().hex
        await self._run_by_tag(_MARK, {key: ([key], []) for key in keys}, [writer, MARKER_MS])
        return writer

    async def publish(self, writer: str, values: Mapping[str, Value]) -> None:
        calls = {
            key: ([key, value.companion or key], [value.version, value.payload, _ms(value)])
            for key, value in values.items()
        }
        await self._run_by_tag(_PUB, calls, [writer, COMPANION_S])

    async def _run_by_tag(self, script: "_Script", parts: Mapping[str, tuple[list[str], list[Any]]], head: Any) -> None:
        batches: dict[str, list[tuple[list[str], list[Any]]]] = {}
        for key, part in parts.items():
            batches.setdefault(_tag(key) if isinstance(self._redis, RedisCluster) else "", []).append(part)
        calls = (
            self._run(script, [k for keys, _ in batch for k in keys], [*head, *(a for _, args in batch for a in args)])
            for batch in batches.values()
        )
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def _run(self, script: "_Script", keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        client: Any = self._redis  # redis-py types scripts loosely
        try:
            try:
                return await client.evalsha(script.sha, len(keys), *keys, *arguments)
            except NoScriptError:  # a new or restarted node; EVAL also loads it there
                return await client.eval(script.source, len(keys), *keys, *arguments)
        except NO_ANSWER as error:
            raise InfrastructureError(f"Redis does not answer: {error!r}") from error


class _Script:
    def __init__(self, source: str) -> None:
        self.source, self.sha = source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()


def _tag(key: str) -> str:
    return key[key.find("{") : key.find("}")]


def _ms(value: Value) -> int:
    return int(value.ttl.total_seconds() * 1000)


# The fields of a hash: `v` version and `p` payload, or `l` the token of the lease, or for each writer `w:` and its name
# with the moment at which it counts as dead, and `n`, the newest version that a writer published beside others.
_GET = _Script("""
local found = redis.call('HMGET', KEYS[1], 'v', 'p', 'l')
if found[1] then return {'hit', found[1], found[2]} end
if found[3] then
    if ARGV[2] == '0' then return {'wait'} end
elseif redis.call('EXISTS', KEYS[1]) == 1 then return {'bypass'} end
redis.call('HSET', KEYS[1], 'l', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {'lease'}
""")

_FILL = _Script("""
if redis.call('HGET', KEYS[1], 'l') ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
if ARGV[2] == '0' then return 0 end
redis.call('HSET', KEYS[1], 'v', ARGV[2], 'p', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
""")

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

_MARK = _Script(f"""{_NOW}
for _, key in ipairs(KEYS) do
    redis.call('HDEL', key, 'v', 'p', 'l')
    redis.call('HSET', key, 'w:' .. ARGV[1], string.format('%.0f', now + ARGV[2]))
    redis.call('PEXPIRE', key, ARGV[2])
end
""")

_PUB = _Script(f"""{_NOW}
local function others(key)
    local fields, found, newest = redis.call('HGETALL', key), false, 0
    for i = 1, #fields, 2 do
        if string.sub(fields[i], 1, 2) == 'w:' and tonumber(fields[i + 1]) > now then found = true end
        if fields[i] == 'n' then newest = tonumber(fields[i + 1]) end
    end
    return found, newest
end
for i = 1, #KEYS / 2 do
    local key, companion, at = KEYS[2 * i - 1], KEYS[2 * i], 3 * i
    local version, payload, ttl = tonumber(ARGV[at]), ARGV[at + 1], ARGV[at + 2]
    local mine = redis.call('HDEL', key, 'w:' .. ARGV[1]) == 1
    local found, newest = others(key)
    if found then
        redis.call('HSET', key, 'n', math.max(newest, version))
    else
        redis.call('DEL', key)
        if mine and version >= newest and ttl ~= '0' then
            redis.call('HSET', key, 'v', version, 'p', payload)
            redis.call('PEXPIRE', key, ttl)
        end
    end
    if companion ~= key then redis.call('EXPIRE', companion, ARGV[2], 'LT') end
end
""")
