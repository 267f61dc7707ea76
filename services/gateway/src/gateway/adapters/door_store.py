"""Buckets, claims and markers in Redis: one script call before the publish of a batch, one after it.

A thousand replies would cost the client 30 ms, one costs it nothing. All keys of a customer carry one of 16 hash tags:
a single Redis gets a whole batch in one call, a cluster one call per tag. When Redis does not answer, or the breaker
leaves it alone, the door goes on with its share of the limit: the order's id keeps copies apart without any Redis.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# (redis-py types the replies of scripts loosely)

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from functools import lru_cache, partial
from hashlib import blake2b

import msgspec
from redis.asyncio import RedisCluster

from common.contracts.keys import accepted_key
from common.errors import InfrastructureError
from common.kafka.publisher import Outcome
from common.redis_client import NO_ANSWER, RedisClient, hash_tag
from common.resilience.through import Breaker, NoBreaker
from common.resilience.token_bucket import TAKE_LUA, Limit, LocalBuckets
from common.telemetry import metrics
from gateway.adapters.markers import LIFETIME, MarkerValue
from gateway.idempotency import ACCEPTED_KEPT, CLAIM_STANDS, Admission, Call, Verdict

AWAY = (*NO_ANSWER, InfrastructureError)
NO_BREAKER = NoBreaker()

_VERDICTS = (Verdict.NEW, Verdict.LIMITED, Verdict.IN_FLIGHT, Verdict.UNKNOWN, Verdict.REPLAYED, Verdict.CONFLICT)
_ACTIONS = {Outcome.ACKED: "a", Outcome.REFUSED: "r", Outcome.UNKNOWN: "u"}

# A claim is its state (p in flight, u unknown, a accepted), the fingerprint (64 characters) and whose attempt it is.
_ADMIT = (
    TAKE_LUA
    + """
local codes, answers = {p = 2, u = 3, a = 4}, {}
for i = 1, #KEYS / 2 do
    local bucket, claim_key = KEYS[2 * i - 1], KEYS[2 * i]
    local paid, fingerprint, attempt = ARGV[3 * i + 1], ARGV[3 * i + 2], ARGV[3 * i + 3]
    local code, wait = 0, 0
    if paid == '1' then wait = take(bucket, tonumber(ARGV[1]), tonumber(ARGV[2])) end
    if wait > 0 then
        code = 1
    elseif fingerprint ~= '' then
        local claim = redis.call('GET', claim_key)
        if not claim then
            redis.call('SET', claim_key, 'p' .. fingerprint .. attempt, 'PX', ARGV[3])
        elseif string.sub(claim, 2, 65) ~= fingerprint then
            code = 5
        else
            code = codes[string.sub(claim, 1, 1)]
        end
    end
    answers[2 * i - 1], answers[2 * i] = code, wait
end
return answers
"""
)
_SETTLE = """
for i = 1, #KEYS / 2 do
    local claim_key, marker_key = KEYS[2 * i - 1], KEYS[2 * i]
    local action, fingerprint, attempt, marker = unpack(ARGV, 4 * i, 4 * i + 3)
    if fingerprint ~= '' then
        local claim = redis.call('GET', claim_key)
        local mine = claim == 'p' .. fingerprint .. attempt
        if action == 'a' then
            if not claim or string.sub(claim, 1, 1) ~= 'a' then
                redis.call('SET', claim_key, 'a' .. fingerprint, 'PX', ARGV[2])
            end
        elseif mine and action == 'r' then
            redis.call('DEL', claim_key)
        elseif mine then
            redis.call('SET', claim_key, 'u' .. fingerprint .. attempt, 'PX', ARGV[1])
        end
    end
    if action == 'a' and marker ~= '' and not redis.call('SET', marker_key, marker, 'PX', ARGV[3], 'NX') then
        redis.call('PEXPIRE', marker_key, ARGV[3])  -- the moment of the first acceptance stays
    end
end
return 0
"""


class RedisDoorStore:
    """The DoorStore of gateway.idempotency."""

    def __init__(
        self,
        redis: RedisClient,
        limit: Limit,
        *,
        replicas: int = 1,
        on_marker_lost: Callable[[], None],
        breaker: Breaker = NO_BREAKER,
        claim_stands: timedelta = CLAIM_STANDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit, self._on_marker_lost, self._clock = limit, on_marker_lost, clock
        self._claim_ms = _ms(claim_stands)
        self._share = LocalBuckets(limit.share(replicas), clock=clock)
        self._admit, self._settle = redis.register_script(_ADMIT), redis.register_script(_SETTLE)  # type: ignore[arg-type]
        self._one_call = not isinstance(redis, RedisCluster)
        self._breaker = breaker

    def use_again(self) -> None:
        """Somebody heard from Redis: no need to leave it alone any longer."""
        self._breaker.close()

    async def admit(self, calls: Sequence[Call]) -> list[Admission]:
        if self._one_call:
            return await self._ask(calls)
        admissions: list[Admission] = [Admission(Verdict.NEW)] * len(calls)

        async def ask(indexes: list[int]) -> None:
            answers = await self._ask([calls[index] for index in indexes])
            for index, admission in zip(indexes, answers, strict=True):
                admissions[index] = admission

        await _together(ask(indexes) for indexes in self._groups(calls))
        return admissions

    async def settle(self, settled: Sequence[tuple[Call, Outcome]]) -> None:
        if self._one_call:
            await self._tell(settled)
            return

        async def tell(indexes: list[int]) -> None:
            await self._tell([settled[index] for index in indexes])

        await _together(tell(indexes) for indexes in self._groups([call for call, _ in settled]))

    async def _ask(self, calls: Sequence[Call]) -> list[Admission]:
        keys: list[str] = []
        args: list[str | int] = [self._limit.burst_us, self._limit.token_us, self._claim_ms]
        for call in calls:
            bucket = _bucket_key(call.customer_id)
            keys += [bucket, _claim_key(call) if call.fingerprint else bucket]
            args += [0 if call.free else 1, call.fingerprint, call.attempt]
        try:
            flat: list[int] = await self._breaker.call(partial(self._admit, keys=keys, args=args))  # type: ignore[arg-type]
            return [Admission(_VERDICTS[code], wait / 1e6) for code, wait in zip(flat[::2], flat[1::2], strict=True)]
        except AWAY:
            metrics.ADMITTED_WITHOUT_REDIS.inc(len(calls))
            return [self._alone(call) for call in calls]

    def _alone(self, call: Call) -> Admission:
        wait_us = 0 if call.free else self._share.take(call.customer_id)
        return Admission(Verdict.LIMITED, wait_us / 1e6) if wait_us else Admission(Verdict.NEW)

    async def _tell(self, settled: Sequence[tuple[Call, Outcome]]) -> None:
        keys: list[str] = []
        args: list[str | bytes | int] = [self._claim_ms, _ms(ACCEPTED_KEPT), _ms(LIFETIME)]
        for call, outcome in settled:
            keys += [_claim_key(call), accepted_key(call.order_id, call.customer_id)]
            args += [_ACTIONS[outcome], call.fingerprint, call.attempt, _marker_value(call)]
        try:
            await self._breaker.call(partial(self._settle, keys=keys, args=args))  # type: ignore[arg-type]
        except AWAY:
            self._count_lost(settled)

    def _count_lost(self, settled: Sequence[tuple[Call, Outcome]]) -> None:
        lost = sum(1 for call, outcome in settled if call.marker and outcome is Outcome.ACKED)
        if lost:
            metrics.MARKERS_LOST.inc(lost)
            self._on_marker_lost()

    def _groups(self, calls: Sequence[Call]) -> list[list[int]]:
        groups: dict[str, list[int]] = defaultdict(list)
        for index, call in enumerate(calls):
            groups[hash_tag(call.customer_id)].append(index)
        return list(groups.values())


async def _together(calls: "Iterable[object]") -> None:
    async with asyncio.TaskGroup() as tasks:
        for call in calls:
            tasks.create_task(call)  # type: ignore[arg-type]


def _marker_value(call: Call) -> bytes:
    if call.marker is None:
        return b""
    return msgspec.json.encode(MarkerValue(call.customer_id, call.marker.accepted_at, call.marker.fingerprint))


def _claim_key(call: Call) -> str:
    return f"claim:{hash_tag(call.customer_id)}:{call.order_id}"


@lru_cache(maxsize=65_536)
def _bucket_key(customer_id: str) -> str:
    """A hash, never raw input."""
    return f"bucket:{hash_tag(customer_id)}:{blake2b(customer_id.encode(), digest_size=16).hexdigest()}"


def _ms(duration: timedelta) -> int:
    return duration // timedelta(milliseconds=1)
