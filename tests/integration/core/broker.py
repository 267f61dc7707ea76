"""Looking into the broker from outside."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from builders import TRACEPARENT
from common.contracts.codec import MESSAGE_ID, to_record
from common.kafka.reader import TopicReader
from common.records import OutgoingRecord, Record


@dataclass(frozen=True)
class OwnBroker:
    """A broker that a test may freeze."""

    bootstrap_servers: str
    idempotence: bool
    freeze: Callable[[], None]
    thaw: Callable[[], None]


async def read_all(bootstrap_servers: str, topic: str) -> list[Record]:
    """Every record that stands in the topic now."""
    records: list[Record] = []
    reader = TopicReader(bootstrap_servers=bootstrap_servers, topic=topic, handle=records.extend, fetch_max_wait_ms=10)
    async with running(reader.run), asyncio.timeout(10):
        await reader.caught_up.wait()
    return records


@asynccontextmanager
async def running(run: Callable[[asyncio.Event], Awaitable[None]]) -> AsyncGenerator[None]:
    """`run(stop)` beside the block; told to stop, and awaited, at its end."""
    stop = asyncio.Event()

    async def whole_life() -> None:
        await run(stop)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(whole_life())
        try:
            yield
        finally:
            stop.set()


def outgoing(body: Any, message_id: UUID | None = None) -> OutgoingRecord:
    return to_record(body, message_id or uuid4(), TRACEPARENT)


def ids_of(records: Sequence[Record | OutgoingRecord]) -> list[str]:
    """That of a record without one is empty."""
    return [(dict(record.headers).get(MESSAGE_ID) or b"").decode() for record in records]
