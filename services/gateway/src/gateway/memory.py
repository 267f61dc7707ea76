"""Whether "no marker" means "no such order": only if Redis remembers every order that Postgres does not know yet.

Problem: after its 202 an order is never a 404. Until it is in Postgres only its marker tells of it, and Redis forgets
when it is restarted, or does not hear of it when it is away.
Rule: Redis holds an **epoch**, a name for one unbroken memory. Who finds no epoch writes a new one; a gateway that
could not leave a marker replaces it. Of an epoch seen for the first time the end of the commands' log is noted; once
all before that is in Postgres, the epoch is trusted: older commands are in Postgres, younger ones have a marker.
Guarantee: an order that Postgres does not know, asked after the epoch was trusted, and that has no marker under that
epoch, does not exist.
Limits: no clocks are compared. Between a marker lost by one gateway and its new epoch (50 ms after Redis is back)
another gateway may still trust the old one.
"""

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Protocol
from uuid import uuid4

import structlog

from common.errors import InfrastructureError

log = structlog.get_logger()

LOOK_S = 1.0
LOOK_AGAIN_S = 0.05
Offsets = Mapping[int, int]  # by partition


class EpochStore(Protocol):
    async def write_epoch(self, epoch: str, *, replace: bool) -> set[str]:
        """Without `replace` only where there is none. Answers the epochs that stand now. Raises InfrastructureError."""
        ...


class CommandLog(Protocol):
    """The topic of the commands. Both raise InfrastructureError when the broker does not answer."""

    async def ends(self) -> Offsets: ...

    async def is_beyond(self, ends: Offsets) -> bool:
        """Whether everything before these offsets is in Postgres."""
        ...


class Memory:
    def __init__(self, store: EpochStore, commands: CommandLog) -> None:
        self._store, self._commands = store, commands
        self._ends: dict[str, Offsets] = {}  # of the epochs that are not trusted yet
        self._epochs: set[str] = set()  # those that stand, as last seen
        self._trusted_since: dict[str, float] = {}
        self._asking = asyncio.Lock()
        self._lost = asyncio.Event()
        self._losses = self._answered_losses = 0

    def marker_lost(self) -> None:
        """An order was accepted and Redis does not know: whatever it says of missing markers is worth nothing."""
        self._losses += 1
        self._lost.set()

    def trusts(self, epoch: str | None, at: float) -> bool:
        """Whether it was trusted already at that moment of `time.monotonic`: when Postgres was asked. An order may have
        been written in between, which is what earned the trust."""
        trusted_since = self._trusted_since.get(epoch or "", math.inf)
        return trusted_since <= at and self._losses == self._answered_losses

    async def learn_to_trust(self, epoch: str | None) -> bool:
        """Ask the log. Postgres must be asked after it says True."""
        if epoch is None:
            return False
        async with self._asking:  # who comes second finds the answer
            if epoch not in self._trusted_since:
                with suppress(InfrastructureError):
                    await self._ask_the_log(epoch)
        return self.trusts(epoch, time.monotonic())

    async def keep_epoch(self, on_back: Callable[[], None]) -> None:
        """Until cancelled: give a Redis without memory an epoch, and a new one for each loss.

        `on_back`: Redis took the new epoch after a loss, so it will take markers again.
        """
        while True:
            self._lost.clear()
            losses = self._losses
            try:
                self._epochs = await self._store.write_epoch(uuid4().hex, replace=losses != self._answered_losses)
                if losses != self._answered_losses:
                    self._answered_losses = losses
                    on_back()
            except InfrastructureError as error:
                log.warning("epoch_not_written", error=str(error))
            if self._losses != self._answered_losses:
                await asyncio.sleep(LOOK_AGAIN_S)
                continue
            with suppress(TimeoutError):
                await asyncio.wait_for(self._lost.wait(), LOOK_S)

    async def keep_trust(self) -> None:
        """Until cancelled: learn to trust each epoch before somebody asks for an order that does not exist."""
        while True:
            self._trusted_since = {e: since for e, since in self._trusted_since.items() if e in self._epochs}
            for epoch in self._epochs - self._trusted_since.keys():
                await self.learn_to_trust(epoch)
            await asyncio.sleep(LOOK_S)

    async def _ask_the_log(self, epoch: str) -> None:
        if epoch not in self._ends:
            self._ends[epoch] = await self._commands.ends()
        if await self._commands.is_beyond(self._ends[epoch]):
            self._trusted_since[epoch] = time.monotonic()
            del self._ends[epoch]
