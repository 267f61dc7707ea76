"""The gateway over fakes: what stands behind the door is in memory, and can be told to be away."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

import httpx
import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from starlette.types import ASGIApp

from common.contracts.codec import encode, headers_of
from common.contracts.commands import OrdersCommand
from common.contracts.events import CatalogItem
from common.contracts.topics import Topic
from common.errors import InfrastructureError
from common.kafka.publisher import OnLateAck, Outcome
from common.records import OutgoingRecord, Record
from common.resilience.token_bucket import Limit, LocalBuckets
from gateway.accept import Acceptor
from gateway.app import create_app
from gateway.auth import Authenticator
from gateway.catalog import Catalog
from gateway.following import Following
from gateway.idempotency import Admission, Call, DoorStore, Marker, Verdict
from gateway.last_views import LastViews
from gateway.lookup import Lookup, Remembered
from gateway.memory import Memory, Offsets
from gateway.order_events import OrderEvents
from gateway.order_routes import OrderRoutes
from gateway.problems import BAD_CURSOR, Problem
from gateway.reads import Missing, Reads, View
from gateway.routes import Routes
from gateway.schemas import OrderPage, OrderView, TimelineStep, links_to
from gateway.shedding import Shed, Shedding

ISSUER = "test-issuer"
AUDIENCE = "test-audience"
PRIVATE_KEY = Ed25519PrivateKey.generate()
LIMIT = Limit(100, 100)
NEVER_POLLING = partial(Following, poll_s=60)
ONE_CD = {"currency": "USD", "lines": [{"sku": "cd-1", "quantity": 1}]}


class FakePublisher:
    """Says of every record `outcome`, once `gate` is open. `called` is set by the first call."""

    def __init__(self) -> None:
        self.outcome = Outcome.ACKED
        self.gate = asyncio.Event()
        self.gate.set()
        self.called = asyncio.Event()
        self.batches: list[list[OutgoingRecord]] = []
        self._on_late_ack: OnLateAck = None

    @property
    def records(self) -> list[OutgoingRecord]:
        return [record for batch in self.batches for record in batch]

    def command(self) -> Any:
        """The only published command."""
        (record,) = self.records
        return msgspec.json.decode(record.value or b"", type=OrdersCommand)

    def header(self, name: str) -> str:
        """A header of the only published record."""
        (record,) = self.records
        return (dict(record.headers)[name] or b"").decode()

    def ack_late(self) -> None:
        """The last batch, whose outcome was unknown, is acked now."""
        assert self._on_late_ack is not None
        self._on_late_ack(range(len(self.batches[-1])))

    async def publish(self, records: Sequence[OutgoingRecord], on_late_ack: OnLateAck = None) -> list[Outcome]:
        self.batches.append(list(records))
        self._on_late_ack = on_late_ack
        self.called.set()
        await self.gate.wait()
        return [self.outcome] * len(records)


@dataclass
class _Claim:
    state: str
    fingerprint: str
    attempt: str
    until: float


class FakeStore:
    """The DoorStore, the MarkerStore and the EpochStore. `now` is its clock, in seconds."""

    def __init__(self, limit: Limit = LIMIT) -> None:
        self.away = False
        self.now = 1_000.0
        self.markers: dict[UUID, Marker] = {}
        self.epoch: str | None = "first"
        self._claims: dict[UUID, _Claim] = {}
        self._buckets = LocalBuckets(limit, clock=lambda: self.now)

    def forget(self) -> None:
        """Redis was restarted, empty."""
        self.epoch = None
        self.markers.clear()
        self._claims.clear()

    async def admit(self, calls: Sequence[Call]) -> list[Admission]:
        return [self._admit(call) for call in calls]

    async def settle(self, settled: Sequence[tuple[Call, Outcome]]) -> None:
        if self.away:
            return
        for call, outcome in settled:
            if call.fingerprint:
                self._settle(call, outcome)
            if call.marker and outcome is Outcome.ACKED:
                self.markers.setdefault(call.order_id, call.marker)

    async def find(self, order_id: UUID, customer_id: str) -> Remembered:
        if self.away:
            raise InfrastructureError("fake markers are away")
        marker = self.markers.get(order_id)
        return Remembered(marker if marker and marker.customer_id == customer_id else None, self.epoch)

    async def write_epoch(self, epoch: str, *, replace: bool) -> set[str]:
        if self.away:
            raise InfrastructureError("fake markers are away")
        if replace or self.epoch is None:
            self.epoch = epoch
        return {self.epoch}

    def _admit(self, call: Call) -> Admission:
        wait_us = 0 if call.free else self._buckets.take(call.customer_id)
        if wait_us:
            return Admission(Verdict.LIMITED, wait_us / 1e6)
        if self.away or not call.fingerprint:
            return Admission(Verdict.NEW)
        claim = self._claims.get(call.order_id)
        if claim is None or claim.until <= self.now:
            self._claims[call.order_id] = _Claim("p", call.fingerprint, call.attempt, self.now + 5)
            return Admission(Verdict.NEW)
        if claim.fingerprint != call.fingerprint:
            return Admission(Verdict.CONFLICT)
        return Admission({"p": Verdict.IN_FLIGHT, "u": Verdict.UNKNOWN, "a": Verdict.REPLAYED}[claim.state])

    def _settle(self, call: Call, outcome: Outcome) -> None:
        claim = self._claims.get(call.order_id)
        if claim is not None and claim.until <= self.now:
            claim = None
        mine = claim is not None and (claim.state, claim.attempt) == ("p", call.attempt)
        if outcome is Outcome.ACKED:
            if claim is None or claim.state != "a":
                self._claims[call.order_id] = _Claim("a", call.fingerprint, "", self.now + 86_400)
        elif mine and outcome is Outcome.REFUSED:
            del self._claims[call.order_id]
        elif mine:
            self._claims[call.order_id] = _Claim("u", call.fingerprint, call.attempt, self.now + 5)


class NoCachedViews:
    """A cache in which writers are under way all the time."""

    async def get(self, order_id: UUID, customer_id: str, *, take_over: bool = False) -> View | Missing:
        return Missing()


class FakeOrders:
    def __init__(self) -> None:
        self.away = False
        self.views: dict[tuple[str, UUID], OrderView] = {}
        self.dead: dict[UUID, datetime] = {}  # orders in the dead letter topic: nobody knows whose they are
        self.steps: dict[tuple[str, UUID], list[TimelineStep]] = {}
        self.asked: dict[str, Any] = {}
        self.read = 0  # how often a view was asked for

    async def view(self, order_id: UUID, customer_id: str, lease: str) -> View | None:
        self.read += 1
        if self.away:
            raise InfrastructureError("fake orders are away")
        if died_at := self.dead.get(order_id):
            return View(0, b"", died_at)
        found = self.views.get((customer_id, order_id))
        return View(found.version, found.model_dump_json().encode()) if found else None

    async def timeline(self, order_id: UUID, customer_id: str) -> list[TimelineStep] | None:
        if self.away:
            raise InfrastructureError("fake orders are away")
        return self.steps.get((customer_id, order_id))

    async def page(self, customer_id: str, *, status: str | None, limit: int, cursor: str | None) -> OrderPage:
        if self.away:
            raise InfrastructureError("fake orders are away")
        if cursor == "tampered":
            raise Problem(BAD_CURSOR)
        self.asked = {"customer_id": customer_id, "status": status, "limit": limit, "cursor": cursor}
        return OrderPage(
            orders=[view for (owner, _), view in self.views.items() if owner == customer_id], next_cursor=None
        )


@dataclass
class FakeCommandLog:
    """`written`: how far order_writer is; the log ends at 5."""

    written: int = 5
    away: bool = False

    async def ends(self) -> Offsets:
        if self.away:
            raise InfrastructureError("fake broker is away")
        return {0: 5}

    async def is_beyond(self, ends: Offsets) -> bool:
        return self.written >= ends[0]


@dataclass
class FakeBacklog:
    age_s: float = 0.0


@dataclass
class Door:
    """The gateway, and what stands behind it."""

    app: ASGIApp
    http: httpx.AsyncClient
    catalog: Catalog
    publisher: FakePublisher = field(default_factory=FakePublisher)
    markers: FakeStore = field(default_factory=FakeStore)
    orders: FakeOrders = field(default_factory=FakeOrders)
    log: FakeCommandLog = field(default_factory=FakeCommandLog)
    events: OrderEvents = field(default_factory=OrderEvents)
    backlog: FakeBacklog = field(default_factory=FakeBacklog)

    async def place(self, order: object = ONE_CD, *, customer: str = "alice", **headers: str) -> httpx.Response:
        return await self.http.post(
            "/v1/orders",
            json=order,
            headers={**bearer(customer), **{k.replace("_", "-"): v for k, v in headers.items()}},
        )

    async def send(self, body: bytes | AsyncIterable[bytes], **headers: str) -> httpx.Response:
        """A body of bytes, as JSON unless `content_type` says otherwise."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.post(
            "/v1/orders", content=body, headers={"content-type": "application/json", **bearer(), **named}
        )

    async def get(self, path: str, *, customer: str = "alice", **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.get(path, headers={**bearer(customer), **named})

    def move(self, order_id: UUID, status: str, version: int, *, heard: bool = True) -> None:
        """The order of alice has a new version, and the gateway hears of it."""
        moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        self.orders.views["alice", order_id] = OrderView(
            order_id=order_id,
            status=status,
            version=version,
            accepted_at=moment,
            updated_at=moment,
            links=links_to(order_id),
        )
        if heard:
            self.events.hear([event_record(order_id)])


@asynccontextmanager
async def open_door(
    *,
    capacity: int = 100,
    ready: bool = True,
    limit: Limit = LIMIT,
    store: DoorStore | None = None,
    following: Callable[[OrderEvents], Following] = NEVER_POLLING,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncGenerator[Door]:
    publisher, markers, orders, catalog = FakePublisher(), FakeStore(limit), FakeOrders(), Catalog()
    catalog.update([item_record("cd-1", 1_177), item_record("cd-2", 2_999), item_record("eur-1", 500, currency="EUR")])
    acceptor = Acceptor(publisher, store or markers, capacity=capacity)
    reads, log, events = Reads(NoCachedViews(), orders), FakeCommandLog(), OrderEvents()
    authenticator = Authenticator(PRIVATE_KEY.public_key(), issuer=ISSUER, audience=AUDIENCE)
    follow = following(events)
    lookup = Lookup(reads, markers, Memory(markers, log))
    routes = Routes(
        authenticator=authenticator,
        acceptor=acceptor,
        lookup=LastViews(lookup, clock=clock),
        orders=orders,
        catalog=catalog,
        limit=limit,
        following=follow,
    )
    order_routes = OrderRoutes(authenticator=authenticator, find=lookup.find, following=follow, timelines=orders)
    backlog = FakeBacklog()
    shedding = Shedding(full=acceptor.full, lag_s=lambda: backlog.age_s, max_lag_s=60)
    app = Shed(create_app(routes, order_routes, ready=lambda: ready), shedding)
    transport = httpx.ASGITransport(app)
    async with (
        reads.running(),
        acceptor.running(),
        httpx.AsyncClient(transport=transport, base_url="http://door") as http,
    ):
        yield Door(app, http, catalog, publisher, markers, orders, log, events, backlog)


def token(customer: str = "alice", *, key: Any = PRIVATE_KEY, algorithm: str = "EdDSA", **claims: Any) -> str:
    """A good token; `claims` replace the standard ones, and None takes one out."""
    now = int(time.time())
    standard = {"iss": ISSUER, "aud": AUDIENCE, "sub": customer, "iat": now, "nbf": now, "exp": now + 300}
    payload = {**standard, "scope": "orders:write orders:read", **claims}
    return jwt.encode({k: v for k, v in payload.items() if v is not None}, key, algorithm=algorithm)


def bearer(customer: str = "alice", **claims: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {token(customer, **claims)}"}


def event_record(order_id: UUID) -> Record:
    """Nobody should read anything but its key."""
    return Record(Topic.ORDERS_EVENTS, 0, 0, 0, str(order_id).encode(), b"not even JSON", [])


def item_record(sku: str, price_minor: int, *, currency: str = "USD", offset: int = 0) -> Record:
    item = CatalogItem(sku=sku, name=f"Record {sku}", currency=currency, price_minor=price_minor)
    headers = headers_of(UUID(int=offset), None)
    return Record(Topic.CATALOG_ITEMS, 0, offset, 0, sku.encode(), encode(item), headers)
