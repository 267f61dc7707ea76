"""Runs that have failed are kept, one a line, so that each can be done again: `make prove FAILING=1`.

A line is the whole run: seed, stack, tier, orders, faults, and the kinds of faults if they were limited. What stands
behind a # is for people: what the run has found.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRun:
    """All that a run follows from. `only`: kinds, or kind:target."""

    seed: int
    stack: str
    tier: str
    orders: int
    faults: int
    only: tuple[str, ...] = ()

    def __str__(self) -> str:
        only = f" ONLY={','.join(self.only)}" if self.only else ""
        return f"SEED={self.seed} STACK={self.stack} TIER={self.tier} ORDERS={self.orders} FAULTS={self.faults}{only}"


def kept_runs(file: Path) -> list[KeptRun]:
    return list(_read(file)) if file.exists() else []


def keep(file: Path, run: KeptRun) -> None:
    """Once; a second time changes nothing."""
    if run not in kept_runs(file):
        with file.open("a", encoding="utf-8") as out:
            out.write(f"{run}\n")


def _read(file: Path) -> Iterator[KeptRun]:
    for line in file.read_text(encoding="utf-8").splitlines():
        if words := line.partition("#")[0].split():
            said = dict(word.split("=", 1) for word in words)
            yield KeptRun(
                seed=int(said["SEED"]),
                stack=said["STACK"],
                tier=said["TIER"],
                orders=int(said["ORDERS"]),
                faults=int(said["FAULTS"]),
                only=tuple(said["ONLY"].split(",")) if "ONLY" in said else (),
            )
