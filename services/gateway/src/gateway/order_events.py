"""News of orders: who waits for one is woken by its next event.

Problem: a client that polls asks mostly in vain; one that is told must be told of every order by every gateway.
Rule: each gateway reads all of `orders.events`, in no consumer group, from the end. It looks at the record's key only,
the order id, and wakes who waits for it; nothing is decoded, and the news itself is read as every reader reads it.
Limits: a hint, not the truth. Nobody hears what was published while the broker was away, so who waits asks now and then
without being woken (gateway.following).
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from typing import Protocol
from uuid import UUID

import structlog

from common.errors import InfrastructureError
from common.records import Record
from common.resilience.backoff import full_jitter

log = structlog.get_logger()


class Reader(Protocol):
    async def run(self, stop: asyncio.Event) -> None:
        """Hand on what comes until `stop` is set. Raises InfrastructureError when the broker is away."""
        ...


class OrderEvents:
    """`closed`: nobody should wait any more, the process is about to end."""

    def __init__(self) -> None:
        self.closed = False
        self._waiting: defaultdict[bytes, set[asyncio.Event]] = defaultdict(set)

    def hear(self, records: Sequence[Record]) -> None:
        """Wake who waits for the orders of these records."""
        for record in records:
            if record.key in self._waiting:
                for heard in self._waiting[record.key]:
                    heard.set()

    @contextmanager
    def of(self, order_id: UUID) -> Generator[asyncio.Event]:
        """The event is set whenever there is news of the order; who waits clears it before reading the order again."""
        key, heard = str(order_id).encode(), asyncio.Event()
        self._waiting[key].add(heard)
        try:
            yield heard
        finally:
            self._waiting[key].discard(heard)
            if not self._waiting[key]:
                del self._waiting[key]

    def close(self) -> None:
        """Wake everybody for the last time."""
        self.closed = True
        for waiting in self._waiting.values():
            for heard in waiting:
                heard.set()

    async def listen(self, stop: asyncio.Event, open_reader: Callable[[], Reader]) -> None:
        """Hear events until `stop` is set; with a new reader, after a while, whenever one has failed."""
        failures = 0
        while not stop.is_set():
            try:
                await open_reader().run(stop)
            except InfrastructureError as error:
                delay = full_jitter(failures, base_s=0.5, cap_s=10)
                failures += 1
                log.warning("order_events_away", error=str(error), retry_in_s=round(delay, 2))
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), delay)
