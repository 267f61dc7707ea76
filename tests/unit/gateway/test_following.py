"""Waiting for a change of an order, and following it: woken by events, and by the poll when nothing is heard."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from time import perf_counter
from uuid import UUID, uuid4

import httpx
import pytest
from prometheus_client import REGISTRY

from common.errors import InfrastructureError
from eventually import eventually
from gateway.following import FINAL, Following
from gateway.order_events import OrderEvents
from gateway.reads import View
from orders.domain import order
from unit.gateway.fakes import Door, bearer, event_record, open_door

Frame = tuple[str, str, int]  # id, event, and the version in the data


def frames(text: str) -> list[Frame]:
    """The events of a whole stream; comments are left out."""
    found: list[Frame] = []
    for block in text.split("\n\n"):
        if block and not block.startswith(":"):
            fields = dict(line.split(": ", 1) for line in block.split("\n"))
            found.append((fields["id"], fields["event"], json.loads(fields["data"])["version"]))
    return found


def followers(kind: str) -> float:
    return REGISTRY.get_sample_value("headrace_followers", {"kind": kind}) or 0


@asynccontextmanager
async def call(door: Door, path: str, kind: str, **headers: str) -> AsyncGenerator["asyncio.Task[httpx.Response]"]:
    """A call that waits, or streams, by now; at the end of the block it must be answered."""
    before = followers(kind)
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        task = tasks.create_task(door.get(path, **headers))
        await eventually(lambda: followers(kind) == before + 1, within=5)
        await asyncio.sleep(0)
        yield task


async def placed(door: Door) -> UUID:
    return UUID((await door.place()).json()["order_id"])


@pytest.mark.parametrize("wait", ["-1", "11", "1.5", "x", "", "100", "٣", "5&wait=5", "1e1", " 1"])
async def test_a_wait_that_is_no_integer_from_0_to_10_is_422_and_named(door: Door, wait: str) -> None:
    answer = await door.get(f"/v1/orders/{await placed(door)}?wait={wait}")

    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == ["wait"]


def test_final_is_what_orders_calls_final() -> None:
    assert FINAL == order.FINAL


@pytest.mark.parametrize("query", ["wait=0", "other=1", "wait=00"])
async def test_without_a_wait_it_answers_at_once(door: Door, query: str) -> None:
    answer = await door.get(f"/v1/orders/{await placed(door)}?{query}")

    assert answer.json()["status"] == "accepted"


async def test_a_wait_sees_accepted_become_placed_and_answers_no_sooner(door: Door) -> None:
    order_id = await placed(door)

    async with call(door, f"/v1/orders/{order_id}?wait=10", "wait") as waiting:
        door.events.hear([event_record(uuid4())])  # of somebody else's order
        door.events.hear([event_record(order_id)])  # heard before the new version can be read
        await eventually(lambda: not waiting.done(), within=1)
        door.move(order_id, "placed", 1)

    assert (waiting.result().json()["status"], waiting.result().headers["etag"]) == ("placed", '"1"')
    assert followers("wait") == 0


async def test_a_wait_for_a_version_that_is_old_already_is_answered_at_once(door: Door) -> None:
    order_id = await placed(door)
    door.move(order_id, "placed", 1)

    answer = await door.get(f"/v1/orders/{order_id}?wait=10", if_none_match='"0"')

    assert answer.json()["status"] == "placed"


async def test_a_wait_with_nothing_changing_ends_at_its_end(door: Door) -> None:
    path = f"/v1/orders/{await placed(door)}?wait=1"

    started = perf_counter()
    with_tag, without = await asyncio.gather(door.get(path, if_none_match='"0"'), door.get(path))

    assert 0.95 < perf_counter() - started < 5
    assert (with_tag.status_code, with_tag.headers["etag"]) == (304, '"0"')
    assert (without.status_code, without.json()["status"]) == (200, "accepted")


async def test_a_final_order_is_not_waited_for(door: Door) -> None:
    order_id = await placed(door)
    door.move(order_id, "confirmed", 4)
    path = f"/v1/orders/{order_id}?wait=10"

    async with asyncio.timeout(5):
        assert (await door.get(path)).status_code == 200
        assert (await door.get(path, if_none_match='"4"')).status_code == 304


async def test_a_change_that_nobody_heard_of_is_found_by_the_poll() -> None:
    async with open_door(following=partial(Following, poll_s=0.05)) as door:
        order_id = await placed(door)

        async with call(door, f"/v1/orders/{order_id}?wait=10", "wait") as waiting:
            door.move(order_id, "placed", 1, heard=False)

        assert waiting.result().json()["status"] == "placed"


async def test_over_the_bound_a_wait_is_no_wait_and_a_stream_is_503() -> None:
    async with open_door(following=partial(Following, poll_s=60, max_waiting=1, max_streams=1)) as door:
        order_id = await placed(door)
        path = f"/v1/orders/{order_id}"

        async with call(door, f"{path}?wait=10", "wait"), call(door, f"{path}/events", "stream") as streaming:
            answer, refused = await door.get(f"{path}?wait=10"), await door.get(f"{path}/events")
            door.move(order_id, "confirmed", 4)
        again = await door.get(f"{path}/events")

    assert answer.json()["status"] == "accepted"
    assert (refused.status_code, refused.json()["type"]) == (503, "urn:problem:overloaded")
    assert int(refused.headers["retry-after"]) > 0
    assert streaming.result().status_code == again.status_code == 200  # there is room again


async def test_a_thousand_wait_for_as_many_orders_and_each_is_woken_by_its_own() -> None:
    events, order_ids = OrderEvents(), [uuid4() for _ in range(1_000)]
    following = Following(events, poll_s=60)
    versions, reads = dict.fromkeys(order_ids, 1), dict.fromkeys(order_ids, 0)

    async def find(order_id: UUID) -> View:
        reads[order_id] += 1
        return View(versions[order_id], b'{"status":"placed"}')

    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(following.change(i, partial(find, i), None, 10)) for i in order_ids]
        await eventually(lambda: followers("wait") == 1_000 and all(reads.values()), within=5)
        for order_id in order_ids[:500]:
            versions[order_id] = 2
        events.hear([event_record(order_id) for order_id in order_ids[:500]])
        await eventually(lambda: all(task.done() for task in waiting[:500]), within=5)
        asleep = [task for task in waiting[500:] if not task.done()]
        events.close()  # the others are answered now

    assert [task.result().version for task in waiting] == [2] * 500 + [1] * 500
    assert (len(asleep), set(reads.values())) == (500, {2})


async def test_a_stream_shows_the_whole_life_of_an_order_and_ends(door: Door) -> None:
    order_id = await placed(door)

    async with call(door, f"/v1/orders/{order_id}/events", "stream") as streaming:
        before = door.orders.read
        for version, status in enumerate(("placed", "reserved", "authorized", "confirmed"), 1):
            door.move(order_id, status, version)
            await eventually(lambda n=version: door.orders.read >= before + n, within=5)

    answer = streaming.result()
    assert frames(answer.text) == [
        ("0", "accepted", 0),
        ("1", "placed", 1),
        ("2", "reserved", 2),
        ("3", "authorized", 3),
        ("4", "confirmed", 4),
    ]
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert (answer.headers["cache-control"], answer.headers["x-accel-buffering"]) == ("no-store", "no")
    data = answer.text.split("data: ")[-1].strip()
    assert data == (await door.get(f"/v1/orders/{order_id}")).text
    assert followers("stream") == 0


async def test_a_stream_goes_on_after_the_last_event_that_the_client_has(door: Door) -> None:
    order_id = await placed(door)
    door.move(order_id, "reserved", 2)

    async with call(door, f"/v1/orders/{order_id}/events", "stream", last_event_id="2") as streaming:
        door.events.hear([event_record(order_id)])
        door.move(order_id, "confirmed", 4)
    foreign = await door.get(f"/v1/orders/{order_id}/events", last_event_id="not ours")

    assert frames(streaming.result().text) == [("4", "confirmed", 4)]
    assert frames(foreign.text) == [("4", "confirmed", 4)]


async def test_who_has_the_final_version_is_told_not_to_come_back(door: Door) -> None:
    order_id = await placed(door)
    door.move(order_id, "cancelled", 3)

    answer = await door.get(f"/v1/orders/{order_id}/events", last_event_id="3")

    assert (answer.status_code, answer.content) == (204, b"")


async def test_a_dead_letter_is_a_version_of_its_own_and_not_the_end(door: Door) -> None:
    order_id = await placed(door)

    async with call(door, f"/v1/orders/{order_id}/events", "stream", last_event_id="0") as streaming:
        door.orders.dead[order_id] = datetime(2026, 1, 2, 3, 4, 6, tzinfo=UTC)
        before = door.orders.read
        door.events.hear([event_record(order_id)])
        await eventually(lambda: door.orders.read > before, within=5)
        door.orders.dead.clear()  # mended and sent again
        door.move(order_id, "rejected", 2)

    assert frames(streaming.result().text) == [("0-dead-letter", "needs_attention", 0), ("2", "rejected", 2)]


async def test_a_quiet_stream_shows_that_it_lives_and_ends_after_its_time() -> None:
    async with open_door(following=partial(Following, heartbeat_s=0.05, stream_life_s=0.2)) as door:
        answer = await door.get(f"/v1/orders/{await placed(door)}/events")

    assert frames(answer.text) == [("0", "accepted", 0)]
    assert answer.text.count(": heartbeat\n\n") >= 2


async def test_a_stream_outlives_trouble_behind_the_gateway() -> None:
    async with open_door(following=partial(Following, poll_s=0.02)) as door:
        order_id = await placed(door)

        async with call(door, f"/v1/orders/{order_id}/events", "stream") as streaming:
            door.orders.away = True
            before = door.orders.read
            await eventually(lambda: door.orders.read > before + 2, within=5)
            door.orders.away = False
            door.move(order_id, "confirmed", 4)

    assert frames(streaming.result().text)[-1] == ("4", "confirmed", 4)


async def test_a_strangers_stream_is_the_same_404_as_none(door: Door) -> None:
    order_id = await placed(door)

    answers = [
        await door.get(f"/v1/orders/{i}/{what}", customer="bob")
        for i in (order_id, uuid4(), "nonsense")
        for what in ("events", "timeline")
    ]

    assert {(a.status_code, a.json()["title"]) for a in answers} == {(404, "There is nothing here")}
    assert (await door.http.get(f"/v1/orders/{order_id}/events")).status_code == 401
    forbidden = bearer(scope="orders:write")
    assert (await door.http.get(f"/v1/orders/{order_id}/timeline", headers=forbidden)).status_code == 403


async def test_at_shutdown_everybody_is_answered_at_once_and_nobody_waits_any_more(door: Door) -> None:
    path = f"/v1/orders/{await placed(door)}"

    async with call(door, f"{path}?wait=10", "wait") as waiting, call(door, f"{path}/events", "stream") as streaming:
        door.events.close()
    late = await door.get(f"{path}?wait=10"), await door.get(f"{path}/events")

    assert waiting.result().json()["status"] == "accepted"
    assert frames(streaming.result().text) == [("0", "accepted", 0)]
    assert [answer.status_code for answer in late] == [200, 200]


async def test_a_reader_that_fails_is_replaced_and_the_next_one_is_heard() -> None:
    events, order_id, stop = OrderEvents(), uuid4(), asyncio.Event()
    opened: list[object] = []

    class Reader:
        async def run(self, stop: asyncio.Event) -> None:
            opened.append(self)
            if len(opened) == 1:
                raise InfrastructureError("the broker is away")
            events.hear([event_record(order_id)])
            await stop.wait()

    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        with events.of(order_id) as heard:
            tasks.create_task(events.listen(stop, Reader))
            await heard.wait()
        stop.set()

    assert len(opened) == 2
