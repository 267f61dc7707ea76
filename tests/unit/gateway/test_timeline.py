"""The timeline at the door: what only the gateway knows, and what orders tells."""

from datetime import UTC, datetime
from uuid import UUID

from gateway.schemas import TimelineStep
from unit.gateway.fakes import Door

MOMENT = datetime(2026, 1, 2, 3, 4, 6, tzinfo=UTC)


async def test_an_order_that_is_only_accepted_has_one_step(door: Door) -> None:
    order_id = (await door.place()).json()["order_id"]
    view = (await door.get(f"/v1/orders/{order_id}")).json()

    answer = await door.get(view["links"]["timeline"])

    assert answer.status_code == 200
    (step,) = answer.json()["steps"]
    assert (step["what"], step["handled_at"], step["status"]) == ("accepted", view["accepted_at"], "accepted")
    assert step["topic"] is None


async def test_a_placed_order_begins_with_when_it_was_accepted(door: Door) -> None:
    order_id = UUID((await door.place()).json()["order_id"])
    door.move(order_id, "placed", 1)
    record = {"topic": "orders.commands", "partition": 3, "offset": 7, "attempt": 2, "trace_id": "7" * 32}
    step = TimelineStep.model_validate({"what": "PlaceOrder", "handled_at": MOMENT, "status": "placed", **record})
    door.orders.steps["alice", order_id] = [step]

    answer = (await door.get(f"/v1/orders/{order_id}/timeline")).json()

    assert answer["order_id"] == str(order_id)
    assert [s["what"] for s in answer["steps"]] == ["accepted", "PlaceOrder"]
    assert answer["steps"][1].items() >= {**record, "handled_at": "2026-01-02T03:04:06Z"}.items()


async def test_a_dead_letter_shows_when_it_died(door: Door) -> None:
    order_id = UUID((await door.place()).json()["order_id"])
    door.orders.dead[order_id] = MOMENT

    steps = (await door.get(f"/v1/orders/{order_id}/timeline")).json()["steps"]

    assert [(s["what"], s["status"]) for s in steps] == [("accepted", "accepted"), ("dead_letter", "needs_attention")]
    assert steps[1]["handled_at"] == "2026-01-02T03:04:06Z"


async def test_without_orders_there_is_no_timeline_and_it_says_so(door: Door) -> None:
    order_id = (await door.place()).json()["order_id"]
    door.orders.away = True

    assert (await door.get(f"/v1/orders/{order_id}/timeline")).status_code == 503
