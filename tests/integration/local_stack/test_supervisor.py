"""The supervisor alone, with shell scripts as processes."""

import asyncio
import os
import shutil
import signal
from pathlib import Path

import psutil
import pytest

from eventually import eventually
from local_stack.process import Spec, State
from local_stack.supervisor import StackFailedError, supervised


async def ready() -> None:
    pass


def script(name: str, text: str, *, stop_within_s: float = 5, restarts: bool = True, why_fatal: str = "") -> Spec:
    return Spec(
        name=name,
        argv=["/bin/sh", "-c", text],
        env={"PATH": os.defpath},
        check=ready,
        stop_within_s=stop_within_s,
        restarts=restarts,
        why_fatal=why_fatal,
    )


def one_shot(name: str, text: str) -> Spec:
    return Spec(name=name, argv=["/bin/sh", "-c", text], env={"PATH": os.defpath})


SLEEPS = "exec sleep 1000"


async def test_a_process_that_dies_is_started_again(tmp_path: Path) -> None:
    async with supervised(tmp_path, [[script("worker", SLEEPS)]]) as supervisor:
        worker = supervisor.processes["worker"]
        first = worker.pid
        assert first

        os.kill(first, signal.SIGKILL)

        await eventually(lambda: worker.state is State.RUNNING and worker.pid not in (None, first), within=5)
        assert worker.restarts == 1


async def test_a_process_that_keeps_dying_is_started_less_and_less_often(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with supervised(tmp_path, [[script("worker", "sleep 0.05; exit 3")]]) as supervisor:
        await eventually(lambda: supervisor.processes["worker"].restarts == 3, within=5)

    waits = [record.getMessage() for record in caplog.records if "restart" in record.getMessage()]
    assert waits == [f"worker ended with exit code 3; restart {n} in {s} s" for n, s in ((1, 0.2), (2, 0.4), (3, 0.8))]


async def test_the_death_of_what_cannot_be_restarted_ends_everything(tmp_path: Path) -> None:
    stages = [[script("broker", SLEEPS, restarts=False, why_fatal="Its memory is gone.")], [script("worker", SLEEPS)]]
    pids: list[int] = []

    async def kill_the_broker() -> None:
        async with supervised(tmp_path, stages) as supervisor:
            pids.extend(process.pid or 0 for process in supervisor.processes.values())
            os.kill(pids[0], signal.SIGKILL)
            await asyncio.Event().wait()

    with pytest.raises(StackFailedError, match=r"broker ended with signal SIGKILL\. Its memory is gone\."):
        await kill_the_broker()
    assert not any(psutil.pid_exists(pid) for pid in pids)


async def test_a_failed_start_names_the_process_shows_its_log_and_stops_the_rest(tmp_path: Path) -> None:
    stages = [
        [script("worker", f"echo $$ > {tmp_path}/pid; {SLEEPS}")],
        [one_shot("migrate", "echo no such table; exit 7")],
    ]

    with pytest.raises(StackFailedError, match=r"migrate ended with exit code 7:\n +no such table"):
        async with supervised(tmp_path, stages):
            pytest.fail("must not come up")

    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


async def test_a_program_that_does_not_exist_is_a_failed_start(tmp_path: Path) -> None:
    missing = Spec(name="orders", argv=["/nowhere/orders"], env={})

    with pytest.raises(StackFailedError, match="orders cannot be started"):
        async with supervised(tmp_path, [[missing]]):
            pytest.fail("must not come up")


async def test_the_next_stage_waits_for_the_end_of_a_one_shot(tmp_path: Path) -> None:
    stages = [
        [one_shot("migrate", f"sleep 0.2; touch {tmp_path}/migrated")],
        [one_shot("orders", f"ls {tmp_path}/migrated")],
    ]

    async with supervised(tmp_path, stages) as supervisor:
        assert supervisor.processes["orders"].state is State.DONE


async def test_processes_stop_in_reverse_order(tmp_path: Path) -> None:
    def writes_its_end(name: str) -> Spec:
        return script(
            name, f"trap 'echo {name} >> {tmp_path}/ends; exit 0' TERM; touch {tmp_path}/{name}; sleep 1000 & wait"
        )

    async with supervised(tmp_path, [[writes_its_end("server")], [writes_its_end("gateway")]]):
        await eventually(lambda: (tmp_path / "server").exists() and (tmp_path / "gateway").exists(), within=5)

    assert (tmp_path / "ends").read_text().split() == ["gateway", "server"]


async def test_a_process_that_ignores_sigterm_is_killed_when_its_time_is_over(tmp_path: Path) -> None:
    deaf = script("deaf", f"trap '' TERM; touch {tmp_path}/deaf; while true; do sleep 1; done", stop_within_s=0.3)

    async with supervised(tmp_path, [[deaf]]) as supervisor:
        await eventually((tmp_path / "deaf").exists, within=5)
        pid = supervisor.processes["deaf"].pid

    assert pid
    assert not psutil.pid_exists(pid)


async def test_what_a_killed_process_had_started_ends_with_it(tmp_path: Path) -> None:
    async with supervised(
        tmp_path, [[script("payments", f"sleep 1000 & echo $! > {tmp_path}/child; wait")]]
    ) as supervisor:
        await eventually(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text(), within=5)
        pool_worker = psutil.Process(int((tmp_path / "child").read_text()))

        os.kill(supervisor.processes["payments"].pid or 0, signal.SIGKILL)

        await eventually(lambda: not pool_worker.is_running() or pool_worker.status() == "zombie", within=5)


async def test_processes_are_stopped_also_when_the_run_directory_is_gone(tmp_path: Path) -> None:
    async with supervised(tmp_path / "run", [[script("worker", SLEEPS)]]) as supervisor:
        pid = supervisor.processes["worker"].pid
        shutil.rmtree(tmp_path / "run")

    assert pid
    assert not psutil.pid_exists(pid)


async def test_an_error_in_the_block_arrives_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="mine"):
        async with supervised(tmp_path, [[script("worker", SLEEPS)]]):
            raise KeyError("mine")
