"""Token bucket: admit short bursts, bound the average rate.

Problem: one client in a loop takes the whole door.
Rule: tokens = min(capacity, tokens + rate * elapsed_s); a request takes one token or is refused. A bucket is stored as
one number, the moment at which it will be full again: tokens = capacity - (full_at - now) * rate.
Guarantee: in any w seconds at most capacity + rate * w requests of a key pass, over all replicas that share the Redis.
Limits: needs Redis, whose clock is the time; when it is away each process grants its share, rate / replicas (ADR 12).
Source: the meter of RFC 2697; the single number is that of GCRA, ITU-T I.371.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

# A function for scripts: 0 when a token was taken, else the microseconds until there is one.
TAKE_LUA = """
local function take(key, burst_us, token_us)
    local clock = redis.call('TIME')
    local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
    local full_at = math.max(now, tonumber(redis.call('GET', key) or 0)) + token_us
    local wait = full_at - now - burst_us
    if wait > 0 then return wait end
    redis.call('SET', key, string.format('%.0f', full_at), 'PX', math.ceil((full_at - now) / 1000) + 1)
    return 0
end
"""


@dataclass(frozen=True, slots=True)
class Limit:
    """`capacity` requests at once, and `rate` per second in the long run."""

    capacity: int
    rate: float

    @property
    def token_us(self) -> int:
        """Microseconds that bring one token, rounded up: the bound holds."""
        return math.ceil(1_000_000 / self.rate)

    @property
    def burst_us(self) -> int:
        """Microseconds that fill an empty bucket."""
        return self.capacity * self.token_us

    def share(self, replicas: int) -> "Limit":
        """What one of `replicas` may grant alone: at least one request at once."""
        return Limit(max(1, self.capacity // replicas), self.rate / replicas)


class LocalBuckets:
    """The same buckets in the memory of one process. `clock` counts seconds."""

    def __init__(self, limit: Limit, *, clock: Callable[[], float] = time.monotonic, remembered: int = 100_000) -> None:
        self._limit, self._clock, self._remembered = limit, clock, remembered
        self._full_at_us: dict[str, int] = {}

    def take(self, key: str) -> int:
        """0 when a token was taken, else the microseconds until there is one."""
        now = int(self._clock() * 1_000_000)
        full_at = max(now, self._full_at_us.get(key, 0)) + self._limit.token_us
        wait = full_at - now - self._limit.burst_us
        if wait > 0:
            return wait
        if len(self._full_at_us) >= self._remembered:
            self._forget(now)
        self._full_at_us[key] = full_at
        return 0

    def _forget(self, now: int) -> None:
        """A full bucket is as good as none. When all are in use, the memory is kept bounded and the limit is not."""
        self._full_at_us = {key: full_at for key, full_at in self._full_at_us.items() if full_at > now}
        if len(self._full_at_us) >= self._remembered:
            self._full_at_us.clear()
