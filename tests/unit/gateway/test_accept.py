"""Group commit: one publish for many requests, and to each the fate of its own record."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from common.kafka.publisher import OnLateAck, Outcome
from common.records import OutgoingRecord
from gateway.accept import Acceptor
from gateway.idempotency import Call, Marker, Verdict
from unit.gateway.fakes import FakePublisher, FakeStore


def record(key: str) -> OutgoingRecord:
    return OutgoingRecord("orders.commands", key.encode(), b"{}", [])


def call(order_id: UUID | None = None) -> Call:
    order_id = order_id or uuid4()
    return Call("alice", order_id, "attempt", marker=Marker(order_id, "alice", datetime.now(UTC)))


async def test_requests_that_come_together_are_one_publish() -> None:
    publisher = FakePublisher()
    acceptor = Acceptor(publisher, FakeStore())

    async with acceptor.running():
        outcomes = await asyncio.gather(*(acceptor.accept(record(str(n)), call()) for n in range(50)))

    assert [outcome.verdict for outcome in outcomes] == [Verdict.ACCEPTED] * 50
    assert [len(batch) for batch in publisher.batches] == [50]


async def test_what_comes_one_by_one_gathers_behind_the_publish_that_is_under_way() -> None:
    publisher = FakePublisher()
    publisher.gate.clear()
    acceptor = Acceptor(publisher, FakeStore(), gather_s=60)

    async with acceptor.running(), asyncio.TaskGroup() as tasks:
        tasks.create_task(acceptor.accept(record("first"), call()))
        await publisher.called.wait()
        for n in range(20):
            tasks.create_task(acceptor.accept(record(str(n)), call()))
            await asyncio.sleep(0)
        publisher.gate.set()

    assert [len(batch) for batch in publisher.batches] == [1, 20]


async def test_nobody_gathers_for_long_behind_a_slow_publish() -> None:
    publisher = FakePublisher()
    publisher.gate.clear()
    acceptor = Acceptor(publisher, FakeStore(), gather_s=0, queue_deadline_s=60)

    async with acceptor.running(), asyncio.TaskGroup() as tasks:
        for name in ("first", "second"):
            publisher.called.clear()
            tasks.create_task(acceptor.accept(record(name), call()))
            await publisher.called.wait()  # the second does not wait for the end of the first
        publisher.gate.set()


async def test_each_request_gets_the_outcome_of_its_own_record() -> None:
    class Mixed(FakePublisher):
        async def publish(self, records: Sequence[OutgoingRecord], on_late_ack: OnLateAck = None) -> list[Outcome]:
            return [Outcome((r.key or b"").decode()) for r in records]

    markers = FakeStore()
    acceptor = Acceptor(Mixed(), markers)
    ids = [uuid4() for _ in range(3)]

    async with acceptor.running():
        asked = [acceptor.accept(record(o.value), call(i)) for o, i in zip(Outcome, ids, strict=True)]
        outcomes = await asyncio.gather(*asked)

    assert [o.verdict for o in outcomes] == [Verdict.ACCEPTED, Verdict.REFUSED, Verdict.UNKNOWN]
    assert set(markers.markers) == {ids[0]}  # only what was acked is remembered


async def test_the_marker_is_there_before_the_answer() -> None:
    markers = FakeStore()
    acceptor = Acceptor(FakePublisher(), markers)
    order_id = uuid4()

    async with acceptor.running():
        await acceptor.accept(record("a"), call(order_id))
        assert order_id in markers.markers


async def test_a_cancelled_request_takes_nobody_with_it() -> None:
    publisher = FakePublisher()
    publisher.gate.clear()
    acceptor = Acceptor(publisher, FakeStore(), capacity=2)

    async with acceptor.running(), asyncio.TaskGroup() as tasks:
        cancelled, other = (tasks.create_task(acceptor.accept(record(key), call())) for key in "ab")
        await publisher.called.wait()
        assert acceptor.full()
        cancelled.cancel()
        await asyncio.wait({cancelled})
        assert not acceptor.full()
        publisher.gate.set()

    assert cancelled.cancelled()
    assert other.result().verdict is Verdict.ACCEPTED
    assert [len(batch) for batch in publisher.batches] == [2]


async def test_nobody_waits_behind_a_broker_that_stands_still() -> None:
    publisher = FakePublisher()
    publisher.gate.clear()
    acceptor = Acceptor(publisher, FakeStore(), max_in_flight=1, queue_deadline_s=0.01)

    async with acceptor.running(), asyncio.TaskGroup() as tasks:
        stuck = tasks.create_task(acceptor.accept(record("stuck"), call()))
        await publisher.called.wait()

        behind = await acceptor.accept(record("behind"), call())
        publisher.gate.set()

    assert behind.verdict is Verdict.REFUSED
    assert stuck.result().verdict is Verdict.ACCEPTED
    assert [r.key for r in publisher.records] == [b"stuck"]  # refused means surely not written


async def test_slow_markers_do_not_hold_up_the_log() -> None:
    class Slow(FakeStore):
        def __init__(self) -> None:
            super().__init__()
            self.gate = asyncio.Event()

        async def settle(self, settled: Sequence[tuple[Call, Outcome]]) -> None:
            await self.gate.wait()

    publisher, markers = FakePublisher(), Slow()
    acceptor = Acceptor(publisher, markers, max_in_flight=1, queue_deadline_s=0.01)

    async with acceptor.running(), asyncio.TaskGroup() as tasks:
        tasks.create_task(acceptor.accept(record("a"), call()))
        await publisher.called.wait()
        second = await acceptor.accept(record("b"), Call("alice", uuid4(), "attempt"))  # nothing to settle
        markers.gate.set()

    assert second.verdict is Verdict.ACCEPTED


async def test_a_publisher_that_breaks_ends_the_process_and_leaves_nobody_waiting() -> None:
    class Broken(FakePublisher):
        async def publish(self, records: Sequence[OutgoingRecord], on_late_ack: OnLateAck = None) -> list[Outcome]:
            raise RuntimeError("a bug")

    acceptor = Acceptor(Broken(), FakeStore())
    outcomes: list[Verdict] = []

    async def ask() -> None:
        outcomes.append((await acceptor.accept(record("a"), call())).verdict)

    async def serve() -> None:
        async with acceptor.running():
            await ask()
            await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup) as failure:
        await serve()

    assert failure.group_contains(RuntimeError, match="a bug")
    assert outcomes == [Verdict.UNKNOWN]


async def test_the_end_waits_for_what_is_in_flight() -> None:
    publisher = FakePublisher()
    publisher.gate.clear()
    acceptor = Acceptor(publisher, FakeStore())

    async with asyncio.TaskGroup() as tasks, acceptor.running():
        asked = tasks.create_task(acceptor.accept(record("a"), call()))
        await publisher.called.wait()
        tasks.create_task(_open(publisher))

    assert asked.result().verdict is Verdict.ACCEPTED


async def _open(publisher: FakePublisher) -> None:
    publisher.gate.set()
