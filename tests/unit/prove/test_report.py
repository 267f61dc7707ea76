"""The report says what was found, in all three forms."""

import json
from datetime import UTC, datetime
from pathlib import Path

from tests.prove.evidence import Evidence
from tests.prove.guarantees import judge
from tests.prove.load import plan
from tests.prove.report import Head, write_report
from tests.prove.run import Look, Proof, Struck
from tests.prove.schedule import Fault, Kind
from tests.prove.series import series_of
from unit.prove.history import ANNE, BERT, CARL, good_history

HEAD = Head(7, "embedded", "quick", datetime(2026, 11, 25, 8, 30, tzinfo=UTC))
PLANS = plan(7, 3, 10.0)
STRUCK = [
    Struck(Fault(1.0, Kind.KILL, "payments", 0.0), 1.0, 3.5, came_back=True),
    Struck(Fault(1.2, Kind.CUT, "payments>provider", 4.0), 1.2, 5.2, came_back=True),
    Struck(Fault(2.0, Kind.FREEZE, "broker", 2.0), 2.0, 4.0, came_back=False),
]


def proof_of(evidence: Evidence) -> Proof:
    ends = [(5.5, ANNE, "confirmed"), (6.2, BERT, "cancelled"), (7.0, CARL, "rejected"), (7.5, CARL, "rejected")]
    looks = [Look(5.0, judge(evidence), lag=4), Look(10.0, skipped="Postgres: TimeoutError()")]
    return Proof(evidence, judge(evidence), looks, STRUCK, ends, healed_at=8.0, final_after_s=1.5, took_s=30.0)


def test_a_proof_that_held_says_so_with_its_figures(tmp_path: Path) -> None:
    text = write_report(proof_of(good_history().evidence()), PLANS, tmp_path, HEAD)

    assert text.startswith("Proof of seed 7 on the embedded stack, 2026-11-25 08:30 UTC: every guarantee held.")
    assert "lost       0\n" in text
    assert "12.00 USD confirmed, 12.00 USD captured" in text
    assert "1 confirmed, 1 rejected, 1 cancelled: the last 1.5 s after healing" in text
    assert "looked     1 times during the faults, 1 times in vain" in text
    assert "BROKEN" not in text
    assert (tmp_path / "prove.txt").read_text() == f"{text}\n"


def test_what_is_broken_stands_in_every_form(tmp_path: Path) -> None:
    evidence = good_history().evidence()
    del evidence.orders.orders[CARL]

    text = write_report(proof_of(evidence), PLANS, tmp_path, HEAD)
    said = json.loads((tmp_path / "prove.json").read_text())

    assert "1 guarantee broken" in text
    assert "lost       1\n" in text
    assert not said["held"]
    assert [g["id"] for g in said["guarantees"] if g["broken"]] == ["nothing-lost"]
    assert said["figures"]["lost"] == 1
    assert said["per_second"]["accepted"] == series_of(proof_of(evidence), PLANS).accepted
    assert (tmp_path / "prove.png").read_bytes().startswith(b"\x89PNG")


def test_what_was_broken_on_the_way_and_healed_is_broken_all_the_same(tmp_path: Path) -> None:
    proof = proof_of(good_history().evidence())
    history = good_history()
    history.entries = [entry for entry in history.entries if entry.order_id != CARL]
    early = history.evidence(final=False)
    del early.orders.orders[CARL]
    proof.looks.append(Look(6.0, judge(early)))

    text = write_report(proof, PLANS, tmp_path, HEAD)

    assert set(proof.broken) == {"accepted-is-in-the-log"}
    assert "accepted-is-in-the-log             3  BROKEN" in text


def test_an_end_that_the_relay_told_twice_counts_once() -> None:
    series = series_of(proof_of(good_history().evidence()), PLANS)

    assert sum(series.final) == 3
    assert sum(series.confirmed) == 1
    assert sum(series.offered) == sum(series.accepted) == 3
    assert series.under_way[-1] == 0
    assert series.lag == [(5.0, 4)]
