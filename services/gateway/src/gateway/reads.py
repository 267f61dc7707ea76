"""Reading one order: from the cache, or from the orders service, asked once for all who wait.

Rule: a hit is served as it is. Otherwise the orders service is asked, with our lease if we got one. Who meets somebody
else's lease asks the cache again 3 times in 60 ms, then takes the lease over. Reads of one order are done one by one,
and who comes while one is under way shares the next: what the one under way finds may be too old for him.
Guarantees: however many read one order at the same time, this process asks twice at most. Without the cache at most
20 questions are under way; who would wait longer than 50 ms for his turn gets 503.
Source: joined misses: golang.org/x/sync/singleflight, made safe for readers who may not go backwards.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from common.errors import InfrastructureError
from common.telemetry.metrics import CACHE_READS
from gateway.problems import OVERLOADED, Problem

WAIT_S = 0.02
WAITS = 3
Key = tuple[UUID, str]


@dataclass(frozen=True, slots=True)
class View:
    """An order as it is served: its version and JSON. `died_at`: its command is a dead letter, there is no JSON.
    `age_s`: it was so that many seconds ago, and nobody can say what it is now."""

    version: int
    body: bytes
    died_at: datetime | None = None
    age_s: int | None = None

    @property
    def rank(self) -> tuple[int, bool]:
        """Grows with each state that the order goes through: a dead letter comes after accepted, before placed."""
        return self.version, self.died_at is not None

    @property
    def tag(self) -> str:
        """The version, as clients know it."""
        return str(self.version) if self.died_at is None else f"{self.version}-dead-letter"

    @property
    def etag(self) -> str:
        return f'"{self.tag}"'


@dataclass(frozen=True, slots=True)
class Missing:
    """Not in the cache. `lease`: the right to fill it in; `wait`: somebody else has that right."""

    lease: str = ""
    wait: bool = False


class CachedViews(Protocol):
    async def get(self, order_id: UUID, customer_id: str, *, take_over: bool = False) -> View | Missing:
        """A customer's view. Raises InfrastructureError when the cache does not answer."""
        ...


class ViewReader(Protocol):
    async def view(self, order_id: UUID, customer_id: str, lease: str) -> View | None:
        """None for an order that is unknown or somebody else's. Raises InfrastructureError."""
        ...


class Reads:
    def __init__(self, views: CachedViews, orders: ViewReader, *, permits: int = 20, patience_s: float = 0.05) -> None:
        self._views, self._orders, self._patience_s = views, orders, patience_s
        self._permits = asyncio.Semaphore(permits)
        self._reading: dict[Key, asyncio.Task[None]] = {}
        self._next: dict[Key, asyncio.Future[View | None]] = {}
        self._tasks = asyncio.TaskGroup()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Reads live in the block, not in the requests: who leaves takes nobody with him."""
        async with self._tasks:
            yield

    async def read(self, order_id: UUID, customer_id: str) -> View | None:
        """None for an order that the orders service does not know. Raises InfrastructureError, or the problem 503."""
        key = (order_id, customer_id)
        if key not in self._next:
            self._next[key] = asyncio.get_running_loop().create_future()
        answer = self._next[key]
        if key not in self._reading:
            self._reading[key] = self._tasks.create_task(self._read_for_all(key))
        return await asyncio.shield(answer)

    async def _read_for_all(self, key: Key) -> None:
        try:
            while answer := self._next.pop(key, None):
                try:
                    answer.set_result(await self._read_once(key))
                except Exception as error:  # noqa: BLE001 - it is for the requests that wait, where it becomes a problem
                    answer.set_exception(error)
                    answer.exception()  # seen, also when everybody who waited has left
        finally:
            del self._reading[key]

    async def _read_once(self, key: Key) -> View | None:
        found = await self._look(key)
        if isinstance(found, View):
            CACHE_READS.labels("hit").inc()
            return found
        if found is None:
            CACHE_READS.labels("away").inc()
            return await self._ask_in_turn(key)
        CACHE_READS.labels("miss" if found.lease else "bypass").inc()
        return await self._orders.view(*key, found.lease)

    async def _look(self, key: Key) -> View | Missing | None:
        try:
            found = await self._views.get(*key)
            for turn in range(1, WAITS + 1):
                if isinstance(found, View) or not found.wait:
                    break
                await asyncio.sleep(WAIT_S)
                found = await self._views.get(*key, take_over=turn == WAITS)
            return found
        except InfrastructureError:
            return None

    async def _ask_in_turn(self, key: Key) -> View | None:
        try:
            async with asyncio.timeout(self._patience_s):
                await self._permits.acquire()
        except TimeoutError as error:
            raise Problem(OVERLOADED, headers={"Retry-After": "1"}) from error
        try:
            return await self._orders.view(*key, "")
        finally:
            self._permits.release()


def not_changed(if_none_match: str | None, etag: str) -> bool:
    """Whether the client has this version already (RFC 9110: weak comparison, a list, or a star)."""
    known = tags_of(if_none_match)
    return etag in known or known == ["*"]


def tags_of(if_none_match: str | None) -> list[str]:
    """The tags of the header, in quotes, without their weakness."""
    return [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")] if if_none_match else []
