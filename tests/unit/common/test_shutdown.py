import asyncio
import time
from collections.abc import Callable, Coroutine

import pytest
from structlog.testing import capture_logs

from common.errors import InfrastructureError
from common.shutdown import UNWIND_S, bounded, finish, remaining, step

SOON = UNWIND_S + 0.05  # the deadline comes 50 ms after `stop`


def stopped() -> asyncio.Event:
    stop = asyncio.Event()
    stop.set()
    return stop


async def hangs() -> None:
    await asyncio.Event().wait()


async def fails_at_once() -> None:
    await asyncio.sleep(0)
    raise KeyError("a bug")


async def fails_when_cancelled() -> None:
    try:
        await hangs()
    finally:
        raise KeyError("a broken connection")


@pytest.mark.parametrize("main", [hangs, fails_when_cancelled])
async def test_what_does_not_end_is_abandoned_at_the_deadline_and_that_is_no_error(
    main: Callable[[], Coroutine[None, None, None]],
) -> None:
    with capture_logs() as logs:
        async with asyncio.timeout(5):
            await bounded(main(), stopped(), within_s=SOON)

    assert [line["event"] for line in logs] == ["shutdown_abandoned"]


async def test_as_long_as_nobody_stops_it_a_process_has_all_the_time_and_its_errors_are_told() -> None:
    async def works_longer_than_a_shutdown_may_take() -> None:
        await asyncio.sleep(0.1)
        assert remaining(7) == 7
        raise KeyError("a bug")

    with pytest.raises(ExceptionGroup) as raised:
        await bounded(works_longer_than_a_shutdown_may_take(), asyncio.Event(), within_s=SOON)

    assert raised.group_contains(KeyError, match="a bug")


async def test_a_process_that_is_told_to_stop_while_it_starts_does_not_fail_because_a_dependency_is_away() -> None:
    stop = asyncio.Event()

    async def starts() -> None:
        stop.set()
        raise InfrastructureError("the broker is away")

    with capture_logs() as logs:
        await bounded(starts(), stop)

    assert [line["event"] for line in logs] == ["shutdown_abandoned"]


async def test_a_bug_is_told_also_by_a_process_that_is_leaving() -> None:
    with pytest.raises(ExceptionGroup):
        await bounded(fails_at_once(), stopped())


async def test_steps_have_limits_of_their_own_and_together_no_more_than_the_deadline_leaves() -> None:
    ended: list[str] = []

    async def closes_what_is_frozen() -> None:
        await asyncio.sleep(0)  # now the clock runs
        for name, within_s in (("first", 0.02), ("second", 30), ("third", 30)):
            async with step(name, within_s):
                await hangs()
        ended.append("all")

    with capture_logs() as logs:
        began = time.monotonic()
        await bounded(closes_what_is_frozen(), stopped(), within_s=UNWIND_S + 0.2)

    assert [line.get("step") for line in logs] == ["first", "second", "third"]
    assert ended == ["all"]
    assert time.monotonic() - began < UNWIND_S


async def test_a_step_lets_the_errors_of_its_block_through_also_a_time_out() -> None:
    with pytest.raises(TimeoutError, match="of the block"):
        async with step("close", 5):
            raise TimeoutError("of the block")


async def test_work_under_way_may_end_by_itself_after_stop() -> None:
    stop, steps = asyncio.Event(), list[str]()

    async def batch() -> None:
        stop.set()
        await asyncio.sleep(0.02)
        steps.append("committed")

    await finish(batch(), stop, "worker", within_s=5)

    assert steps == ["committed"]


async def test_work_that_does_not_end_in_time_is_cancelled_cleans_up_and_is_named() -> None:
    cleaned: list[str] = []

    async def batch() -> None:
        try:
            await hangs()
        finally:
            cleaned.append("left the group")

    with capture_logs() as logs:
        await finish(batch(), stopped(), "order_writer", within_s=0.02)

    assert cleaned == ["left the group"]
    assert [line["step"] for line in logs] == ["order_writer"]


async def test_work_that_fails_is_told_at_once() -> None:
    async def batch() -> None:
        raise KeyError("a bug")

    with pytest.raises(ExceptionGroup) as raised:
        await finish(batch(), asyncio.Event(), "worker", within_s=5)

    assert raised.group_contains(KeyError, match="a bug")
