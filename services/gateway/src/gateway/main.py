"""The gateway process: settings, clients, tasks, the web server; everything is closed in reverse."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from starlette.types import ASGIApp

from common.cache import RedisCache
from common.contracts.topics import ORDER_WRITER, Topic
from common.errors import InfrastructureError, SettingsError
from common.kafka.progress import GroupProgress
from common.kafka.publisher import Publisher
from common.kafka.reader import TopicReader
from common.lifecycle import load_settings, run, spare_the_garbage_collector
from common.memory import soft_limit
from common.redis_client import NO_ANSWER, create_redis
from common.resilience.circuit_breaker import CircuitBreaker
from common.resilience.retry import Retry
from common.resilience.through import through
from common.resilience.token_bucket import Limit
from common.telemetry.admin import admin_server
from common.telemetry.logging import configure_logging
from common.telemetry.tracing import configure_tracing, shutdown_tracing
from gateway.accept import Acceptor
from gateway.adapters.door_store import RedisDoorStore
from gateway.adapters.jwks import Jwks, LearnKeys, kid_of
from gateway.adapters.markers import RedisMarkers
from gateway.adapters.orders_client import DEADLINE_S, GrpcOrders, OrdersAwayError, create_channel
from gateway.adapters.views import CacheViews
from gateway.app import create_app
from gateway.auth import Authenticator, KeyFor, load_public_key
from gateway.backlog import Backlog
from gateway.catalog import Catalog
from gateway.early_refusal import protocol_that_sheds
from gateway.following import Following
from gateway.last_views import LastViews
from gateway.lookup import Lookup
from gateway.memory import Memory
from gateway.order_events import OrderEvents
from gateway.order_routes import OrderRoutes
from gateway.reads import Reads
from gateway.routes import Routes
from gateway.settings import GatewaySettings
from gateway.shedding import Shed, Shedding
from gateway.web_server import WebServer

ACK_TIMEOUT_S = 2.0
HEAL_INTERVAL_S = 1.0
LEAVE_KAFKA_S = 1  # a reader commits nothing: it has nothing to lose


@dataclass(frozen=True, slots=True)
class Gateway:
    app: ASGIApp
    catalog_complete: asyncio.Event
    events: OrderEvents
    ready: Callable[[], bool]
    shedding: Shedding


def main() -> None:
    settings = load_settings(GatewaySettings)
    configure_logging("gateway", settings.log_format)
    run(lambda stop: serve(settings, stop), soft_limit=soft_limit(settings.memory_soft_limit_mb))


async def serve(settings: GatewaySettings, stop: asyncio.Event) -> None:
    """Serve until `stop` is set; then finish the requests under way."""
    tracing = configure_tracing("gateway", settings.otlp_endpoint, settings.trace_sample_ratio)
    try:
        async with (
            build(settings, stop) as gateway,
            admin_server(settings.admin_port, alive=lambda: True, ready=gateway.ready),
        ):
            await _serve_http(gateway, settings, stop)
    finally:
        await shutdown_tracing(tracing)


@asynccontextmanager
async def build(settings: GatewaySettings, stop: asyncio.Event) -> AsyncGenerator[Gateway]:
    """Open the clients, start the tasks, put the app on top. It is ready from when the copy of the catalog is complete
    until `stop` is set."""
    jwks = Jwks(settings.jwks_url) if settings.jwks_url else None
    public_key = _public_key(settings) if jwks is None else _key_by(jwks)
    async with AsyncExitStack() as stack:
        publisher = Publisher(
            settings.kafka_bootstrap_servers, idempotence=settings.kafka_enable_idempotence, ack_timeout_s=ACK_TIMEOUT_S
        )
        stack.push_async_callback(publisher.stop)
        await publisher.start()
        # two pools of connections: however many read, a call at the door finds a free one
        door = await stack.enter_async_context(create_redis(settings.redis_url.get_secret_value()))
        redis = await stack.enter_async_context(create_redis(settings.redis_url.get_secret_value()))
        channel = await stack.enter_async_context(create_channel(settings.orders_grpc_target))
        markers = RedisMarkers(redis)
        order_writer = GroupProgress(settings.kafka_bootstrap_servers, ORDER_WRITER, Topic.ORDERS_COMMANDS)
        memory, backlog = Memory(markers, order_writer), Backlog(order_writer)
        markers = through(markers, _redis_breaker("redis_markers").call)  # memory asks itself: it hears who is back
        orders = GrpcOrders(channel)
        orders = through(orders, CircuitBreaker("orders", timeout_s=DEADLINE_S + 0.5, rest_s=1).call)
        orders = through(orders, Retry("orders", errors=(OrdersAwayError,), try_s=DEADLINE_S, deadline_s=3).call)
        views = CacheViews(RedisCache(redis))
        views = through(views, _redis_breaker("redis_views").call)
        reads = Reads(views, orders)
        await stack.enter_async_context(reads.running())
        limit = Limit(settings.rate_burst, settings.rate_per_s)
        store = RedisDoorStore(
            door,
            limit,
            replicas=settings.replicas,
            on_marker_lost=memory.marker_lost,
            breaker=_redis_breaker("redis_door"),
        )
        acceptor = Acceptor(publisher, store, capacity=settings.shed_in_flight)
        await stack.enter_async_context(_beside(lambda: memory.keep_epoch(store.use_again)))
        await stack.enter_async_context(_beside(memory.keep_trust))
        await stack.enter_async_context(_beside(backlog.keep_looking))
        await stack.enter_async_context(acceptor.running())
        catalog = Catalog()
        complete = await stack.enter_async_context(_reading(catalog, settings))
        events = OrderEvents()
        await stack.enter_async_context(_until_left(lambda stop: events.listen(stop, lambda: _heard(events, settings))))
        authenticator = Authenticator(public_key, issuer=settings.jwt_issuer, audience=settings.jwt_audience)
        following = Following(events)
        lookup = Lookup(reads, markers, memory)
        routes = Routes(
            authenticator=authenticator,
            acceptor=acceptor,
            lookup=LastViews(lookup),
            orders=orders,
            catalog=catalog,
            limit=limit,
            following=following,
        )
        order_routes = OrderRoutes(authenticator=authenticator, find=lookup.find, following=following, timelines=orders)
        await stack.enter_async_context(_beside(lambda: _healing(publisher)))

        def ready() -> bool:
            return complete.is_set() and publisher.healthy and not stop.is_set()

        app = create_app(routes, order_routes, ready=ready)
        if jwks is not None:
            await stack.enter_async_context(_beside(jwks.keep_fresh))
            app = LearnKeys(app, jwks=jwks)
        shedding = Shedding(full=acceptor.full, lag_s=lambda: backlog.age_s, max_lag_s=settings.shed_lag_s)
        yield Gateway(Shed(app, shedding), complete, events, ready, shedding)


def _redis_breaker(name: str) -> CircuitBreaker:
    """Opens within a second, and for less than half: a call that waits for Redis keeps a whole batch or all who read an
    order waiting, the way around it is good, and of a cluster only one node may be away."""
    failures = (InfrastructureError, *NO_ANSWER)
    return CircuitBreaker(name, timeout_s=2, failures=failures, rest_s=1, window_s=1, at_least=1, share=0.1)


async def _healing(publisher: Publisher) -> None:
    """A gateway that is not ready gets no calls, so no publish would notice that the producer died."""
    while True:
        await asyncio.sleep(HEAL_INTERVAL_S)
        await publisher.heal()


@asynccontextmanager
async def _beside(work: Callable[[], Awaitable[None]]) -> AsyncGenerator[None]:
    """Endless work beside the block, cancelled at its end."""

    async def forever() -> None:
        await work()

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(forever())
        yield
        task.cancel()


def _key_by(jwks: Jwks) -> KeyFor:
    def key_for(token: str) -> Ed25519PublicKey | None:
        kid = kid_of(token)
        return None if kid is None else jwks.key(kid)

    return key_for


def _public_key(settings: GatewaySettings) -> Ed25519PublicKey:
    if settings.jwt_public_key_file is None:
        raise SettingsError("setting GATEWAY_JWT_PUBLIC_KEY_FILE or GATEWAY_JWKS_URL: one of them is needed")
    try:
        return load_public_key(settings.jwt_public_key_file.read_bytes())
    except OSError as error:
        raise SettingsError(f"setting GATEWAY_JWT_PUBLIC_KEY_FILE: {error}") from error


@asynccontextmanager
async def _reading(catalog: Catalog, settings: GatewaySettings) -> AsyncGenerator[asyncio.Event]:
    """Keep the copy fresh for as long as the block runs; yields the event of its first completeness."""
    reader = TopicReader(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        topic=Topic.CATALOG_ITEMS,
        handle=catalog.update,
        fetch_max_wait_ms=settings.kafka_fetch_max_wait_ms,
    )
    async with _until_left(reader.run):
        yield reader.caught_up


def _heard(events: OrderEvents, settings: GatewaySettings) -> TopicReader:
    return TopicReader(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        topic=Topic.ORDERS_EVENTS,
        handle=events.hear,
        fetch_max_wait_ms=settings.kafka_fetch_max_wait_ms,
        from_end=True,
    )


@asynccontextmanager
async def _until_left(read: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> AsyncGenerator[None]:
    """`read(stop)` beside the block, told to stop at its end."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(read(stop))
        yield
        stop.set()
        await asyncio.wait({reading}, timeout=LEAVE_KAFKA_S)
        reading.cancel()  # a frozen broker could hold it for 40 s


async def _serve_http(gateway: Gateway, settings: GatewaySettings, stop: asyncio.Event) -> None:
    """Listen only once ready: on a shared socket the other gateways take the connections until then."""
    http = protocol_that_sheds(gateway.shedding)
    server = WebServer(gateway.app, http=http, host=settings.host, port=settings.port, drain_s=settings.drain_s)
    sockets = None if settings.listen_fd is None else [socket.socket(fileno=settings.listen_fd)]
    async with asyncio.TaskGroup() as tasks:
        stopping = tasks.create_task(stop.wait())
        completing = tasks.create_task(gateway.catalog_complete.wait())
        await asyncio.wait({stopping, completing}, return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            spare_the_garbage_collector()  # the catalog is here to stay
            tasks.create_task(_leave(gateway, server, stop))
            await server.serve(sockets)
        completing.cancel()


async def _leave(gateway: Gateway, server: WebServer, stop: asyncio.Event) -> None:
    await stop.wait()
    gateway.events.close()  # who waits for an event would hold up the end
    await server.leave()


if __name__ == "__main__":
    main()
