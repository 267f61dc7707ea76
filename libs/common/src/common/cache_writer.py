"""The writer's side of the cache when the cache may be away: the log does not wait for it for long.

Rule: MARK impossible: try for as long as a value that may change lives in the cache (10 s), once per outage; then write
unmarked, and remember the keys. When the cache answers again, the remembered keys are dropped before the next mark.
Guarantees: a write never fails because of the cache. After an outage nothing older than the writes during it is served
for longer than the TTL.
Limits: at most `REMEMBERED` keys; older ones are forgotten, since their values have outlived their TTL.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import structlog

from common.cache import NOTHING, Cache, Value
from common.errors import InfrastructureError, PoisonError
from common.telemetry import metrics

log = structlog.get_logger()

REMEMBERED = 50_000
NOBODY = "unmarked"  # no writer has this name: publishing under it only drops what is old


@dataclass(slots=True)
class CacheWriter:
    cache: Cache
    patience_s: float = 10
    pause_s: float = 0.5  # between two tries of one outage
    _unmarked: dict[str, Value] = field(default_factory=dict[str, Value])
    _away: bool = False
    _next_try: float = 0

    @asynccontextmanager
    async def writing(self, keys: Sequence[str]) -> AsyncGenerator[dict[str, Value]]:
        """Around a transaction that writes `keys`. Put the new values of all of them into what it yields.

        When the block raises nothing is published: whether it was committed is open, and the marker says so to readers.
        Poison is not: it was refused and rolled back, so the marker is taken away.
        """
        writer = await self._mark(keys) if keys else NOBODY
        values: dict[str, Value] = {}
        try:
            yield values
        except PoisonError:
            await self._publish(writer, dict.fromkeys(keys, NOTHING))
            raise
        if values:
            await self._publish(writer, values)

    async def _mark(self, keys: Sequence[str]) -> str:
        deadline = time.monotonic() + self.patience_s
        while True:
            if not self._away or time.monotonic() >= self._next_try:
                try:
                    return await self._mark_now(keys)
                except InfrastructureError as error:
                    self._next_try = time.monotonic() + self.pause_s
                    log.warning("cache_away", error=str(error))
            if self._away or time.monotonic() >= deadline:
                self._away = True
                metrics.CACHE_UNMARKED.inc(len(keys))
                return NOBODY
            await asyncio.sleep(self.pause_s)

    async def _mark_now(self, keys: Sequence[str]) -> str:
        if self._unmarked:
            await self.cache.publish(NOBODY, self._unmarked)
            self._unmarked.clear()
        writer = await self.cache.mark(keys)
        self._away = False
        return writer

    async def _publish(self, writer: str, values: Mapping[str, Value]) -> None:
        try:
            if writer != NOBODY:
                await self.cache.publish(writer, values)
                return
        except InfrastructureError as error:
            log.warning("cache_not_published", count=len(values), error=str(error))
        self._unmarked.update(values)
        for key in list(self._unmarked)[:-REMEMBERED]:
            del self._unmarked[key]
