"""Poison on every topic, against all workers as real processes: it ends in the dead letter topic, whole and with its
cause; its partition goes on; redrive shows it, edits it and sends it again, and a second time changes nothing."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from rich.console import Console
from sqlalchemy.ext.asyncio import AsyncEngine

from builders import CUSTOMER, TRACEPARENT, a_line, an_order, broker_settings, place_order
from common.contracts import commands, events
from common.contracts.codec import encode, to_record
from common.contracts.topics import Topic, dead_letter_topic
from common.dead_letter import CAUSE, CONSUMER, DIED_AT, ORIGIN, original_headers
from common.kafka.publisher import Outcome, Publisher
from common.postgres import create_engine
from common.records import OutgoingRecord, Record
from eventually import eventually
from integration.core.broker import outgoing, read_all
from integration.core.database import rows, value
from integration.core.poison_cases import CONSUMER_OF, SCHEMA_OF, a_good_message, poison
from integration.core.worker_processes import all_workers
from local_stack.servers import Addresses
from orders.adapters.postgres import unit_of_work
from orders.adapters.queries import OrderQueries
from workers.catalog import import_catalog
from workers.dead_letters import address_of
from workers.redrive import run_command

every_topic = pytest.mark.parametrize("topic", CONSUMER_OF)


@pytest.fixture(scope="module", autouse=True)
def _workers(servers: Addresses, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with all_workers(servers, tmp_path_factory.mktemp("poison")):
        yield


@pytest.fixture
async def database(servers: Addresses) -> AsyncIterator[AsyncEngine]:
    """Not emptied: the workers are in it."""
    engine = create_engine(servers.database_url, application_name="test")
    yield engine
    await engine.dispose()


@pytest.fixture
def _environment(servers: Addresses, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, setting in broker_settings(servers).items():
        monkeypatch.setenv(name, setting)


async def redrive(*arguments: object) -> str:
    out = StringIO()
    await asyncio.to_thread(run_command, [str(a) for a in arguments], Console(file=out, width=250))
    return out.getvalue()


async def publish(publisher: Publisher, *records: OutgoingRecord) -> None:
    assert set(await publisher.publish(records)) == {Outcome.ACKED}


async def letters_of(servers: Addresses, topic: Topic, key: bytes | None) -> list[Record]:
    return [r for r in await read_all(servers.kafka_bootstrap_servers, dead_letter_topic(topic)) if r.key == key]


async def applied(database: AsyncEngine, topic: Topic, message_id: UUID) -> bool:
    consumer = CONSUMER_OF[topic]
    sql = f"SELECT count(*) FROM {SCHEMA_OF[consumer]}.inbox WHERE consumer = :consumer AND message_id = :id"
    return await value(database, sql, consumer=consumer, id=message_id) == 1


async def status_of(database: AsyncEngine, order_id: UUID) -> str | None:
    found = await rows(database, "SELECT status FROM orders.orders WHERE order_id = :id", id=order_id)
    return found[0].status if found else None


async def has_status(database: AsyncEngine, order_id: UUID, status: str) -> bool:
    return await status_of(database, order_id) == status


async def is_voided(database: AsyncEngine, order_id: UUID) -> bool:
    found = await rows(database, "SELECT state FROM payments.payments WHERE order_id = :id", id=order_id)
    return [row.state for row in found] == ["voided"]


async def an_order_for(topic: Topic, database: AsyncEngine, publisher: Publisher) -> UUID:
    """A new id; except for PlaceOrder itself, that of an order that exists and is final."""
    order_id = uuid4()
    if topic is not Topic.ORDERS_COMMANDS:
        await publish(publisher, outgoing(place_order(order_id, lines=(a_line("sold out"),)), order_id))
        await eventually(lambda: has_status(database, order_id, "rejected"), within=15)
    return order_id


@every_topic
async def test_poison_is_kept_whole_with_its_cause_and_the_partition_goes_on(
    servers: Addresses, database: AsyncEngine, publisher: Publisher, topic: Topic
) -> None:
    order_id, message_id = await an_order_for(topic, database, publisher), uuid4()
    good = to_record(a_good_message(topic, order_id), message_id, TRACEPARENT)
    cases = poison(topic, good)

    await publish(publisher, *cases.values(), good)
    await eventually(lambda: applied(database, topic, message_id), within=20)

    async def all_are_there() -> bool:
        return len(await letters_of(servers, topic, good.key)) >= len(cases)

    await eventually(all_are_there, within=10)  # a batch is applied first and buried second
    letters = await letters_of(servers, topic, good.key)
    assert [len(letter.value or b"") for letter in letters] == [len(case.value or b"") for case in cases.values()]
    for (name, case), letter in zip(cases.items(), letters, strict=True):
        assert (letter.value, original_headers(letter)) == (case.value, list(case.headers)), name
        assert letter.header(CAUSE), name
        assert letter.header(CONSUMER) == CONSUMER_OF[topic].encode(), name
        assert (letter.header(ORIGIN) or b"").startswith(f"{topic}/{letter.partition}/".encode()), name
        assert datetime.fromisoformat((letter.header(DIED_AT) or b"").decode()).tzinfo is not None, name


@pytest.mark.parametrize("topic", [topic for topic, consumer in CONSUMER_OF.items() if consumer == "saga_runner"])
async def test_a_reply_for_an_unknown_saga_is_a_dead_letter(
    servers: Addresses, publisher: Publisher, topic: Topic
) -> None:
    reply = outgoing(a_good_message(topic, uuid4()))

    await publish(publisher, reply)

    async def is_dead() -> bool:
        letters = await letters_of(servers, topic, reply.key)
        return [b"for an unknown order" in (letter.header(CAUSE) or b"") for letter in letters] == [True]

    await eventually(is_dead, within=15)


@every_topic
@pytest.mark.usefixtures("_environment")
async def test_redrive_shows_edits_and_replays_and_a_second_replay_changes_nothing(
    servers: Addresses, database: AsyncEngine, publisher: Publisher, topic: Topic, tmp_path: Path
) -> None:
    order_id, message_id = await an_order_for(topic, database, publisher), uuid4()
    good = to_record(a_good_message(topic, order_id), message_id, TRACEPARENT)
    broken = OutgoingRecord(topic, good.key, b"broken \x1b[31m", good.headers)
    await publish(publisher, broken)
    letter = await the_letter(servers, topic, good.key)
    address, body, copy = address_of(letter), tmp_path / "body", tmp_path / "copy.json"
    body.write_bytes(good.value or b"")

    assert str(address) in await redrive("list", topic)
    shown = await redrive("show", address)
    assert "unreadable record" in shown
    assert "broken \\x1b[31m" in shown
    assert "It can be read now." in await redrive("edit", address, "--body", body, "--to", copy)
    assert await redrive("replay", "--edited", copy) == f"1 sent to {topic}.\n"
    await eventually(lambda: applied(database, topic, message_id), within=10)
    if topic is Topic.ORDERS_COMMANDS:
        await eventually(lambda: has_status(database, order_id, "rejected"), within=10)
    if topic is Topic.PAYMENTS_EVENTS:  # money for a rejected order: the saga has it voided
        await eventually(lambda: is_voided(database, order_id), within=10)
    before = await everything_about(database, order_id)

    await redrive("replay", "--edited", copy)
    last = OutgoingRecord(topic, good.key, b"the last", [])
    await publish(publisher, last)
    await eventually(lambda: is_dead(servers, last), within=10)

    assert await everything_about(database, order_id) == before
    assert [r.value for r in await letters_of(servers, topic, good.key)] == [broken.value, b"the last"]


async def the_letter(servers: Addresses, topic: Topic, key: bytes | None) -> Record:
    found: list[Record] = []

    async def arrived() -> bool:
        found[:] = await letters_of(servers, topic, key)
        return bool(found)

    await eventually(arrived, within=15)
    return found[0]


async def is_dead(servers: Addresses, record: OutgoingRecord) -> bool:
    return record.value in [r.value for r in await letters_of(servers, Topic(record.topic), record.key)]


async def everything_about(database: AsyncEngine, order_id: UUID) -> list[Any]:
    tables = ("orders.orders", "orders.order_lines", "orders.sagas", "inventory.reservations", "payments.payments")
    return [await rows(database, f"SELECT * FROM {t} WHERE order_id = :id ORDER BY 1, 2", id=order_id) for t in tables]


@pytest.mark.usefixtures("_environment")
async def test_a_letter_replayed_unchanged_dies_again_and_is_sent_once_with_all(
    servers: Addresses, publisher: Publisher
) -> None:
    broken = OutgoingRecord(Topic.INVENTORY_COMMANDS, str(uuid4()).encode(), b"broken", [])
    await publish(publisher, broken)
    letter = await the_letter(servers, Topic.INVENTORY_COMMANDS, broken.key)

    await redrive("replay", address_of(letter))

    async def twice() -> bool:
        return len(await letters_of(servers, Topic.INVENTORY_COMMANDS, broken.key)) == 2

    await eventually(twice, within=10)


@pytest.mark.usefixtures("_environment")
async def test_letters_that_are_themselves_broken_are_listed_and_replayed_each_message_once(
    publisher: Publisher, servers: Addresses
) -> None:
    topic = dead_letter_topic(Topic.CATALOG_ITEMS)
    one = OutgoingRecord(topic, b"k", None, [("dlq-origin", None), ("dlq-cause", b"\xff\x1b[2J[red]")])
    other = OutgoingRecord(topic, b"", b"\x00", [("", b"")])
    await publish(publisher, one, one, other)

    listed = await redrive("list", "all")
    assert listed.count("catalog.items.dlq/0/") == 3
    assert "\\xff\\x1b[2J[red]" in listed
    assert "null" in await redrive("show", "catalog.items/0/0")
    assert await redrive("replay", "--all", topic) == "2 sent to catalog.items.\n"
    sent = await read_all(servers.kafka_bootstrap_servers, Topic.CATALOG_ITEMS)
    assert [(r.key, r.value, [*r.headers]) for r in sent[-2:]] == [(b"k", None, []), (b"", b"\x00", [("", b"")])]


async def test_the_same_message_id_with_another_body_is_dropped(database: AsyncEngine, publisher: Publisher) -> None:
    first, last = place_order(), uuid4()
    second = place_order(first.order_id, currency="EUR", total_minor=7)
    await publish(publisher, outgoing(first, first.order_id), outgoing(second, first.order_id))
    await publish(publisher, outgoing(commands.CancelOrder(order_id=first.order_id, customer_id="stranger"), last))

    await eventually(lambda: applied(database, Topic.ORDERS_COMMANDS, last), within=10)

    found = await rows(
        database, "SELECT currency, total_minor FROM orders.orders WHERE order_id = :i", i=first.order_id
    )
    assert [tuple(row) for row in found] == [("USD", 1_000)]


async def test_events_a_hundred_times_and_in_reverse_order_still_end_confirmed_and_charged_once(
    database: AsyncEngine, publisher: Publisher
) -> None:
    await import_catalog(database, [{"sku": "odd", "name": "Odd", "price_minor": "1", "currency": "USD", "stock": "9"}])
    order = an_order(lines=(a_line("odd"),))
    i = order.order_id
    async with unit_of_work(database, "test")() as work:
        await work.add_orders([order])  # nobody has told the saga yet
    placed = order.placed()
    backwards = [
        events.PaymentCaptured(order_id=i),
        events.PaymentAuthorized(order_id=i),
        events.StockReserved(order_id=i),
    ]
    for event in backwards:
        message_id = uuid4()
        await publish(publisher, *[outgoing(event, message_id)] * 100, *[outgoing(event) for _ in range(100)])
        await eventually(lambda e=event, m=message_id: applied(database, topic_of(e), m), within=10)

    await publish(publisher, *[outgoing(placed) for _ in range(100)])

    await eventually(lambda: has_status(database, i, "confirmed"), within=20)
    assert await value(database, "SELECT available FROM inventory.items WHERE sku = 'odd'") == 8
    assert await value(database, "SELECT state FROM payments.payments WHERE order_id = :i", i=i) == "captured"


def topic_of(event: Any) -> Topic:
    return Topic(outgoing(event).topic)


@pytest.mark.usefixtures("_environment")
async def test_an_order_that_nobody_could_read_needs_attention_until_it_is_mended(
    servers: Addresses, database: AsyncEngine, publisher: Publisher, tmp_path: Path
) -> None:
    order, queries = place_order(), OrderQueries(database)
    await publish(publisher, OutgoingRecord("orders.commands", str(order.order_id).encode(), b"{", []))
    letter = await the_letter(servers, Topic.ORDERS_COMMANDS, str(order.order_id).encode())
    assert await queries.died_at(order.order_id) is not None
    assert await queries.get(order.order_id, CUSTOMER) is None

    (tmp_path / "body").write_bytes(encode(order))
    await redrive("edit", address_of(letter), "--body", tmp_path / "body", "--new-id", "--to", tmp_path / "copy")
    await redrive("replay", "--edited", tmp_path / "copy")

    await eventually(lambda: queries.get(order.order_id, CUSTOMER), within=10)
