"""The age of the oldest accepted order that is not in Postgres yet.

Problem: the log takes orders faster than they are written. Each 202 is kept, and keeps its customer waiting longer.
Rule: every few seconds the end of the commands' log is noted, with the time: a mark. A mark that order_writer has
committed beyond is forgotten, because all that was accepted before it is written. The age is that of the oldest mark.
Guarantee: no clocks are compared. An order of that age or older is unwritten, and none is older than that and the time
between two looks.
Limits: marks begin with the process, so a restarted gateway learns of an old backlog only as time passes. While the
broker does not answer, what was said last stands.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Protocol

import structlog

from common.errors import InfrastructureError
from common.kafka.progress import covers
from common.telemetry.metrics import UNWRITTEN_AGE

log = structlog.get_logger()

LOOK_S = 2.0
MOST_MARKS = 1_000  # bounds the memory; then every second one is forgotten, as if there had been fewer looks
Offsets = Mapping[int, int]  # by partition


class GroupPosition(Protocol):
    async def position(self) -> tuple[Offsets, Offsets]:
        """What the group has committed, and where the log ended afterwards. Raises InfrastructureError."""
        ...


class Backlog:
    def __init__(self, order_writer: GroupPosition, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.age_s = 0.0
        self._order_writer, self._clock = order_writer, clock
        self._marks: deque[tuple[float, Offsets]] = deque()

    async def keep_looking(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.look()
            except InfrastructureError as error:
                log.warning("backlog_unknown", error=str(error))
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        now = self._clock()
        committed, ends = await self._order_writer.position()
        while self._marks and covers(committed, self._marks[0][1]):
            self._marks.popleft()
        if not covers(committed, ends) and (not self._marks or self._marks[-1][1] != ends):
            self._marks.append((now, ends))
        if len(self._marks) > MOST_MARKS:
            self._marks = deque(islice(self._marks, 0, None, 2))
        self.age_s = now - self._marks[0][0] if self._marks else 0.0
        UNWRITTEN_AGE.set(self.age_s)
