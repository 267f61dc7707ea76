"""Work by the clock: at once while there is some, later when there is none or the database is away."""

import asyncio

from common.errors import InfrastructureError
from eventually import eventually
from workers.worker import Timer


class Work:
    def __init__(self, *found: int | InfrastructureError) -> None:
        self.found = list(found)
        self.calls = 0

    async def __call__(self) -> int:
        self.calls += 1
        answer = self.found.pop(0) if self.found else 0
        if isinstance(answer, InfrastructureError):
            raise answer
        return answer


async def test_it_is_called_again_at_once_while_it_finds_something_and_then_waits() -> None:
    work, stop = Work(500, 500, 3), asyncio.Event()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(Timer(60, work).run(stop))
        await eventually(lambda: work.calls == 4, within=2)
        stop.set()

    assert work.calls == 4


async def test_missing_infrastructure_postpones_it_and_does_not_end_it() -> None:
    work, stop = Work(InfrastructureError("away"), InfrastructureError("away")), asyncio.Event()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(Timer(0.01, work).run(stop))
        await eventually(lambda: work.calls >= 4, within=2)
        stop.set()


async def test_it_ends_at_once_when_told_to_stop_in_the_middle_of_its_wait() -> None:
    work, stop = Work(), asyncio.Event()

    async with asyncio.timeout(2), asyncio.TaskGroup() as tasks:
        tasks.create_task(Timer(60, work).run(stop))
        await eventually(lambda: work.calls == 1, within=2)
        stop.set()
