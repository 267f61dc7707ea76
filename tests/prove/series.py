"""What happened in each second of a proof."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tests.prove.load import Plan
from tests.prove.run import Proof


@dataclass(frozen=True, slots=True)
class Series:
    """One number per second, from the moment when the first order was due. `under_way`: accepted, not final yet.

    `latency`: of each order the moment it was due, and the seconds until its 202. `lag`: at each look, records that the
    groups had not committed.
    """

    offered: list[int]
    accepted: list[int]
    confirmed: list[int]
    final: list[int]
    under_way: list[int]
    latency: list[tuple[float, float]]
    lag: list[tuple[float, int]]

    def latency_ms(self) -> dict[str, float]:
        """p50, p99 and the longest."""
        sorted_ms = sorted(round(seconds * 1000, 1) for _, seconds in self.latency)
        at = {"p50": 0.5, "p99": 0.99, "max": 1.0}
        return {name: sorted_ms[int(share * (len(sorted_ms) - 1))] for name, share in at.items()} if sorted_ms else {}


def series_of(proof: Proof, plans: Sequence[Plan]) -> Series:
    accepted_at = {i: e.answer.at for i, e in proof.evidence.accepted.items() if e.answer}
    ended_at: dict[str, tuple[float, str]] = {}
    for at, order_id, state in proof.ends:
        ended_at.setdefault(order_id, (at, state))
    last = max([*accepted_at.values(), *(at for at, _ in ended_at.values()), plans[-1].due, proof.healed_at])
    seconds = int(last) + 2
    accepted = _per_second(accepted_at.values(), seconds)
    final = _per_second((at for at, _ in ended_at.values()), seconds)
    under_way, level = list[int](), 0
    for arrived, left in zip(accepted, final, strict=True):
        level += arrived - left
        under_way.append(max(level, 0))  # its end may be seen before the customer has his answer
    return Series(
        offered=_per_second((plan.due for plan in plans), seconds),
        accepted=accepted,
        confirmed=_per_second((at for at, state in ended_at.values() if state == "confirmed"), seconds),
        final=final,
        under_way=under_way,
        latency=[(p.due, round(accepted_at[p.order_id] - p.due, 4)) for p in plans if p.order_id in accepted_at],
        lag=[(look.at, look.lag) for look in proof.looks if not look.skipped],
    )


def _per_second(moments: Iterable[float], seconds: int) -> list[int]:
    counts = Counter(int(moment) for moment in moments)
    return [counts[second] for second in range(seconds)]
