"""While nobody can say how an order is: as it was last seen, with its age, and never older than its reader knows."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import pytest

from common.errors import InfrastructureError
from gateway.last_views import LastViews
from gateway.reads import View
from unit.gateway.fakes import Door, open_door


@dataclass
class AwayDoor:
    """A gateway that has served version 2 of an order of alice; 12 seconds later the orders service is away."""

    door: Door
    order_id: UUID = field(default_factory=uuid4)

    @property
    def path(self) -> str:
        return f"/v1/orders/{self.order_id}"


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


async def served_then_away(door: Door, clock: Clock, *, status: str) -> AwayDoor:
    away = AwayDoor(door)
    door.move(away.order_id, status, 2)
    assert (await door.get(away.path)).status_code == 200
    clock.now += 12.9
    door.orders.away = True
    return away


@pytest.fixture
async def door_and_clock() -> AsyncGenerator[tuple[Door, Clock]]:
    clock = Clock()
    async with open_door(clock=clock) as door:
        yield door, clock


@pytest.fixture
async def away(door_and_clock: tuple[Door, Clock]) -> AwayDoor:
    return await served_then_away(*door_and_clock, status="reserved")


@pytest.mark.parametrize("known", ['"1"', 'W/"1"', '"0-dead-letter"', '"0", "1"'])
async def test_a_reader_with_an_older_version_gets_the_copy_marked_with_its_age(away: AwayDoor, known: str) -> None:
    answer = await away.door.get(away.path, if_none_match=known)

    assert (answer.status_code, answer.headers["etag"], answer.json()["status"]) == (200, '"2"', "reserved")
    assert (answer.headers["age"], answer.headers["cache-status"]) == ("12", "headrace; hit; ttl=-12")


async def test_a_reader_with_the_same_version_hears_that_nothing_newer_is_known(away: AwayDoor) -> None:
    answer = await away.door.get(away.path, if_none_match='"2"')

    assert (answer.status_code, answer.headers["age"]) == (304, "12")


@pytest.mark.parametrize("known", [None, '"3"', '"1", "3"', "*", '"made-up"', ""])
async def test_a_reader_who_may_have_seen_a_newer_version_gets_503(away: AwayDoor, known: str | None) -> None:
    answer = await away.door.get(away.path, **({} if known is None else {"if_none_match": known}))

    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"


async def test_a_final_order_has_no_newer_version_and_is_shown_to_anybody_who_may_see_it(
    door_and_clock: tuple[Door, Clock],
) -> None:
    away = await served_then_away(*door_and_clock, status="confirmed")

    answer = await away.door.get(away.path)

    assert (answer.status_code, answer.headers["age"]) == (200, "12")
    assert (await away.door.get(away.path, customer="mallory", if_none_match='"1"')).status_code == 503


async def test_an_order_never_served_here_is_503_while_nobody_can_say(away: AwayDoor) -> None:
    answer = await away.door.get(f"/v1/orders/{uuid4()}", if_none_match='"0"')

    assert answer.status_code == 503


async def test_who_waits_for_a_change_gets_304_with_the_age_when_the_time_is_over(away: AwayDoor) -> None:
    answer = await away.door.get(f"{away.path}?wait=1", if_none_match='"2"')

    assert (answer.status_code, answer.headers["age"]) == (304, "12")


async def test_once_orders_is_back_there_is_no_mark(away: AwayDoor) -> None:
    away.door.orders.away = False
    away.door.move(away.order_id, "authorized", 3)

    answer = await away.door.get(away.path, if_none_match='"2"')

    assert (answer.status_code, answer.headers["etag"]) == (200, '"3"')
    assert "age" not in answer.headers
    assert "cache-status" not in answer.headers


class Finder:
    """Finds what stands in `views`, one after the other; an order that has nothing left cannot be found."""

    def __init__(self) -> None:
        self.views: dict[UUID, list[View]] = {}

    async def find(self, order_id: UUID, customer_id: str) -> View:
        if not self.views.get(order_id):
            raise InfrastructureError("nobody can say")
        return self.views[order_id].pop(0)


async def test_of_two_reads_of_which_the_older_ends_last_the_newer_is_kept() -> None:
    finder, order_id = Finder(), uuid4()
    finder.views[order_id] = [View(3, b"{}"), View(2, b"{}")]
    last = LastViews(finder)
    for _ in range(2):
        await last.find(order_id, "alice", None)

    assert (await last.find(order_id, "alice", '"1"')).version == 3


async def test_only_the_last_views_are_kept() -> None:
    finder, ids = Finder(), [uuid4() for _ in range(4)]
    finder.views = {order_id: [View(1, b'{"status": "placed"}')] * 2 for order_id in ids}
    last = LastViews(finder, kept=3)
    for order_id in ids[:3] + ids[:1] + ids[3:]:
        await last.find(order_id, "alice", None)
    finder.views.clear()

    assert (await last.find(ids[0], "alice", '"1"')).age_s == 0  # read again before the fourth came
    with pytest.raises(InfrastructureError):
        await last.find(ids[1], "alice", '"1"')
