"""Bad records among many good ones: each bad one ends in the dead letter topic, and no good one waits for it.

The order_writer is the real one, with Postgres, Redis and broker. Orders are published open loop: each has its moment,
and how long the worker took for the one before does not move it. `POISON_AMONG=100000` is the long form.
"""

import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import StringIO
from typing import Any
from uuid import UUID, uuid4

import pytest
from rich.console import Console
from sqlalchemy.ext.asyncio import AsyncEngine

from builders import place_order, worker_environment
from common.contracts.codec import Message, headers_of, to_record
from common.contracts.topics import Topic, dead_letter_topic
from common.kafka.consumer import Apply, BatchConsumer, OnPoison
from common.kafka.publisher import Outcome, Publisher
from common.records import OutgoingRecord, Record
from eventually import eventually
from integration.core.broker import read_all, running
from integration.core.database import execute, rows
from local_stack.servers import Addresses
from workers import order_writer
from workers.redrive import run_command
from workers.resources import Resources, open_resources
from workers.settings import WorkersSettings

AMONG = int(os.environ.get("POISON_AMONG", "3000"))
RATE = int(os.environ.get("POISON_RATE", "500"))  # orders a second: what a busy machine sustains, too
EVERY = 100  # one record in so many is bad
TICK_S = 0.1  # what one call to publish gathers: how clients send, not how the worker reads
LONGEST_DELAY_S = 5
CUSTOMER = f"poison-{uuid4()}"  # the topic may hold orders of others
pytestmark = pytest.mark.timeout(120 + 3 * AMONG / RATE)

Change = dict[str, Any]
KINDS: dict[str, Callable[[bytes], bytes]] = {
    "undecodable": lambda _: b"\xff\x00 not json",
    "unknown version": lambda good: good.replace(b"PlaceOrder.v1", b"PlaceOrder.v99"),
    "text with a NUL": lambda good: changed(good, client_reference="a\0b"),
    "too large an int": lambda good: changed(good, total_minor=2**63),
    "too small a quantity": lambda good: changed(good, lines=[json.loads(good)["lines"][0] | {"quantity": 0}]),
    "from another time": lambda good: changed(good, accepted_at="1970-01-01T00:00:00Z"),
    "refused by the database alone": lambda good: changed(good, client_reference="cursed"),
}
# what no code of ours knows: found by halving the batch
A_RULE = "ALTER TABLE orders.orders ADD CONSTRAINT a_rule CHECK (client_reference <> 'cursed') NOT VALID"
NO_RULE = "ALTER TABLE orders.orders DROP CONSTRAINT IF EXISTS a_rule"


def changed(good: bytes, **fields: Any) -> bytes:
    return json.dumps(json.loads(good) | fields).encode()


@dataclass
class Traffic:
    """Orders, when each was due to be published, and when each was stored."""

    records: list[OutgoingRecord] = field(default_factory=list[OutgoingRecord])
    bad: dict[UUID, str] = field(default_factory=dict[UUID, str])
    due: dict[UUID, float] = field(default_factory=dict[UUID, float])
    stored: dict[UUID, float] = field(default_factory=dict[UUID, float])

    def __post_init__(self) -> None:
        kinds = [*KINDS]
        for number in range(AMONG):
            order_id = uuid4()
            order = place_order(order_id, accepted_at=datetime.now(UTC), customer_id=CUSTOMER)
            record = to_record(order, order_id, None)
            if number % EVERY == EVERY // 2:
                kind = self.bad[order_id] = kinds[number // EVERY % len(kinds)]
                spoilt = KINDS[kind](record.value or b"")
                record = OutgoingRecord(record.topic, record.key, spoilt, headers_of(order_id, None))
            self.records.append(record)

    async def flow(self, publisher: Publisher) -> None:
        begin = time.monotonic() + 0.1
        async with asyncio.TaskGroup() as sends:
            for first in range(0, AMONG, tick := max(1, int(RATE * TICK_S))):
                due = begin + first / RATE
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                batch = self.records[first : first + tick]
                self.due.update((id_of(record), due) for record in batch)
                sends.create_task(self._send(publisher, batch))

    async def _send(self, publisher: Publisher, batch: Sequence[OutgoingRecord]) -> None:
        assert set(await publisher.publish(batch)) == {Outcome.ACKED}

    @property
    def good(self) -> set[UUID]:
        return self.due.keys() - self.bad.keys()

    def delays_s(self) -> list[float]:
        return sorted(self.stored[i] - self.due[i] for i in self.good)


def id_of(record: OutgoingRecord | Record) -> UUID:
    return UUID((record.key or b"").decode())


class WatchedResources(Resources):
    """Those of the worker, but who has committed a batch is heard."""

    heard: Callable[[Sequence[Message]], None]

    def consumer(self, group: str, topics: list[str], apply: Apply, on_poison: OnPoison | None = None) -> BatchConsumer:
        async def watched(messages: Sequence[Message]) -> None:
            await apply(messages)
            WatchedResources.heard(messages)

        return super().consumer(group, topics, watched, on_poison)


@pytest.fixture
async def traffic(servers: Addresses, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Traffic]:
    """Beside a running order_writer that refuses what is cursed."""
    for name, setting in worker_environment(servers, 1).items():
        monkeypatch.setenv(name, setting)
    traffic = Traffic()

    def heard(messages: Sequence[Message]) -> None:
        now = time.monotonic()
        for message in messages:
            traffic.stored.setdefault(message.message_id, now)

    WatchedResources.heard = staticmethod(heard)
    await execute(engine, A_RULE)
    async with open_resources(WorkersSettings(), "order_writer") as r:  # pyright: ignore[reportCallIssue]
        worker = order_writer.build(WatchedResources(r.settings, r.engine, r.publisher, r.views))
        async with running(worker.run):
            await eventually(worker.ready, within=30)
            yield traffic
    await execute(engine, NO_RULE)


async def letters(servers: Addresses, traffic: Traffic) -> Counter[UUID]:
    found = await read_all(servers.kafka_bootstrap_servers, dead_letter_topic(Topic.ORDERS_COMMANDS))
    return Counter(id_of(r) for r in found if (r.key or b"").decode() in {str(i) for i in traffic.bad})


async def test_no_good_record_waits_for_the_bad_ones_and_replaying_them_twice_is_replaying_them_once(
    servers: Addresses, engine: AsyncEngine, publisher: Publisher, traffic: Traffic
) -> None:
    await traffic.flow(publisher)
    await eventually(lambda: traffic.good <= traffic.stored.keys(), within=60)

    delays_s = traffic.delays_s()
    median, most = delays_s[len(delays_s) // 2], delays_s[-1]
    print(f"{AMONG:,} orders at {RATE:,}/s, {len(traffic.bad):,} bad: delay {median:.3f} s median, {most:.3f} s most")
    assert most <= LONGEST_DELAY_S

    async def all_are_there() -> bool:
        return (await letters(servers, traffic)).keys() == traffic.bad.keys()

    await eventually(all_are_there, within=30)
    assert set((await letters(servers, traffic)).values()) == {1}
    assert (await what_is_stored(engine))[0][0] == len(traffic.good)

    await execute(engine, NO_RULE)
    mended = {i for i, kind in traffic.bad.items() if kind == "refused by the database alone"}
    await replay()
    await eventually(lambda: mended <= traffic.stored.keys(), within=30)
    await replay_is_over(servers, traffic, mended, copies=2)
    once = await what_is_stored(engine)
    await replay()
    await replay_is_over(servers, traffic, mended, copies=3)

    assert await what_is_stored(engine) == once
    assert once[0][0] == len(traffic.good) + len(mended)


async def replay() -> None:
    console = Console(file=StringIO(), width=200)
    await asyncio.to_thread(run_command, ["replay", "--all", Topic.ORDERS_COMMANDS], console)


async def replay_is_over(servers: Addresses, traffic: Traffic, mended: set[UUID], copies: int) -> None:
    """What is still bad has died again; the rest of the replay was read before or with it."""

    async def died_again() -> bool:
        found = await letters(servers, traffic)
        return all(found[i] == copies for i in traffic.bad.keys() - mended)

    await eventually(died_again, within=30)


async def what_is_stored(engine: AsyncEngine) -> list[Any]:
    return await rows(
        engine,
        """SELECT count(DISTINCT o.order_id), count(DISTINCT (o.order_id, line_no)), count(DISTINCT e.id), max(version)
           FROM orders.orders o JOIN orders.order_lines USING (order_id)
                JOIN orders.outbox e ON e.key = o.order_id::text
           WHERE customer_id = :customer""",
        customer=CUSTOMER,
    )
