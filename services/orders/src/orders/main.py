"""The orders service: the read API over gRPC, which fills the cache.

Writing is done by the workers order_writer and saga_runner.
"""

import asyncio

from common.cache import RedisCache
from common.lifecycle import load_settings, run
from common.memory import soft_limit
from common.postgres import create_engine
from common.redis_client import create_redis
from common.shutdown import step
from common.telemetry.admin import admin_server
from common.telemetry.logging import configure_logging
from common.telemetry.tracing import configure_tracing, shutdown_tracing
from orders.adapters.queries import OrderQueries
from orders.grpc_server import grpc_server
from orders.settings import OrdersSettings

CLOSE_S = 2


async def serve(settings: OrdersSettings, stop: asyncio.Event) -> None:
    """Serve until `stop` is set."""
    tracing = configure_tracing("orders", settings.otlp_endpoint, settings.trace_sample_ratio)
    engine = create_engine(settings.database_url.get_secret_value(), application_name="orders", pool_size=10)
    try:
        async with (
            create_redis(settings.redis_url.get_secret_value()) as redis,
            grpc_server(OrderQueries(engine), settings.grpc_listen, RedisCache(redis)),
            admin_server(settings.admin_port, alive=lambda: True, ready=lambda: not stop.is_set()),
        ):
            await stop.wait()
    finally:
        async with step("close the database", CLOSE_S):
            await engine.dispose()
        await shutdown_tracing(tracing)


def main() -> None:
    settings = load_settings(OrdersSettings)
    configure_logging("orders", settings.log_format)
    run(lambda stop: serve(settings, stop), soft_limit=soft_limit(settings.memory_soft_limit_mb))


if __name__ == "__main__":
    main()
