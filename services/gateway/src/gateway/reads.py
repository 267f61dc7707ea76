"""Reading one order: from the cache, or from the orders service, asked once for all who wait.

Rule: a hit is served as it is. Otherwise the orders service is asked, with our lease if we got one. Who meets somebody
else's lease asks the cache again 3 times in 60 ms, then takes the lease over. Questions about one order go out
one at a time, and who comes while one is under way shares the next: the answer under way may be too old for him.
Guarantees: however many ask for one order at the same time, this process asks twice at most. Without the cache at most
20 questions are under way; who would wait longer than 50 ms for his turn gets 503.
Limits: after the cache did not answer it is left alone for a second.
Source: joined misses: golang.org/x/sync/singleflight, made safe for readers who may not go backwards.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from common.errors import InfrastructureError
from common.telemetry.metrics import CACHE_READS
from gateway.problems import OVERLOADED, Problem

WAIT_S = 0.02
WAITS = 3
LEAVE_ALONE_S = 1.0
Key = tuple[UUID, str]


@dataclass(frozen=True, slots=True)
class View:
    """An order as it is served: its version, and its JSON."""

    version: int
    body: bytes


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
        self._asked: dict[Key, asyncio.Task[None]] = {}
        self._next: dict[Key, _Question] = {}
        self._away_until = 0.0
        self._tasks = asyncio.TaskGroup()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Questions live in the block, not in the requests: who leaves takes nobody with him."""
        async with self._tasks:
            yield

    async def read(self, order_id: UUID, customer_id: str) -> View | None:
        """None for an order that the orders service does not know. Raises InfrastructureError, or the problem 503."""
        key = (order_id, customer_id)
        try:
            found = await self._look(key)
        except InfrastructureError:
            self._away_until = time.monotonic() + LEAVE_ALONE_S
            found = None
        if isinstance(found, View):
            CACHE_READS.labels("hit").inc()
            return found
        if found is None:
            CACHE_READS.labels("away").inc()
            return await self._ask(key, "", bounded=True)
        CACHE_READS.labels("miss" if found.lease else "bypass").inc()
        return await self._ask(key, found.lease, bounded=False)

    async def _look(self, key: Key) -> View | Missing | None:
        if time.monotonic() < self._away_until:
            return None
        found = await self._views.get(*key)
        for turn in range(1, WAITS + 1):
            if isinstance(found, View) or not found.wait:
                break
            await asyncio.sleep(WAIT_S)
            found = await self._views.get(*key, take_over=turn == WAITS)
        return found

    async def _ask(self, key: Key, lease: str, *, bounded: bool) -> View | None:
        question = self._next.setdefault(key, _Question(asyncio.get_running_loop().create_future()))
        question.lease = lease or question.lease
        question.bounded = question.bounded or bounded
        if key not in self._asked:
            self._asked[key] = self._tasks.create_task(self._ask_all(key))
        return await asyncio.shield(question.answer)

    async def _ask_all(self, key: Key) -> None:
        try:
            while question := self._next.pop(key, None):
                try:
                    question.answer.set_result(await self._ask_once(key, question))
                except Exception as error:  # noqa: BLE001 - it is for the requests that asked, where it becomes a problem
                    question.answer.set_exception(error)
                    question.answer.exception()  # seen, also when everybody who asked has left
        finally:
            del self._asked[key]

    async def _ask_once(self, key: Key, question: "_Question") -> View | None:
        if not question.bounded:
            return await self._orders.view(*key, question.lease)
        try:
            async with asyncio.timeout(self._patience_s):
                await self._permits.acquire()
        except TimeoutError as error:
            raise Problem(OVERLOADED, headers={"Retry-After": "1"}) from error
        try:
            return await self._orders.view(*key, question.lease)
        finally:
            self._permits.release()


@dataclass(slots=True)
class _Question:
    answer: "asyncio.Future[View | None]"
    lease: str = ""
    bounded: bool = False


def not_changed(if_none_match: str | None, etag: str) -> bool:
    """Whether the client has this version already (RFC 9110: weak comparison, a list, or a star)."""
    known = [tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(",")]
    return etag in known or known == ["*"]
