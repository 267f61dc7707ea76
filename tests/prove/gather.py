"""Gathers evidence from a running stack, in the order that makes it sound: see evidence.py."""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# (asyncpg carries no types; we hand out our own)

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from common.contracts.topics import dead_letter_topic
from common.errors import InfrastructureError
from common.kafka.progress import GroupProgress
from demo import database
from demo.books import FINAL
from demo.read_books import read_ledger
from tests.prove.calls import CallLog
from tests.prove.evidence import GROUPS, HEARD_BY_SAGA, TOPICS, Entry, Evidence, Place, Unproven
from tests.prove.log_tail import LogTail
from tests.prove.stack import Addresses

SCHEMA_OF = {"order_writer": "orders", "saga_runner": "orders", "inventory": "inventory", "payments": "payments"}
OUTBOXES = " + ".join(f"(SELECT count(*) FROM {schema}.outbox)" for schema in ("orders", "inventory", "payments"))
Committed = dict[tuple[str, Place], int]


class Gatherer:
    """`lag`: records that the groups had not committed at the last look."""

    def __init__(self, where: Addresses, calls: CallLog, tail: LogTail, db: database.Database, pool: Any) -> None:
        self._where, self._calls, self._tail, self._db, self._pool = where, calls, tail, db, pool
        self._proven: Committed = {}
        self.lag = 0

    @classmethod
    @asynccontextmanager
    async def on(cls, where: Addresses, calls: CallLog, tail: LogTail) -> "AsyncGenerator[Gatherer]":
        pool: Any = asyncpg.create_pool(where.database_url, min_size=0, max_size=1, timeout=4, command_timeout=20)
        async with database.connect(where.database_url) as db:
            await pool
            try:
                yield cls(where, calls, tail, db, pool)
            finally:
                pool.terminate()

    async def gather(self, *, within_s: float = 5.0) -> Evidence:
        """What holds at any time. Raises InfrastructureError when a store does not answer in time."""
        try:
            async with asyncio.timeout(within_s):
                return await self._gather(self._tail, final=False)
        except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise InfrastructureError(f"no look at the books: {error!r}") from error

    async def gather_all(self) -> Evidence:
        """Everything, with the log read anew from its beginning."""
        self._proven.clear()
        topics = [*TOPICS, *map(dead_letter_topic, TOPICS)]
        async with LogTail.reading(self._where, topics, self._calls.now) as tail:
            evidence = await self._gather(tail, final=True)
            evidence.dead_letters = tail.dead_letters
        async with self._pool.acquire() as connection:
            evidence.outbox_rows = await connection.fetchval(f"SELECT {OUTBOXES}")
        return evidence

    async def not_final(self, order_ids: Sequence[str]) -> dict[str, str]:
        """Those orders that are not final, and their state. Raises InfrastructureError."""
        try:
            rows = await self._pool.fetch(database.STATUSES, order_ids)
        except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise InfrastructureError(f"Postgres: {error!r}") from error
        states: dict[str, str] = dict(rows)
        found = {order_id: states.get(order_id, database.NOT_STORED) for order_id in order_ids}
        return {order_id: state for order_id, state in found.items() if state not in FINAL}

    async def _gather(self, tail: LogTail, *, final: bool) -> Evidence:
        committed = await self._committed()
        promises = list(self._calls.exchanges)  # an answer that comes from now on is none of them
        orders, stock = await self._db.read_books()
        ledger = await read_ledger(self._where.payment_provider_url)
        ends = await tail.ends()
        await tail.caught_up(ends, within_s=60 if final else 5)
        self.lag = sum(ends[place] - offset for (_, place), offset in committed.items())
        fresh, unproven = await self._unproven(tail.entries, committed)
        return Evidence(
            final=final,
            attempts=list(self._calls.exchanges),
            promises=promises,
            entries=list(tail.entries),
            orders=orders,
            stock=stock,
            ledger=ledger,
            committed=fresh,
            unproven=unproven,
        )

    async def _committed(self) -> Committed:
        asked = [(group, topic) for group, topics in GROUPS.items() for topic in topics]
        found = await asyncio.gather(
            *(GroupProgress(self._where.kafka_bootstrap_servers, *each).committed() for each in asked)
        )
        return {
            (group, (topic, partition)): offset
            for (group, topic), offsets in zip(asked, found, strict=True)
            for partition, offset in offsets.items()
        }

    async def _unproven(self, entries: Sequence[Entry], committed: Committed) -> tuple[int, list[Unproven]]:
        """How many records were committed since the last look, and which of them are not in the inbox."""
        of_group: dict[str, list[Entry]] = defaultdict(list)
        for entry in entries:
            for group, topics in GROUPS.items():
                key = (group, (entry.topic, entry.partition))
                if group == "saga_runner" and entry.kind not in HEARD_BY_SAGA:
                    continue
                if entry.topic in topics and self._proven.get(key, 0) <= entry.offset < committed[key]:
                    of_group[group].append(entry)
        unproven: list[Unproven] = []
        for group, fresh in of_group.items():
            rows = await self._pool.fetch(
                f"SELECT message_id::text FROM {SCHEMA_OF[group]}.inbox "
                "WHERE consumer = $1 AND message_id = ANY($2::uuid[])",
                group,
                [entry.message_id for entry in fresh if entry.message_id],
            )
            known = {message_id for (message_id,) in rows}
            unproven += [Unproven(group, entry) for entry in fresh if entry.message_id not in known]
        self._proven = committed
        return sum(map(len, of_group.values())), unproven
