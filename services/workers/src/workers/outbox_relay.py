"""outbox_relay: what was committed to the outboxes goes to Kafka, in order per key.

One loop per schema. A relay that finds no free shard stands by and takes over when another's session ends.
NOTIFY wakes the loop, a poll every 200 ms is the truth.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg  # pyright: ignore[reportMissingTypeStubs]
import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import NullPool

from common.outbox import SHARDS, OutboxReader
from common.postgres import create_engine
from common.resilience.backoff import full_jitter
from workers.resources import Resources

log = structlog.get_logger()

SCHEMAS = ("orders", "inventory", "payments")
POLL_INTERVAL_S = 0.2
LOCK_INTERVAL_S = 1.0


def build(resources: Resources) -> "OutboxRelay":
    url = resources.settings.database_url.get_secret_value()
    engine = create_engine(url, application_name="outbox_relay", poolclass=NullPool)
    return OutboxRelay(engine, {schema: OutboxReader(schema, resources.publisher) for schema in SCHEMAS})


class OutboxRelay:
    """`engine` must not pool: a session that ends gives its locks back, a pooled one would keep them."""

    def __init__(self, engine: AsyncEngine, readers: dict[str, OutboxReader]) -> None:
        self._engine, self._readers = engine, readers
        self._turned_at = dict.fromkeys(readers, time.monotonic())
        self._connected: set[str] = set()

    def alive(self) -> bool:
        return all(time.monotonic() - moment < 60 for moment in self._turned_at.values())

    def ready(self) -> bool:
        return len(self._connected) == len(self._readers)

    async def run(self, stop: asyncio.Event) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                for schema, reader in self._readers.items():
                    tasks.create_task(self._relay(schema, reader, stop))
        finally:
            await self._engine.dispose()

    async def _relay(self, schema: str, reader: OutboxReader, stop: asyncio.Event) -> None:
        failures = 0
        while not stop.is_set():
            try:
                async with self._session(schema) as (connection, wake):
                    self._connected.add(schema)
                    failures = 0
                    await self._relay_on(connection, wake, schema, reader, stop)
            except (SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
                self._connected.discard(schema)
                self._turned_at[schema] = time.monotonic()
                delay = full_jitter(failures, base_s=0.2, cap_s=5)
                failures += 1
                log.warning("relay_blocked", schema=schema, error=str(error), retry_in_s=round(delay, 2))
                await _wait(stop, delay)

    async def _relay_on(
        self, connection: AsyncConnection, wake: asyncio.Event, schema: str, reader: OutboxReader, stop: asyncio.Event
    ) -> None:
        mine: set[int] = set()
        locked_at = -LOCK_INTERVAL_S
        while not stop.is_set():
            self._turned_at[schema] = time.monotonic()
            if len(mine) < SHARDS and time.monotonic() - locked_at >= LOCK_INTERVAL_S:
                mine |= set(await reader.lock_shards(connection, [s for s in range(SHARDS) if s not in mine]))
                locked_at = time.monotonic()
            wake.clear()
            relayed = await reader.relay_batch(connection, sorted(mine)) if mine else 0
            if relayed <= 0:
                await _wait(wake, POLL_INTERVAL_S)

    @asynccontextmanager
    async def _session(self, schema: str) -> AsyncGenerator[tuple[AsyncConnection, asyncio.Event]]:
        """A session of our own (its advisory locks end with it), and an event that NOTIFY sets."""
        wake = asyncio.Event()

        def notified(_connection: Any, _pid: int, _channel: str, payload: str) -> None:
            if payload == schema:
                wake.set()

        async with self._engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            raw: Any = (await connection.get_raw_connection()).driver_connection
            await raw.add_listener("outbox", notified)
            yield connection, wake


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
