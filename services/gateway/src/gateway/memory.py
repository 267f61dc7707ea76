"""Whether "no marker" means "no such order": only if Redis remembers every order that Postgres does not know yet.

Problem: after its 202 an order is never a 404. Until it is in Postgres only its marker tells of it, and Redis forgets
when it is restarted, or does not hear of it when it is away.
Rule: Redis holds an **epoch**, a name for one unbroken memory. Who finds no epoch writes a new one; a gateway that
could not leave a marker replaces it. Of an epoch seen for the first time the end of the commands' log is noted; once
all before that is in Postgres, the epoch is trusted: older commands are in Postgres, younger ones have a marker.
Guarantee: with a trusted epoch, read before Postgres was asked, an order that neither knows does not exist.
Limits: no clocks are compared. Between a marker lost by one gateway and its new epoch (50 ms after Redis is back)
another gateway may still trust the old one.
"""

import asyncio
from collections.abc import Mapping
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
        self._trusted: set[str] = set()
        self._asking = asyncio.Lock()
        self._lost = asyncio.Event()
        self._losses = self._answered_losses = 0

    def marker_lost(self) -> None:
        """An order was accepted and Redis does not know: whatever it says of missing markers is worth nothing."""
        self._losses += 1
        self._lost.set()

    def trusts(self, epoch: str | None) -> bool:
        return epoch in self._trusted and self._losses == self._answered_losses

    async def learn_to_trust(self, epoch: str | None) -> bool:
        """Ask the log. Postgres must be asked after it says True."""
        if epoch is None:
            return False
        async with self._asking:  # who comes second finds the answer
            if epoch not in self._trusted:
                with suppress(InfrastructureError):
                    await self._ask_the_log(epoch)
        return self.trusts(epoch)

    async def keep_epoch(self) -> None:
        """Until cancelled: give a Redis without memory an epoch, and a new one for each loss; learn to trust it."""
        while True:
            self._lost.clear()
            losses = self._losses
            try:
                epochs = await self._store.write_epoch(uuid4().hex, replace=losses != self._answered_losses)
                self._answered_losses = losses
                self._trusted &= epochs
                for epoch in epochs - self._trusted:  # before somebody asks for an order that does not exist
                    await self.learn_to_trust(epoch)
            except InfrastructureError as error:
                log.warning("epoch_not_written", error=str(error))
            if self._losses != self._answered_losses:
                await asyncio.sleep(LOOK_AGAIN_S)
                continue
            with suppress(TimeoutError):
                await asyncio.wait_for(self._lost.wait(), LOOK_S)

    async def _ask_the_log(self, epoch: str) -> None:
        if epoch not in self._ends:
            self._ends[epoch] = await self._commands.ends()
        if await self._commands.is_beyond(self._ends[epoch]):
            self._trusted.add(epoch)
            del self._ends[epoch]
