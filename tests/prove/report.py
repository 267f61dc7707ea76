"""The report of a proof: JSON for programs, text for people, and one picture (picture.py)."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.prove.load import Plan, customers
from tests.prove.picture import draw
from tests.prove.run import Proof
from tests.prove.series import Series, series_of

LOSSES = ("accepted-is-in-the-log", "nothing-lost")  # their sentences begin with the order
EXAMPLES = 10  # of what is wrong, for each guarantee


@dataclass(frozen=True, slots=True)
class Head:
    """What was proved, and when."""

    seed: int
    stack: str
    tier: str
    finished_at: datetime

    @classmethod
    def now(cls, seed: int, stack: str, tier: str) -> "Head":
        return cls(seed, stack, tier, datetime.now(UTC).replace(microsecond=0))

    def __str__(self) -> str:
        return f"seed {self.seed} on the {self.stack} stack, {self.finished_at:%Y-%m-%d %H:%M} UTC"


def write_report(proof: Proof, plans: Sequence[Plan], out: Path, head: Head) -> str:
    """Write prove.json, prove.txt and prove.png; answer the text."""
    out.mkdir(parents=True, exist_ok=True)
    series = series_of(proof, plans)
    text = as_text(proof, plans, head)
    (out / "prove.json").write_text(_lines(as_json(proof, plans, series, head)), encoding="utf-8")
    (out / "prove.txt").write_text(text + "\n", encoding="utf-8")
    draw(proof, series, f"{head}: {verdict(proof)}", out / "prove.png")
    return text


def verdict(proof: Proof) -> str:
    broken = len(proof.broken)
    return f"{broken} guarantees broken" if broken > 1 else "1 guarantee broken" if broken else "every guarantee held"


def figures(proof: Proof, plans: Sequence[Plan]) -> dict[str, Any]:
    """The sums; money in minor units."""
    books = proof.evidence.report.figures
    seen = proof.broken
    return {
        "customers": len(customers(plans)),
        "offered": len(plans),
        "late_s": _late(proof, plans),
        "accepted": len(proof.evidence.accepted),
        "in_the_log": books.logged,
        "copies_in_the_log": books.log_copies,
        "stored": books.stored,
        "stored_without_ack": books.unacked_stored,
        "confirmed": books.confirmed,
        "rejected": books.rejected,
        "cancelled": books.cancelled,
        "amount_confirmed_minor": books.amount_confirmed_minor,
        "amount_captured_minor": books.amount_charged_minor,
        "lost": len({sentence.split()[0].rstrip(":") for g in LOSSES for sentence in seen.get(g, [])}),
        "doubled": books.doubled,
        "final_after_s": None if proof.final_after_s is None else round(proof.final_after_s, 1),
        "looks": sum(not look.skipped for look in proof.looks),
        "looks_skipped": sum(bool(look.skipped) for look in proof.looks),
        "calls": _calls(proof),
        "took_s": round(proof.took_s, 1),
    }


def as_json(proof: Proof, plans: Sequence[Plan], series: Series, head: Head) -> dict[str, Any]:
    return {
        "seed": head.seed,
        "stack": head.stack,
        "tier": head.tier,
        "finished_at": head.finished_at.isoformat(),
        "held": not proof.broken,
        "figures": figures(proof, plans),
        "guarantees": [
            {
                "id": v.guarantee.id,
                "promise": v.guarantee.promise,
                "compared": v.compared,
                "broken": proof.broken.get(v.guarantee.id, [])[:EXAMPLES],
            }
            for v in proof.verdicts
        ],
        "faults": [
            {**s.fault.as_dict(), "began": s.began, "ended": s.ended, "came_back": s.came_back} for s in proof.struck
        ],
        "skipped": [{"at": look.at, "why": look.skipped} for look in proof.looks if look.skipped],
        "latency_ms": series.latency_ms(),
        "per_second": {
            "offered": series.offered,
            "accepted": series.accepted,
            "confirmed": series.confirmed,
            "under_way": series.under_way,
        },
    }


def as_text(proof: Proof, plans: Sequence[Plan], head: Head) -> str:
    f = figures(proof, plans)
    kinds = Counter(struck.fault.kind.value for struck in proof.struck)
    last = proof.final_after_s
    after = "not all within 60 s of healing" if last is None else f"the last {last:.1f} s after healing"
    lines = [
        f"Proof of {head}: {verdict(proof)}.",
        f"  offered    {f['offered']:,} orders by {f['customers']:,} customers, sent at most {f['late_s']:.1f} s late",
        f"  calls      {', '.join(f'{name}: {_counted(answers)}' for name, answers in f['calls'].items())}",
        f"  faults     {len(proof.struck)}: {_counted(kinds)}",
        f"  accepted   {f['accepted']:,}; in the log {f['in_the_log']:,} and {f['copies_in_the_log']} copies; "
        f"stored {f['stored']:,}",
        f"  lost       {f['lost']}",
        f"  doubled    {f['doubled']}",
        f"  money      {_money(f['amount_confirmed_minor'])} confirmed, {_money(f['amount_captured_minor'])} captured",
        f"  ended      {f['confirmed']:,} confirmed, {f['rejected']:,} rejected, {f['cancelled']:,} cancelled: {after}",
        f"  looked     {f['looks']} times during the faults, {f['looks_skipped']} times in vain (a store was away)",
        "",
        f"  {'guarantee':<26}{'compared':>10}  at the end",
    ]
    for v in proof.verdicts:
        held = "BROKEN" if v.guarantee.id in proof.broken else "held" if v.compared else "nothing to compare"
        lines.append(f"  {v.guarantee.id:<26}{v.compared:>10,}  {held}")
    return "\n".join(lines)


def _late(proof: Proof, plans: Sequence[Plan]) -> float:
    """By how much the most delayed order was sent too late: we are only open loop if it is little."""
    due, late = {plan.order_id: plan.due for plan in plans}, 0.0
    for exchange in proof.evidence.attempts:
        first_due = due.pop(exchange.call.order_id, exchange.call.at)
        late = max(late, exchange.call.at - first_due)
    return round(late, 2)


def _lines(report: dict[str, Any]) -> str:
    """JSON with a line for each member, and for each object in a list."""
    members: list[str] = []
    for name, value in report.items():
        text = json.dumps(value, ensure_ascii=False)
        if isinstance(value, list):
            text = text.replace("}, {", "},\n  {")
        members.append(f" {json.dumps(name)}: {text}")
    return "{\n" + ",\n".join(members) + "\n}\n"


def _calls(proof: Proof) -> dict[str, dict[str, int]]:
    """How often each call got each answer; a call without one counts by its error."""
    calls: dict[str, Counter[str]] = {}
    for exchange in proof.evidence.attempts:
        answer = exchange.answer
        got = str(answer.status or answer.trouble) if answer else "none"
        calls.setdefault(exchange.call.what.value, Counter())[got] += 1
    return {what: dict(sorted(answers.items())) for what, answers in sorted(calls.items())}


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items(), key=lambda each: -each[1]))


def _money(minor: int) -> str:
    return f"{minor / 100:,.2f} USD"
