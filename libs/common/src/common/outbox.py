"""Outbox: a message leaves if and only if the change that caused it was committed.

Rule: messages are rows, inserted in the transaction of the change. A relay reads them in order of their id, publishes
them, waits for the acks and only then deletes the rows.
Guarantees: at least once, in order per key: a key lives in one shard, a shard has one relay (advisory lock), and the
aggregate's row is locked while its messages are written. A kill in between repeats at most one batch, same message ids.
Limits: polling a high-water mark (`id > last`) would skip rows that commit late; the relay takes whatever is there.
Source: Transactional Outbox and Polling Publisher, microservices.io.
"""

import zlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Identity,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Uuid,
    func,
    text,
)
from sqlalchemy.ext.asyncio import AsyncConnection
from uuid_utils.compat import uuid7

from common.contracts.codec import TOPIC_OF, Emitted, encode, headers_of, key_of
from common.kafka.publisher import Outcome, Publisher
from common.records import OutgoingRecord
from common.telemetry import metrics

SHARDS = 4


def outbox_table(metadata: MetaData, schema: str) -> Table:
    """The outbox of one schema, for its migrations."""
    return Table(
        "outbox",
        metadata,
        Column("id", BigInteger, Identity(always=True), primary_key=True),
        Column("shard", SmallInteger, nullable=False),
        Column("topic", String(64), nullable=False),
        Column("key", String(64), nullable=False),
        Column("message_id", Uuid, nullable=False),
        Column("traceparent", String(64)),
        Column("payload", LargeBinary, nullable=False),
        Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        schema=schema,
    )


class Outbox:
    """The writing side: called inside the transaction of the change."""

    def __init__(self, schema: str, new_id: Callable[[], UUID] = uuid7) -> None:
        self._new_id = new_id
        self._insert = text(
            f"INSERT INTO {schema}.outbox (shard, topic, key, message_id, traceparent, payload) "  # noqa: S608
            "SELECT shard, topic, key, message_id, traceparent, payload FROM unnest(CAST(:shards AS smallint[]), "
            "CAST(:topics AS text[]), CAST(:keys AS text[]), CAST(:ids AS uuid[]), CAST(:traces AS text[]), "
            "CAST(:payloads AS bytea[])) WITH ORDINALITY "
            "AS row (shard, topic, key, message_id, traceparent, payload, position) ORDER BY position"
        )
        self._notify = text("SELECT pg_notify('outbox', :schema)").bindparams(schema=schema)

    async def add(self, connection: AsyncConnection, emitted: Sequence[Emitted]) -> None:
        """Write the messages in their order, and wake the relay when the transaction commits."""
        if not emitted:
            return
        keys = [key_of(e.body) for e in emitted]
        await connection.execute(
            self._insert,
            {
                "shards": [zlib.crc32(key.encode()) % SHARDS for key in keys],
                "topics": [TOPIC_OF[type(e.body)].value for e in emitted],
                "keys": keys,
                "ids": [self._new_id() for _ in emitted],
                "traces": [e.traceparent for e in emitted],
                "payloads": [encode(e.body) for e in emitted],
            },
        )
        await connection.execute(self._notify)


class OutboxReader:
    """The relay's side of one schema. Not for two relays of one shard at a time: take its lock first."""

    def __init__(self, schema: str, publisher: Publisher, batch_size: int = 2_000) -> None:
        self._schema, self._publisher = schema, publisher
        self._lock = text("SELECT pg_try_advisory_lock(hashtext(:schema), :shard)").bindparams(schema=schema)
        self._select = text(
            "SELECT id, topic, key, message_id, traceparent, payload, created_at "  # noqa: S608
            f"FROM {schema}.outbox WHERE shard = ANY(CAST(:shards AS smallint[])) ORDER BY id LIMIT {batch_size}"
        )
        self._delete = text(f"DELETE FROM {schema}.outbox WHERE id = ANY(CAST(:ids AS bigint[]))")  # noqa: S608

    async def lock_shards(self, connection: AsyncConnection, shards: Sequence[int]) -> list[int]:
        """Those of `shards` that are now this session's; they stay so until its connection ends."""
        return [s for s in shards if (await connection.execute(self._lock, {"shard": s})).scalar_one()]

    async def relay_batch(self, connection: AsyncConnection, shards: Sequence[int]) -> int:
        """Publish one batch of these shards and delete what was acked; answer how many rows that was.

        Answers -1 when something was not acked: those rows stay, in order, for the next call.
        """
        rows: Sequence[Any] = (await connection.execute(self._select, {"shards": list(shards)})).all()
        if not rows:
            return 0
        metrics.OUTBOX_AGE.labels(self._schema).set((datetime.now(UTC) - rows[0].created_at).total_seconds())
        outcomes = await self._publisher.publish([_to_record(row) for row in rows])
        acked = [row.id for row, outcome in zip(rows, outcomes, strict=True) if outcome is Outcome.ACKED]
        if acked:
            await connection.execute(self._delete, {"ids": acked})
            metrics.OUTBOX_PUBLISHED.labels(self._schema).inc(len(acked))
        return len(acked) if len(acked) == len(rows) else -1


def _to_record(row: Any) -> OutgoingRecord:
    return OutgoingRecord(row.topic, row.key.encode(), row.payload, headers_of(row.message_id, row.traceparent))
