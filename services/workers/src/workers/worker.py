"""What every worker is: something that can be asked whether it lives, and that runs until it is told to stop."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import structlog

from common.errors import InfrastructureError
from common.kafka.consumer import BatchConsumer

log = structlog.get_logger()


class Worker(Protocol):
    def alive(self) -> bool:
        """False asks for a restart: it stands still, and no dependency is to blame."""
        ...

    def ready(self) -> bool: ...

    async def run(self, stop: asyncio.Event) -> None: ...


@dataclass(frozen=True, slots=True)
class Timer:
    """Work that is due by the clock: `action` answers how much it found; if any, it is called again at once."""

    interval_s: float
    action: Callable[[], Awaitable[int]]

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            found = 0
            try:
                found = await self.action()
            except InfrastructureError as error:
                log.warning("timer_postponed", error=str(error))
            if not found:
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), self.interval_s)


@dataclass(frozen=True, slots=True)
class ConsumingWorker:
    """A batch consumer and the timers that go with it."""

    consumer: BatchConsumer
    timers: Sequence[Timer] = ()

    def alive(self) -> bool:
        return self.consumer.alive()

    def ready(self) -> bool:
        return self.consumer.ready()

    async def run(self, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.consumer.run(stop))
            for timer in self.timers:
                tasks.create_task(timer.run(stop))
