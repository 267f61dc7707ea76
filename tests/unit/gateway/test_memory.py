"""Trust in the memory of Redis: earned from the log, lost with a marker, earned again."""

import asyncio

from eventually import eventually
from gateway.memory import Memory, Offsets
from unit.gateway.fakes import FakeCommandLog, FakeStore


async def test_an_epoch_is_trusted_once_everything_before_it_is_written() -> None:
    log = FakeCommandLog(written=4)
    memory = Memory(FakeStore(), log)

    early = await memory.learn_to_trust("first")
    log.written = 5

    assert (early, await memory.learn_to_trust("first"), memory.trusts("first")) == (False, True, True)
    assert not memory.trusts("second")
    assert not memory.trusts(None)


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
    async with asyncio.TaskGroup() as tasks:
        keeping = tasks.create_task(memory.keep_epoch())
        assert await memory.learn_to_trust("first")

        store.away = True
        memory.marker_lost()
        assert not memory.trusts("first")
        store.away = False
        await eventually(lambda: store.epoch != "first", within=5)
        await eventually(lambda: memory.trusts(store.epoch), within=5)
        keeping.cancel()


async def test_a_redis_that_lost_its_memory_gets_a_new_epoch() -> None:
    store = FakeStore()
    memory = Memory(store, FakeCommandLog())
    async with asyncio.TaskGroup() as tasks:
        keeping = tasks.create_task(memory.keep_epoch())
        store.forget()
        await eventually(lambda: store.epoch is not None, within=5)
        keeping.cancel()

    assert store.epoch != "first"


async def test_trust_is_earned_before_anybody_asks() -> None:
    store = FakeStore()
    memory = Memory(store, FakeCommandLog())
    async with asyncio.TaskGroup() as tasks:
        keeping = tasks.create_task(memory.keep_epoch())
        await eventually(lambda: memory.trusts("first"), within=5)
        store.forget()
        await eventually(lambda: memory.trusts(store.epoch), within=5)
        keeping.cancel()

    assert not memory.trusts("first")
