"""What the soak calls growth. It runs here with the bounds of its long form."""

from array import array
from collections import Counter
from dataclasses import replace

import pytest

from bench.load import Answers
from bench.soak import DRIFT, SLOPE_MB, WARM_UP_S, Sample, figures, verdict

AT_S = range(0, 1_800, 5)
FLAT = [Sample(at_s, 100.0 + (at_s % 3), 20 + at_s % 7, 10, 15) for at_s in AT_S]
WELL = Answers(statuses=Counter({202: 1_000, 200: 1_000}), latencies=array("d", [0.001]))


def test_memory_and_counts_that_go_up_and_down_are_no_growth() -> None:
    assert figures(FLAT)["broken"] == []


@pytest.mark.parametrize(
    ("what", "leaking"),
    [
        ("memory", [replace(s, rss_mb=s.rss_mb + 1.1 * SLOPE_MB * s.at_s / 600) for s in FLAT]),
        ("tasks", [replace(s, tasks=s.tasks + int(3 * DRIFT * s.at_s / 1_800)) for s in FLAT]),
        ("sockets", [replace(s, sockets=s.sockets + int(3 * DRIFT * s.at_s / 1_800)) for s in FLAT]),
        ("files", [replace(s, files=s.files + int(3 * DRIFT * s.at_s / 1_800)) for s in FLAT]),
    ],
)
def test_a_leak_is_found_and_named(what: str, leaking: list[Sample]) -> None:
    assert figures(leaking)["broken"] == [what]


def test_what_a_process_takes_while_it_warms_up_does_not_count() -> None:
    warming = [replace(s, rss_mb=s.rss_mb - max(0.0, 50 * (1 - s.at_s / WARM_UP_S))) for s in FLAT]

    assert verdict({"gateway-1": warming}, WELL, 0)["broken"] == []


@pytest.mark.parametrize(
    ("answers", "restarts"),
    [(WELL, 1), (Answers(statuses=Counter({202: 1_000, 0: 1})), 0), (Answers(statuses=Counter({202: 90, 503: 10})), 0)],
    ids=["a restart", "a call without an answer", "a door that sheds a tenth"],
)
def test_a_run_in_which_something_failed_shows_nothing(answers: Answers, restarts: int) -> None:
    answers.latencies.append(0.001)

    assert verdict({"gateway-1": FLAT}, answers, restarts)["broken"] != []
