"""What each step of the accept path costs: the real functions, called many times in a process of their own.

CPU is what counts for a gateway that one core limits; wall time also holds the waiting for Valkey and Kafka, which all
calls of a batch share. `the whole request in the application` contains the steps above it, and waits for its batch.
"""

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count, islice
from statistics import median
from typing import Any
from uuid import UUID

import uvloop
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bench.servers import catalog
from common.contracts.codec import to_record
from common.contracts.commands import PlaceOrder
from common.contracts.values import order_id_for
from common.kafka.publisher import OnLateAck, Outcome, Publisher
from common.lifecycle import spare_the_garbage_collector
from common.records import OutgoingRecord, Record
from common.redis_client import create_redis
from common.resilience.token_bucket import Limit
from common.telemetry.tracing import configure_tracing
from gateway.accept import Acceptor
from gateway.adapters.door_store import RedisDoorStore
from gateway.app import create_app
from gateway.auth import WRITE, Authenticator, load_public_key
from gateway.catalog import Catalog, price
from gateway.idempotency import Admission, Call, Marker, Verdict, fingerprint_of, new_attempt
from gateway.observe import Observe
from gateway.order_routes import OrderRoutes
from gateway.routes import Routes
from gateway.schemas import parse_order
from local_stack import keys

REPEATS, CALLS, BATCHES = 5, 2_000, 40
BATCH_SIZES = (20, 100)
TOGETHER = 64
UNLIMITED = Limit(10_000, 10_000)
TRACEPARENT = "00-" + 32 * "a" + "-" + 16 * "b" + "-00"


@dataclass(frozen=True, slots=True)
class Step:
    """Microseconds per order. Without waiting both are the same, unless others need the core."""

    step: str
    cpu_us: float
    wall_us: float


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the steps are fed with."""

    kafka: str
    redis_url: str
    public_pem: bytes
    bearers: list[str]
    body: bytes


def measure_steps(inputs: Inputs) -> list[Step]:
    """All steps, one by one; needs the servers, and no load on them."""
    return uvloop.run(_measure(inputs))


async def _measure(inputs: Inputs) -> list[Step]:
    configure_tracing("gateway", None, 0.1)
    items = Catalog()
    items.update([_record(to_record(item, order_id_for("", item.sku), None)) for item in catalog()])
    spare_the_garbage_collector()
    return [
        *_call_steps(inputs, items),
        *await _application_steps(inputs, items),
        *await _store_steps(inputs),
        *await _publish_steps(inputs, items),
    ]


def _call_steps(inputs: Inputs, items: Catalog) -> list[Step]:
    authenticator, fresh = _authenticator(inputs), _authenticator(inputs)
    bearer, unknown = inputs.bearers[0], iter(inputs.bearers)
    order, order_id = parse_order(inputs.body), order_id_for("customer", "key")
    command, numbers = _command(inputs.body, items, order_id), count()
    answer = _routes(inputs, items, _acceptor())._answer  # pyright: ignore[reportPrivateUsage] - it is the real one
    accepted = Admission(Verdict.ACCEPTED)
    verify = len(inputs.bearers) // REPEATS
    return [
        _calls("token, first time", lambda: fresh.customer(next(unknown), WRITE), verify),
        _calls("token, remembered", lambda: authenticator.customer(bearer, WRITE)),
        _calls("parse and validate the body", lambda: parse_order(inputs.body)),
        _calls("price the lines", lambda: price(order, items)),
        _calls("order id", lambda: order_id_for("customer", str(next(numbers)))),
        _calls("record", lambda: to_record(command, order_id, TRACEPARENT)),
        _calls("fingerprint", lambda: fingerprint_of(order)),
        _calls("attempt, marker and call", lambda: _call("customer", order_id)),
        _calls("answer 202", lambda: answer(order_id, accepted, can_retry=True)),
    ]


async def _application_steps(inputs: Inputs, items: Catalog) -> list[Step]:
    """The application without sockets, Valkey and Kafka; each layer less the one below it."""
    acceptor = _acceptor()
    bare = await _asgi(_answer_at_once, inputs)
    observed = await _asgi(Observe(_answer_at_once), inputs)
    empty = await _asgi(create_app(_NoWork(), _order_routes(), ready=lambda: True), inputs)
    async with acceptor.running():
        app = create_app(_routes(inputs, items, acceptor), _order_routes(), ready=lambda: True)
        full = await _asgi(app, inputs)
        gc.disable()
        uncollected = await _asgi(app, inputs)
        gc.enable()
    return [
        _less("request span and metrics", observed, bare),
        _less("routing and Request", empty, observed),
        _less("garbage collection", full, uncollected),
        _less("the whole request in the application", full, bare),
    ]


async def _store_steps(inputs: Inputs) -> list[Step]:
    numbers = count()
    steps: list[Step] = []

    def calls(size: int) -> list[Call]:
        return [_call(f"steps-{n}", order_id_for(f"steps-{n}", "key")) for n in islice(numbers, size)]

    async with create_redis(inputs.redis_url) as redis:
        store = RedisDoorStore(redis, UNLIMITED, on_marker_lost=lambda: None)
        for size in BATCH_SIZES:
            batches = [calls(size) for _ in range(BATCHES)]
            settled = [[(call, Outcome.ACKED) for call in batch] for batch in batches]
            steps.append(await _batches(f"admit, {size} in a batch", store.admit, batches))
            steps.append(await _batches(f"settle, {size} in a batch", store.settle, settled))
    return steps


async def _publish_steps(inputs: Inputs, items: Catalog) -> list[Step]:
    numbers = count()
    publisher = Publisher(inputs.kafka, idempotence=True)
    await publisher.start()

    def records(size: int) -> list[OutgoingRecord]:
        ids = [order_id_for("steps", str(n)) for n in islice(numbers, size)]
        return [to_record(_command(inputs.body, items, i), i, TRACEPARENT) for i in ids]

    try:
        return [
            await _batches(f"publish, {size} in a batch", publisher.publish, [records(size) for _ in range(BATCHES)])
            for size in BATCH_SIZES
        ]
    finally:
        await publisher.stop()


class _NoWork(Routes):
    """The routes with nothing behind them."""

    def __init__(self) -> None:
        """Needs nothing."""

    async def place_order(self, request: Request) -> Response:
        return Response(b"{}", 202, media_type="application/json")


class _AdmitsAll:
    async def admit(self, calls: Sequence[Call]) -> list[Admission]:
        return [Admission(Verdict.NEW)] * len(calls)

    async def settle(self, settled: Sequence[tuple[Call, Outcome]]) -> None:
        """Keeps nothing."""


class _AcksAll:
    async def publish(self, records: Sequence[OutgoingRecord], on_late_ack: OnLateAck = None) -> list[Outcome]:
        return [Outcome.ACKED] * len(records)


async def _answer_at_once(scope: Scope, receive: Receive, send: Send) -> None:
    await Response(b"{}", 202, media_type="application/json")(scope, receive, send)


def _acceptor() -> Acceptor:
    return Acceptor(_AcksAll(), _AdmitsAll())


def _routes(inputs: Inputs, items: Catalog, acceptor: Acceptor) -> Routes:
    nobody: Any = None  # nothing is read here
    return Routes(
        authenticator=_authenticator(inputs),
        acceptor=acceptor,
        lookup=nobody,
        orders=nobody,
        catalog=items,
        limit=UNLIMITED,
        following=nobody,
    )


def _order_routes() -> OrderRoutes:
    nothing: Any = None  # none of them is called
    return OrderRoutes(authenticator=nothing, find=nothing, following=nothing, timelines=nothing)


def _authenticator(inputs: Inputs) -> Authenticator:
    return Authenticator(load_public_key(inputs.public_pem), issuer=keys.ISSUER, audience=keys.AUDIENCE)


def _command(body: bytes, items: Catalog, order_id: UUID) -> PlaceOrder:
    order = parse_order(body)
    lines, total_minor = price(order, items)
    return PlaceOrder(
        order_id=order_id,
        customer_id="customer",
        currency=order.currency,
        lines=lines,
        total_minor=total_minor,
        accepted_at=datetime.now(UTC),
    )


def _call(customer_id: str, order_id: UUID) -> Call:
    marker = Marker(order_id, customer_id, datetime.now(UTC), 64 * "f")
    return Call(customer_id, order_id, new_attempt(), True, marker)


def _record(outgoing: OutgoingRecord) -> Record:
    return Record(outgoing.topic, 0, 0, 0, outgoing.key, outgoing.value, outgoing.headers)


def _calls(step: str, call: Callable[[], object], calls: int = CALLS) -> Step:
    cpu_us: list[float] = []
    wall_us: list[float] = []
    for _ in range(REPEATS):
        began, cpu = time.perf_counter(), time.process_time()
        for _ in range(calls):
            call()
        cpu_us.append(1e6 * (time.process_time() - cpu) / calls)
        wall_us.append(1e6 * (time.perf_counter() - began) / calls)
    return Step(step, median(cpu_us), median(wall_us))


async def _batches(step: str, work: Callable[[Any], Awaitable[object]], batches: Sequence[Sequence[object]]) -> Step:
    """One batch after the other; the first warms up."""
    await work(batches[0])
    began, cpu = time.perf_counter(), time.process_time()
    for batch in batches[1:]:
        await work(batch)
    total = sum(len(batch) for batch in batches[1:])
    return Step(step, 1e6 * (time.process_time() - cpu) / total, 1e6 * (time.perf_counter() - began) / total)


async def _asgi(app: ASGIApp, inputs: Inputs) -> Step:
    """Many POSTs to the app, some at the same time, with no server around it; includes the cost of this client."""
    numbers = count()

    async def post(bearer: str) -> None:
        statuses: list[int] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": inputs.body, "more_body": False}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        await app(_scope(bearer, f"steps-{next(numbers)}", inputs.body), receive, send)
        assert statuses == [202]

    async def together(bearers: Sequence[str]) -> None:
        await asyncio.gather(*(post(bearer) for bearer in bearers))

    return await _batches("", together, [inputs.bearers[:TOGETHER]] * BATCHES)


def _scope(bearer: str, key: str, body: bytes) -> Scope:
    headers = {
        "host": "bench",
        "content-type": "application/json",
        "content-length": str(len(body)),
        "authorization": bearer,
        "idempotency-key": key,
    }
    return {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/v1/orders",
        "raw_path": b"/v1/orders",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }


def _less(step: str, whole: Step, part: Step) -> Step:
    return Step(step, whole.cpu_us - part.cpu_us, whole.wall_us - part.wall_us)
