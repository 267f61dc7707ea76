"""Looking into the database from outside."""

from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from common.contracts.codec import Message, decode, headers_of
from common.postgres import transaction
from common.records import Record


async def rows(engine: AsyncEngine, sql: str, **parameters: Any) -> list[Any]:
    async with transaction(engine) as connection:
        return list((await connection.execute(text(sql), parameters)).all())


async def value(engine: AsyncEngine, sql: str, **parameters: Any) -> Any:
    return (await rows(engine, sql, **parameters))[0][0]


async def execute(engine: AsyncEngine, sql: str, **parameters: Any) -> None:
    async with transaction(engine) as connection:
        await connection.execute(text(sql), parameters)


async def sent(engine: AsyncEngine, schema: str) -> list[Message]:
    """What stands in the outbox of `schema`, oldest first."""
    found = await rows(engine, f"SELECT * FROM {schema}.outbox ORDER BY id")
    return [
        decode(Record(r.topic, 0, r.id, 0, r.key.encode(), r.payload, headers_of(r.message_id, None))) for r in found
    ]


async def sent_bodies(engine: AsyncEngine, schema: str) -> list[Any]:
    return [message.body for message in await sent(engine, schema)]


async def waits_for_a_lock(engine: AsyncEngine, application_name: str) -> bool:
    sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = :name AND wait_event_type = 'Lock'"
    return await value(engine, sql, name=application_name) == 1
