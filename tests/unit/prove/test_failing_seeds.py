"""A run that failed is kept once, with all that it follows from, and can be done again."""

from pathlib import Path

from tests.prove.failing_seeds import KeptRun, keep, kept_runs

RUN = KeptRun(seed=7, stack="embedded", tier="quick", orders=300, faults=12, only=("kill", "cut:payments>provider"))


def test_what_is_kept_is_read_again(tmp_path: Path) -> None:
    keep(tmp_path / "seeds.txt", RUN)

    assert kept_runs(tmp_path / "seeds.txt") == [RUN]


def test_the_same_run_is_kept_once_and_what_people_wrote_stays(tmp_path: Path) -> None:
    file = tmp_path / "seeds.txt"
    file.write_text(f"# found on the way\n\n{RUN}  # a connection that Redis had closed\n")

    keep(file, RUN)
    keep(file, KeptRun(seed=8, stack="compose", tier="full", orders=10_000, faults=200))

    assert [run.seed for run in kept_runs(file)] == [7, 8]
    assert "a connection that Redis had closed" in file.read_text()


def test_without_a_file_nothing_has_failed(tmp_path: Path) -> None:
    assert kept_runs(tmp_path / "none.txt") == []


def test_every_seed_that_we_keep_can_be_read() -> None:
    kept_runs(Path(__file__).parents[3] / "tests/prove/failing_seeds.txt")
