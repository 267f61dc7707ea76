"""Trust in the memory of Redis: earned from the log, lost with a marker, earned again."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from eventually import eventually
from gateway.memory import Memory, Offsets
from unit.gateway.fakes import FakeCommandLog, FakeStore


@asynccontextmanager
async def keeping(memory: Memory, on_back: Callable[[], None] = lambda: None) -> AsyncGenerator[None]:
    async with asyncio.TaskGroup() as tasks:
        kept = [tasks.create_task(memory.keep_epoch(on_back)), tasks.create_task(memory.keep_trust())]
        yield
        for task in kept:
            task.cancel()


def trusts(memory: Memory, epoch: str | None) -> bool:
    return memory.trusts(epoch, time.monotonic())


async def test_an_epoch_is_trusted_once_everything_before_it_is_written() -> None:
    log = FakeCommandLog(written=4)
    memory = Memory(FakeStore(), log)

    early = await memory.learn_to_trust("first")
    log.written = 5

    assert (early, await memory.learn_to_trust("first"), trusts(memory, "first")) == (False, True, True)
    assert not trusts(memory, "second")
    assert not trusts(memory, None)


async def test_the_log_may_grow_for_ever_and_the_epoch_is_still_trusted() -> None:
    class Growing(FakeCommandLog):
        async def ends(self) -> Offsets:
            self.end = getattr(self, "end", 5) + 5
            return {0: self.end}

    log = Growing(written=9)
    memory = Memory(FakeStore(), log)

    assert not await memory.learn_to_trust("first")
    log.written = 10  # 5 behind the end again

    assert await memory.learn_to_trust("first")


async def test_without_a_broker_nothing_is_trusted() -> None:
    memory = Memory(FakeStore(), FakeCommandLog(away=True))

    assert not await memory.learn_to_trust("first")


async def test_a_lost_marker_ends_the_trust_and_the_epoch() -> None:
    store, log = FakeStore(), FakeCommandLog()
    memory = Memory(store, log)
    back: list[str | None] = []
    async with keeping(memory, lambda: back.append(store.epoch)):
        assert await memory.learn_to_trust("first")

        store.away = True
        memory.marker_lost()
        assert not trusts(memory, "first")
        store.away = False
        await eventually(lambda: store.epoch != "first", within=5)
        await eventually(lambda: trusts(memory, store.epoch), within=5)

    assert back == [store.epoch]  # once, with the epoch that Redis took


async def test_a_redis_that_lost_its_memory_gets_a_new_epoch() -> None:
    store = FakeStore()
    memory = Memory(store, FakeCommandLog())
    async with keeping(memory):
        store.forget()
        await eventually(lambda: store.epoch is not None, within=5)

    assert store.epoch != "first"


async def test_trust_is_earned_before_anybody_asks() -> None:
    store = FakeStore()
    memory = Memory(store, FakeCommandLog())
    async with keeping(memory):
        await eventually(lambda: trusts(memory, "first"), within=5)
        store.forget()
        await eventually(lambda: trusts(memory, store.epoch), within=5)

    assert not trusts(memory, "first")


async def test_trust_says_nothing_of_what_was_asked_before_it_was_earned() -> None:
    memory = Memory(FakeStore(), FakeCommandLog())
    asked_at = time.monotonic()

    assert await memory.learn_to_trust("first")

    assert not memory.trusts("first", asked_at)
    assert trusts(memory, "first")
