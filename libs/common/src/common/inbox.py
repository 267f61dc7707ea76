"""Inbox: an effect happens once, however often its message arrives.

Rule: the message id is inserted in the same transaction as the effect; only ids that were new are applied.
Guarantee: for each (consumer, message id) the effect is committed exactly once.
Limits: rows must outlive the topics' retention and any replay; a purge older than that is safe.
Source: Idempotent Receiver, Hohpe and Woolf, *Enterprise Integration Patterns*; Helland, "Life beyond Distributed
Transactions", 2007.
"""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Column, DateTime, MetaData, String, Table, Uuid, func, text
from sqlalchemy.ext.asyncio import AsyncConnection

from common.contracts.codec import Message


def inbox_table(metadata: MetaData, schema: str) -> Table:
    """The inbox of one schema, for its migrations."""
    return Table(
        "inbox",
        metadata,
        Column("consumer", String(64), primary_key=True),
        Column("message_id", Uuid, primary_key=True),
        Column("received_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        schema=schema,
    )


class Inbox:
    def __init__(self, schema: str, consumer: str) -> None:
        self._consumer = consumer
        # ordered, so that two consumers with the same messages wait for each other and do not deadlock
        self._insert = text(
            f"INSERT INTO {schema}.inbox (consumer, message_id) "  # noqa: S608 - the schema is a constant of ours
            "SELECT :consumer, id FROM unnest(CAST(:ids AS uuid[])) AS id ORDER BY id "
            "ON CONFLICT DO NOTHING RETURNING message_id"
        )

        self._known = text(
            f"SELECT message_id FROM {schema}.inbox "  # noqa: S608 - the schema is a constant of ours
            "WHERE consumer = :consumer AND message_id = ANY(CAST(:ids AS uuid[]))"
        )

    async def only_new(self, connection: AsyncConnection, messages: Sequence[Message]) -> list[Message]:
        """Those never seen before, without remembering them: for work that must be done before the transaction."""
        by_id = {message.message_id: message for message in reversed(messages)}
        rows = await connection.execute(self._known, {"consumer": self._consumer, "ids": list(by_id)})
        known = set(rows.scalars())
        return [m for m in messages if m.message_id not in known and by_id[m.message_id] is m]

    async def take_new(self, connection: AsyncConnection, messages: Sequence[Message]) -> list[Message]:
        """Remember these messages; answer those never seen before, each once, in their order."""
        by_id: dict[UUID, Message] = {}
        for message in messages:
            by_id.setdefault(message.message_id, message)
        rows = await connection.execute(self._insert, {"consumer": self._consumer, "ids": list(by_id)})
        new = set(rows.scalars())
        return [message for message_id, message in by_id.items() if message_id in new]
