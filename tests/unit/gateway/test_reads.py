"""Reading: never a 404 out of ignorance, never a look at somebody else's order."""

from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from gateway.lookup import Lookup
from gateway.memory import Memory, Offsets
from gateway.reads import Reads, View
from gateway.schemas import LineView, OrderView, links_to
from unit.gateway.fakes import Door, FakeCommandLog, FakeOrders, NoCachedViews, item_record


def view_of(order_id: UUID) -> OrderView:
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    line = LineView(sku="cd-1", name="Record cd-1", quantity=1, unit_price_minor=1_177)
    return OrderView(
        order_id=order_id,
        status="confirmed",
        version=4,
        currency="USD",
        total_minor=1_177,
        lines=[line],
        accepted_at=moment,
        updated_at=moment,
        links=links_to(order_id),
    )


async def test_an_order_in_postgres_is_shown_with_its_version(door: Door) -> None:
    order_id = uuid4()
    door.orders.views["alice", order_id] = view_of(order_id)

    answer = await door.get(f"/v1/orders/{order_id}")

    assert answer.status_code == 200
    assert answer.headers["etag"] == '"4"'
    assert answer.json()["status"] == "confirmed"
    assert answer.json()["total_minor"] == 1_177
    assert answer.json()["accepted_at"] == "2026-01-02T03:04:05Z"


async def test_an_accepted_order_is_never_404(door: Door) -> None:
    location = (await door.place()).headers["location"]

    answer = await door.get(location)

    assert answer.status_code == 200
    assert (answer.json()["status"], answer.json()["version"]) == ("accepted", 0)
    assert answer.headers["etag"] == '"0"'


async def test_an_order_in_the_dead_letter_topic_needs_attention_and_is_not_mistaken_for_accepted(door: Door) -> None:
    accepted = await door.get((await door.place()).headers["location"])
    order_id = UUID(accepted.json()["order_id"])
    door.orders.dead[order_id] = datetime(2026, 1, 2, 3, 4, 6, tzinfo=UTC)

    answer = await door.get(f"/v1/orders/{order_id}")

    assert (answer.json()["status"], answer.json()["reason"]) == ("needs_attention", "dead_letter")
    assert answer.json()["accepted_at"] == accepted.json()["accepted_at"]
    assert answer.json()["lines"] is None
    assert answer.headers["etag"] != accepted.headers["etag"]


async def test_a_strangers_dead_letter_is_the_same_404_as_none(door: Door) -> None:
    order_id = UUID((await door.place()).json()["order_id"])
    door.orders.dead[order_id] = datetime(2026, 1, 2, 3, 4, 6, tzinfo=UTC)

    assert (await door.get(f"/v1/orders/{order_id}", customer="bob")).status_code == 404


async def test_postgres_wins_over_the_marker(door: Door) -> None:
    order_id = UUID((await door.place()).json()["order_id"])
    door.orders.views["alice", order_id] = view_of(order_id)

    assert (await door.get(f"/v1/orders/{order_id}")).json()["version"] == 4


async def test_somebody_elses_order_is_the_same_404_as_none(door: Door) -> None:
    of_alice = (await door.place()).headers["location"]
    of_nobody = f"/v1/orders/{uuid4()}"

    answers = [await door.get(path, customer="bob") for path in (of_alice, of_nobody)]

    assert [answer.status_code for answer in answers] == [404, 404]
    assert answers[0].json()["title"] == answers[1].json()["title"]


async def test_redis_away_means_unknown_not_404(door: Door) -> None:
    door.markers.away = True

    answer = await door.get(f"/v1/orders/{uuid4()}")

    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert "fake" not in answer.text  # the cause is for the log


async def test_a_missing_marker_says_nothing_while_redis_may_have_forgotten_what_is_not_written_yet(door: Door) -> None:
    location = (await door.place()).headers["location"]
    door.log.written = 4
    door.markers.forget()

    without_epoch = await door.get(location)
    await door.markers.write_epoch("second", replace=False)
    before_it_is_written = await door.get(location)
    door.log.written = 5
    unknown = await door.get(f"/v1/orders/{uuid4()}")

    assert [answer.status_code for answer in (without_epoch, before_it_is_written, unknown)] == [503, 503, 404]
    assert without_epoch.json()["type"] == "urn:problem:cannot-say-yet"
    assert without_epoch.headers["retry-after"] == "1"


async def test_an_order_that_was_written_while_the_log_was_asked_is_found(door: Door) -> None:
    location = (await door.place()).headers["location"]
    order_id = UUID(location.rpartition("/")[2])
    door.markers.forget()
    await door.markers.write_epoch("second", replace=False)

    class WritesNow(FakeCommandLog):
        async def is_beyond(self, ends: Offsets) -> bool:
            door.orders.views["alice", order_id] = view_of(order_id)
            return True

    reads = Reads(NoCachedViews(), door.orders)
    async with reads.running():
        found = await Lookup(reads, door.markers, Memory(door.markers, WritesNow())).find(order_id, "alice")

    assert found.version == 4


async def test_an_order_that_was_written_between_asking_postgres_and_redis_is_found(door: Door) -> None:
    """What was written is what made the epoch trusted: Postgres, asked before, did not know it yet."""
    location = (await door.place()).headers["location"]
    order_id = UUID(location.rpartition("/")[2])
    door.markers.forget()
    await door.markers.write_epoch("second", replace=False)
    memory = Memory(door.markers, FakeCommandLog())

    class TrustedMeanwhile(FakeOrders):
        async def view(self, order_id: UUID, customer_id: str, lease: str) -> View | None:
            found = await super().view(order_id, customer_id, lease)
            self.views["alice", order_id] = view_of(order_id)
            assert await memory.learn_to_trust("second")
            return found

    reads = Reads(NoCachedViews(), TrustedMeanwhile())
    async with reads.running():
        found = await Lookup(reads, door.markers, memory).find(order_id, "alice")

    assert found.version == 4


async def test_orders_away_is_503_even_with_a_marker(door: Door) -> None:
    location = (await door.place()).headers["location"]
    door.orders.away = True

    assert (await door.get(location)).status_code == 503
    assert (await door.get("/v1/orders")).status_code == 503


@pytest.mark.parametrize("order_id", ["42", "{0}", "urn:uuid:{0}", "x" * 1_000, "%00", "0" * 32])
async def test_a_malformed_id_is_404(door: Door, order_id: str) -> None:
    answer = await door.get(f"/v1/orders/{order_id.format(uuid4().hex)}")

    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_list_shows_only_my_orders(door: Door) -> None:
    mine, other = uuid4(), uuid4()
    door.orders.views = {("alice", mine): view_of(mine), ("bob", other): view_of(other)}

    answer = await door.get("/v1/orders?status=confirmed&limit=5&cursor=abc&unknown=1")

    assert answer.status_code == 200
    assert [order["order_id"] for order in answer.json()["orders"]] == [str(mine)]
    assert answer.json()["next_cursor"] is None
    assert door.orders.asked == {"customer_id": "alice", "status": "confirmed", "limit": 5, "cursor": "abc"}


async def test_a_page_is_twenty_by_default(door: Door) -> None:
    await door.get("/v1/orders")

    assert door.orders.asked["limit"] == 20


@pytest.mark.parametrize("query", ["limit=-1", "limit=0", "limit=101", "limit=x", "status=lost", "cursor=" + "x" * 513])
async def test_a_bad_query_is_422_and_named(door: Door, query: str) -> None:
    answer = await door.get(f"/v1/orders?{query}")

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert [error["field"] for error in answer.json()["errors"]] == [query.partition("=")[0]]


async def test_a_tampered_cursor_is_400(door: Door) -> None:
    answer = await door.get("/v1/orders?cursor=tampered")

    assert answer.status_code == 400
    assert answer.json()["type"] == "urn:problem:bad-cursor"


async def test_the_catalog_needs_no_token_and_comes_in_pages(door: Door) -> None:
    door.catalog.update([item_record("a-1", 100)])

    first = (await door.http.get("/v1/catalog?limit=3")).json()
    second = (await door.http.get("/v1/catalog", params={"limit": 3, "cursor": first["next_cursor"]})).json()

    assert [item["sku"] for item in first["items"]] == ["a-1", "cd-1", "cd-2"]
    assert first["items"][1] == {"sku": "cd-1", "name": "Record cd-1", "currency": "USD", "price_minor": 1_177}
    assert [item["sku"] for item in second["items"]] == ["eur-1"]
    assert second["next_cursor"] is None
