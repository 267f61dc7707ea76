"""How old the oldest accepted order is that is not written: told from marks in the log."""

from dataclasses import dataclass, field

import pytest

from common.errors import InfrastructureError
from gateway import backlog as module
from gateway.backlog import Backlog, Offsets


@dataclass
class FakeOrderWriter:
    """Its partitions, 0 and 1: what was accepted, and what of it is written."""

    accepted: dict[int, int] = field(default_factory=lambda: {0: 0, 1: 0})
    written: dict[int, int] = field(default_factory=dict[int, int])
    away: bool = False

    async def position(self) -> tuple[Offsets, Offsets]:
        if self.away:
            raise InfrastructureError("the fake broker is away")
        return dict(self.written), dict(self.accepted)


class World:
    def __init__(self) -> None:
        self.now, self.group = 100.0, FakeOrderWriter()
        self.backlog = Backlog(self.group, clock=lambda: self.now)

    async def at(self, now: float, *, accepted: int, written: int) -> float:
        """The age at that moment, when so much of partition 0 was accepted and written by then."""
        self.now, self.group.accepted[0], self.group.written[0] = now, accepted, written
        await self.backlog.look()
        return self.backlog.age_s


async def test_while_all_is_written_the_age_is_0() -> None:
    world = World()

    assert [await world.at(100, accepted=0, written=0), await world.at(105, accepted=9, written=9)] == [0, 0]


async def test_the_age_grows_while_nothing_is_written_and_ends_with_it() -> None:
    world = World()

    ages = [await world.at(now, accepted=10, written=3) for now in (100, 110, 170)]

    assert ages == [0, 10, 70]
    assert await world.at(171, accepted=10, written=10) == 0


async def test_a_writer_that_is_always_30_s_behind_has_that_age_less_at_most_one_look() -> None:
    world = World()

    ages = [await world.at(100 + t, accepted=100 * t, written=100 * max(0, t - 30)) for t in range(0, 200, 2)]

    assert set(ages[-50:]) == {28}


async def test_a_partition_that_nobody_writes_is_not_hidden_by_the_others() -> None:
    world = World()
    world.group.accepted[1] = 5
    await world.at(100, accepted=10, written=10)

    assert await world.at(160, accepted=20, written=20) == 60


async def test_what_was_accepted_later_is_younger() -> None:
    world = World()
    await world.at(100, accepted=10, written=0)
    await world.at(150, accepted=20, written=0)

    assert await world.at(160, accepted=20, written=10) == 10


async def test_while_the_broker_is_away_what_was_said_last_stands() -> None:
    world = World()
    await world.at(100, accepted=1, written=0)
    said = await world.at(130, accepted=1, written=0)
    world.group.away = True

    with pytest.raises(InfrastructureError):
        await world.at(500, accepted=1, written=0)

    assert world.backlog.age_s == said == 30


async def test_marks_are_bounded_and_the_age_then_less_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_MARKS", 3)
    world = World()
    for t in range(4):  # the marks of 100 and 102 are left
        await world.at(100 + t, accepted=t + 1, written=0)

    assert await world.at(110, accepted=4, written=0) == 10
    assert await world.at(110, accepted=4, written=1) == 8
