"""The fault schedule follows from its seed and nothing else."""

import subprocess
import sys

import pytest

from tests.prove.embedded import MENU
from tests.prove.schedule import AMOUNT, LASTS_S, Fault, Kind, only, schedule

LOAD_S = 110.0


def test_a_seed_gives_the_same_faults_in_another_process() -> None:
    """Whatever the hash seed of Python is: sets and dicts leave no trace in it."""
    code = (
        "from tests.prove.embedded import MENU\nfrom tests.prove.schedule import schedule\n"
        f"print(*schedule(7, MENU, faults=30, load_s={LOAD_S}), sep='\\n')"
    )

    elsewhere = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert elsewhere.splitlines() == [str(fault) for fault in schedule(7, MENU, faults=30, load_s=LOAD_S)]


def test_another_seed_gives_other_faults() -> None:
    assert schedule(1, MENU, faults=30, load_s=LOAD_S) != schedule(2, MENU, faults=30, load_s=LOAD_S)


@pytest.mark.parametrize("seed", range(20))
def test_every_fault_is_on_the_menu_and_over_when_the_load_ends(seed: int) -> None:
    faults = schedule(seed, MENU, faults=30, load_s=LOAD_S)

    assert len(faults) == 30
    assert [fault.at for fault in faults] == sorted(fault.at for fault in faults)
    for fault in faults:
        assert fault.target in MENU[fault.kind]
        assert 0 < fault.at <= fault.at + fault.duration <= LOAD_S + 0.02
        assert fault.duration <= LASTS_S[fault.kind][1]
        low, high = AMOUNT.get(fault.kind, (0.0, 0.0))
        assert low <= fault.amount <= high


def test_thirty_faults_hold_every_kind() -> None:
    assert {fault.kind for fault in schedule(3, MENU, faults=30, load_s=LOAD_S)} == set(MENU)


def test_no_target_of_a_kind_comes_twice_before_all_have_come() -> None:
    killed = [fault.target for fault in schedule(4, only(MENU, ["kill"]), faults=20, load_s=LOAD_S)]

    assert sorted(killed[:10]) == sorted(killed[10:]) == sorted(MENU[Kind.KILL])


def test_only_leaves_what_is_wanted() -> None:
    menu = only(MENU, ["kill:payments", "kill:orders", "hang"])

    assert menu == {Kind.KILL: ["orders", "payments"], Kind.HANG: ["payment_provider"]}
    assert {fault.target for fault in schedule(1, menu, faults=9, load_s=60)} == {
        "orders",
        "payments",
        "payment_provider",
    }


@pytest.mark.parametrize("word", ["explode", "kill:broker", "cut:nowhere"])
def test_what_is_not_on_the_menu_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match=r"menu|valid"):
        only(MENU, [word])


def test_no_faults_are_no_faults() -> None:
    assert schedule(1, MENU, faults=0, load_s=60) == []


def test_a_fault_says_what_it_is() -> None:
    assert str(Fault(3.25, Kind.CLOCK, "orders", 5.0, -12.5)) == "   3.2 s  clock        orders by -12.50 for 5.0 s"
