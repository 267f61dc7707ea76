"""POST /v1/orders: what a client gets, and what is then in the log."""

import asyncio
from uuid import UUID

import pytest

from common.contracts.codec import MESSAGE_ID, TRACEPARENT
from common.contracts.values import OrderLine, order_id_for
from common.kafka.publisher import Outcome
from common.telemetry.tracing import trace_id_of
from gateway.schemas import Accepted, links_to
from unit.gateway.fakes import Door, bearer


async def test_an_accepted_order_is_in_the_log_with_our_price(door: Door) -> None:
    order = {"currency": "USD", "lines": [{"sku": "cd-1", "quantity": 3}, {"sku": "cd-2", "quantity": 1}]}

    answer = await door.place(order)

    command = door.publisher.command()
    assert answer.status_code == 202
    assert command.customer_id == "alice"
    assert command.total_minor == 3 * 1_177 + 2_999
    assert command.lines[0] == OrderLine(sku="cd-1", name="Record cd-1", quantity=3, unit_price_minor=1_177)


async def test_the_answer_says_where_to_look(door: Door) -> None:
    answer = await door.place()

    order_id = answer.json()["order_id"]
    assert answer.json() == {
        "order_id": order_id,
        "status": "accepted",
        "links": {
            "self": f"/v1/orders/{order_id}",
            "timeline": f"/v1/orders/{order_id}/timeline",
            "events": f"/v1/orders/{order_id}/events",
            "cancel": f"/v1/orders/{order_id}/cancel",
        },
    }
    assert answer.headers["location"] == f"/v1/orders/{order_id}"
    assert answer.headers["retry-after"] == "1"
    assert (await door.get(answer.headers["location"])).status_code == 200


async def test_message_id_record_key_and_order_are_one_id(door: Door) -> None:
    order_id = (await door.place()).json()["order_id"]

    (record,) = door.publisher.records
    assert record.topic == "orders.commands"
    assert record.key == order_id.encode()
    assert door.publisher.header(MESSAGE_ID) == order_id
    assert door.publisher.command().order_id == UUID(order_id)


async def test_the_same_key_is_the_same_order(door: Door) -> None:
    first = await door.place(idempotency_key="row-7")
    again = await door.place(idempotency_key="row-7")
    of_bob = await door.place(customer="bob", idempotency_key="row-7")

    assert first.json()["order_id"] == again.json()["order_id"] == str(order_id_for("alice", "row-7"))
    assert of_bob.json()["order_id"] != first.json()["order_id"]


async def test_without_a_key_each_call_is_an_order(door: Door) -> None:
    assert (await door.place()).json()["order_id"] != (await door.place()).json()["order_id"]


async def test_the_trace_goes_on_in_the_message(door: Door) -> None:
    await door.place(traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")

    assert trace_id_of(door.publisher.header(TRACEPARENT)) == "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize("garbage", ["", "garbage", "00-" + "0" * 32 + "-b7ad6b7169203331-01", "x" * 10_000])
async def test_a_garbage_traceparent_starts_a_new_trace(door: Door, garbage: str) -> None:
    answer = await door.place(traceparent=garbage, baggage="k=" + "v" * 10_000)

    assert answer.status_code == 202
    assert trace_id_of(door.publisher.header(TRACEPARENT)) not in (None, "0" * 32)


async def test_no_202_before_the_ack(door: Door) -> None:
    door.publisher.gate.clear()
    async with asyncio.TaskGroup() as tasks:
        placing = tasks.create_task(door.place())
        done, _ = await asyncio.wait({placing}, timeout=0.05)
        assert not done

        door.publisher.gate.set()

    assert placing.result().status_code == 202


async def test_refused_by_the_broker_is_503_and_leaves_no_marker(door: Door) -> None:
    door.publisher.outcome = Outcome.REFUSED

    answer = await door.place()

    assert answer.status_code == 503
    assert answer.json()["type"] == "urn:problem:not-accepted"
    assert answer.headers["retry-after"] == "1"
    assert door.markers.markers == {}


async def test_an_unclear_answer_names_the_order_and_the_way_out(door: Door) -> None:
    door.publisher.outcome = Outcome.UNKNOWN

    with_key = await door.place(idempotency_key="row-7")
    without_key = await door.place()

    assert with_key.status_code == without_key.status_code == 503
    assert with_key.json()["type"] == "urn:problem:outcome-unknown"
    assert with_key.json()["order_id"] == str(order_id_for("alice", "row-7"))
    assert "same key" in with_key.json()["detail"]
    assert "look for this order" in without_key.json()["detail"]
    assert with_key.headers["retry-after"] == "6"


async def test_redis_away_does_not_stop_orders(door: Door) -> None:
    door.markers.away = True

    assert (await door.place()).status_code == 202


async def test_cancel_is_a_command_of_its_own(door: Door) -> None:
    order_id = "6f1d4a52-4f0c-5b0e-9d5a-3a1a6c0f7a11"

    answer = await door.http.post(f"/v1/orders/{order_id}/cancel", headers=bearer())

    assert answer.status_code == 202
    assert answer.headers["location"] == f"/v1/orders/{order_id}"
    assert str(door.publisher.command().order_id) == order_id
    assert door.publisher.command().customer_id == "alice"
    assert door.publisher.header(MESSAGE_ID) != order_id
    assert door.markers.markers == {}


async def test_cancelling_what_has_no_id_is_404(door: Door) -> None:
    assert (await door.http.post("/v1/orders/42/cancel", headers=bearer())).status_code == 404


async def test_the_body_of_a_202_is_what_the_schema_says(door: Door) -> None:
    answer = await door.place()

    accepted = Accepted.model_validate_json(answer.content)
    assert answer.headers["location"] == accepted.links.self == f"/v1/orders/{accepted.order_id}"
    assert accepted.links == links_to(accepted.order_id)
