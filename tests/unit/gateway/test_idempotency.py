"""Each cell of the idempotency table, over fakes; the contract suite says that Redis keeps the same promises."""

import asyncio
from typing import Any

import httpx
import pytest

from common.contracts.values import order_id_for
from common.kafka.publisher import Outcome
from eventually import eventually
from unit.gateway.fakes import ONE_CD, Door

OTHER: dict[str, Any] = {"currency": "USD", "lines": [{"sku": "cd-2", "quantity": 1}]}
KEY_ORDER = str(order_id_for("alice", "row-7"))


async def send(door: Door, order: object = ONE_CD) -> httpx.Response:
    return await door.place(order, idempotency_key="row-7")


async def test_new_is_202(door: Door) -> None:
    answer = await send(door)

    assert (answer.status_code, answer.json()["order_id"]) == (202, KEY_ORDER)
    assert "idempotent-replayed" not in answer.headers


async def test_accepted_and_the_same_body_is_the_same_202_and_no_second_record(door: Door) -> None:
    first, again = await send(door), await send(door, {**ONE_CD, "client_reference": None})

    assert again.status_code == 202
    assert again.headers["idempotent-replayed"] == "true"
    assert again.content == first.content
    assert again.headers["location"] == first.headers["location"]
    assert len(door.publisher.records) == 1


async def test_accepted_and_another_body_is_422(door: Door) -> None:
    await send(door)

    answer = await send(door, OTHER)

    assert answer.status_code == 422
    assert answer.json()["type"] == "urn:problem:idempotency-key-reused"
    assert len(door.publisher.records) == 1


async def test_in_flight_and_the_same_body_gets_the_answer_of_the_first(door: Door) -> None:
    door.publisher.gate.clear()
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(send(door))
        await door.publisher.called.wait()
        second = tasks.create_task(send(door))
        await asyncio.wait({second}, timeout=0.05)
        door.publisher.gate.set()

    assert first.result().status_code == second.result().status_code == 202
    assert second.result().headers["idempotent-replayed"] == "true"
    assert len(door.publisher.records) == 1


async def test_in_flight_for_longer_than_a_second_is_409(door: Door) -> None:
    door.publisher.gate.clear()
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(send(door))
        await door.publisher.called.wait()
        second = await send(door)
        door.publisher.gate.set()

    assert second.status_code == 409
    assert second.headers["retry-after"] == "1"
    assert first.result().status_code == 202


async def test_in_flight_and_another_body_is_422_at_once(door: Door) -> None:
    door.publisher.gate.clear()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(send(door))
        await door.publisher.called.wait()
        async with asyncio.timeout(0.5):
            second = await send(door, OTHER)
        door.publisher.gate.set()

    assert second.status_code == 422


async def test_unknown_and_the_same_body_is_503_while_the_claim_stands_then_the_same_id_is_published(
    door: Door,
) -> None:
    door.publisher.outcome = Outcome.UNKNOWN
    first, soon = await send(door), await send(door)
    door.publisher.outcome = Outcome.ACKED
    door.markers.now += 6  # as Retry-After said
    later = await send(door)

    assert [answer.status_code for answer in (first, soon, later)] == [503, 503, 202]
    assert first.headers["retry-after"] == soon.headers["retry-after"] == "6"
    assert soon.json()["type"] == "urn:problem:outcome-unknown"
    assert [record.key for record in door.publisher.records] == [KEY_ORDER.encode()] * 2


async def test_unknown_and_acked_after_all_is_accepted(door: Door) -> None:
    door.publisher.outcome = Outcome.UNKNOWN
    first = await send(door)
    door.publisher.ack_late()

    await eventually(lambda: door.markers.markers, within=5)
    second, read = await send(door), await door.get(f"/v1/orders/{KEY_ORDER}")

    assert [answer.status_code for answer in (first, second, read)] == [503, 202, 200]
    assert second.headers["idempotent-replayed"] == "true"
    assert len(door.publisher.records) == 1


async def test_unknown_and_another_body_is_422(door: Door) -> None:
    door.publisher.outcome = Outcome.UNKNOWN
    await send(door)

    assert (await send(door, OTHER)).status_code == 422


async def test_refused_releases_the_claim(door: Door) -> None:
    door.publisher.outcome = Outcome.REFUSED
    assert (await send(door)).status_code == 503
    door.publisher.outcome = Outcome.ACKED

    assert (await send(door)).status_code == 202


@pytest.mark.parametrize("body", [ONE_CD, OTHER])
async def test_a_lost_claim_publishes_the_same_id_again(door: Door, body: object) -> None:
    first = await send(door)
    door.markers.forget()

    again = await send(door, body)

    assert again.status_code == 202
    assert again.json() == first.json()
    assert {record.key for record in door.publisher.records} == {KEY_ORDER.encode()}


async def test_an_expired_claim_publishes_the_same_id_again(door: Door) -> None:
    await send(door)
    door.markers.now += 86_401

    again = await send(door)

    assert (again.status_code, again.json()["order_id"]) == (202, KEY_ORDER)


async def test_another_customers_key_is_another_order(door: Door) -> None:
    mine, theirs = await send(door), await door.place(OTHER, customer="bob", idempotency_key="row-7")

    assert theirs.status_code == 202
    assert theirs.json()["order_id"] != mine.json()["order_id"]


@pytest.mark.parametrize("away", [False, True])
async def test_50_parallel_copies_are_one_order_with_one_answer(door: Door, away: bool) -> None:
    door.markers.away = away

    answers = await asyncio.gather(*(send(door) for _ in range(50)))

    assert {(answer.status_code, answer.content) for answer in answers} == {(202, answers[0].content)}
    assert {record.key for record in door.publisher.records} == {KEY_ORDER.encode()}
    assert away or len(door.publisher.records) == 1
