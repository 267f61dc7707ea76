"""The clients that a worker is built from, opened and closed in one place."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from common.cache import RedisCache
from common.cache_writer import CacheWriter
from common.kafka.consumer import Apply, BatchConsumer, OnPoison
from common.kafka.publisher import Publisher
from common.postgres import create_engine
from common.redis_client import create_redis
from common.shutdown import step
from orders.adapters.view import OrderViews
from workers.settings import WorkersSettings

CLOSE_S = 2


@dataclass(frozen=True, slots=True)
class Resources:
    settings: WorkersSettings
    engine: AsyncEngine
    publisher: Publisher
    views: OrderViews

    def consumer(self, group: str, topics: list[str], apply: Apply, on_poison: OnPoison | None = None) -> BatchConsumer:
        return BatchConsumer(
            bootstrap_servers=self.settings.kafka_bootstrap_servers,
            group=group,
            topics=topics,
            apply=apply,
            publisher=self.publisher,
            fetch_max_wait_ms=self.settings.kafka_fetch_max_wait_ms,
            on_poison=on_poison,
        )


@asynccontextmanager
async def open_resources(settings: WorkersSettings, name: str) -> AsyncGenerator[Resources]:
    publisher = Publisher(settings.kafka_bootstrap_servers, idempotence=settings.kafka_enable_idempotence)
    engine = create_engine(settings.database_url.get_secret_value(), application_name=name)
    redis = create_redis(settings.redis_url.get_secret_value())
    try:
        await publisher.start()
        yield Resources(settings, engine, publisher, OrderViews(CacheWriter(RedisCache(redis))))
    finally:
        await publisher.stop()
        async with step("close the database", CLOSE_S):
            await engine.dispose()
        await redis.aclose()


def utc_now() -> datetime:
    return datetime.now(UTC)
