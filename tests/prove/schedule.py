"""The fault schedule: a pure function of its seed.

Rule: kinds are dealt like cards, and so are the targets of each kind: the whole deck comes up before it is dealt anew.
Guarantee: the same seed, menu and size give the same faults; all of them are over when the load ends.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TypeVar

Card = TypeVar("Card")


class Kind(StrEnum):
    KILL = "kill"  # kill -9; it is started again
    FREEZE = "freeze"  # it stands still and knows nothing of it
    CUT = "cut"  # nothing passes, nobody is told
    SLOW = "slow"  # everything passes late
    RESET = "reset"  # connections break, new ones are refused
    EMPTY = "empty"  # Redis is killed and comes back without memory
    HANG = "hang"  # the provider does not answer
    FAIL = "fail"  # the provider answers 503, mostly
    LOSE_REPLIES = "lose-replies"  # the provider does the work and does not say so
    CLOCK = "clock"  # the clock of a process jumps, and later back
    DIE = "die"  # killed at a failpoint (tests/failure/failpoints/table.py); it is started again
    STALL = "stall"  # it stands still at a failpoint, and then goes on as if nothing had happened


LASTS_S: Mapping[Kind, tuple[float, float]] = {
    Kind.KILL: (0.0, 0.0),  # as long as it takes to come back
    Kind.FREEZE: (1.0, 9.0),  # beyond the 6 s after which a group gives a silent member's partitions away
    Kind.CUT: (1.0, 9.0),
    Kind.SLOW: (3.0, 9.0),
    Kind.RESET: (0.5, 4.0),
    Kind.EMPTY: (0.0, 0.0),
    Kind.HANG: (2.0, 8.0),
    Kind.FAIL: (2.0, 8.0),
    Kind.LOSE_REPLIES: (3.0, 8.0),
    Kind.CLOCK: (4.0, 12.0),
    Kind.DIE: (0.0, 0.0),
    Kind.STALL: (1.0, 4.0),
}
AMOUNT: Mapping[Kind, tuple[float, float]] = {
    Kind.SLOW: (0.05, 0.4),  # seconds, on each chunk of each direction
    Kind.FAIL: (0.5, 1.0),  # share of the calls
    Kind.LOSE_REPLIES: (0.3, 0.9),
    Kind.CLOCK: (-45.0, 45.0),  # seconds
}
DECK = (  # what strikes our own processes and links comes up more often than a bad day at the provider's
    *(Kind.KILL, Kind.KILL, Kind.KILL, Kind.FREEZE, Kind.FREEZE, Kind.CUT, Kind.CUT, Kind.RESET, Kind.RESET),
    *(Kind.SLOW, Kind.EMPTY, Kind.CLOCK, Kind.HANG, Kind.FAIL, Kind.LOSE_REPLIES),
    *(Kind.DIE, Kind.STALL),  # only when they are asked for: `only`
)
FIRST_AT_S = 2.0

Menu = Mapping[Kind, Sequence[str]]
"""What may happen to whom: `gateway-1`, or `payments>provider` for the link between the two."""


@dataclass(frozen=True, slots=True)
class Fault:
    """`at`: seconds after the first order. `amount`: see AMOUNT."""

    at: float
    kind: Kind
    target: str
    duration: float
    amount: float = 0.0

    def __str__(self) -> str:
        amount = f" by {self.amount:+.2f}" if self.amount else ""
        lasts = f" for {self.duration:.1f} s" if self.duration else ""
        return f"{self.at:6.1f} s  {self.kind:<12} {self.target}{amount}{lasts}"

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def schedule(seed: int, menu: Menu, *, faults: int, load_s: float) -> list[Fault]:
    """`faults` faults in the order of their time, spread evenly over the load with some chance."""
    chance = random.Random(f"faults {seed}")
    kinds = _dealt([kind for kind in DECK if kind in menu], chance)
    targets = {kind: _dealt(sorted(menu[kind]), chance) for kind in sorted(menu)}
    gap_s = (load_s - FIRST_AT_S) / max(faults, 1)
    moments = [FIRST_AT_S + (n + chance.random()) * gap_s for n in range(faults)]
    return [_drawn(at, next(kinds), targets, load_s, chance) for at in moments]


def only(menu: Menu, wanted: Sequence[str]) -> Menu:
    """The part of the menu that is wanted: `kill` or `kill:payments`. Raises ValueError for what is not on it."""
    chosen: dict[Kind, list[str]] = {}
    for word in wanted:
        name, _, target = word.partition(":")
        kind = Kind(name)
        if kind not in menu or (target and target not in menu[kind]):
            raise ValueError(f"{word} is not on the menu of this stack")
        chosen.setdefault(kind, []).extend([target] if target else menu[kind])
    return {kind: sorted(set(targets)) for kind, targets in chosen.items()}


def _drawn(at: float, kind: Kind, targets: Mapping[Kind, Iterator[str]], load_s: float, chance: random.Random) -> Fault:
    duration = min(chance.uniform(*LASTS_S[kind]), max(load_s - at, 0.0))
    amount = chance.uniform(*AMOUNT[kind]) if kind in AMOUNT else 0.0
    return Fault(round(at, 2), kind, next(targets[kind]), round(duration, 2), round(amount, 3))


def _dealt(cards: Sequence[Card], chance: random.Random) -> Iterator[Card]:
    """All cards in random order, again and again."""
    while True:
        yield from chance.sample(cards, len(cards))
