"""How far a consumer is behind, and whether it has stopped catching up.

Problem: after a rebalance or a broker's hiccup the fetcher of a client may stop for good, while everything around it
goes on: alive, ready, and of no use (aiokafka #1154, #1037, #625).
Rule: a partition of ours that gave no record for 60 s, although it is not paused, is compared with its end. When the
broker answers that records wait there, the consumer must be built anew.
Guarantees: a consumer with nothing to do, one that is busy with other partitions, and one whose broker does not answer
are left alone.
Limits: only our own partitions are looked at; those that nobody has are seen in the lag from outside.
"""

# pyright: reportMissingTypeStubs=false
# (aiokafka carries no types)

import asyncio
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from aiokafka.errors import IllegalStateError, KafkaError

from common.telemetry import metrics

ANSWER_S = 2.0
LONG_TURN_S = 10.0

Batches = Mapping[Any, Sequence[Any]]  # by partition, each in order of the offsets


class Lag:
    """The metrics of the lag of one consumer: in records as of its last batch, in seconds as of the question."""

    def __init__(self, group: str) -> None:
        self._group = group
        self._oldest_ms: dict[Any, int] = {}  # the time of the oldest record that is known and not applied

    def fetched(self, batches: Batches) -> None:
        for partition, batch in batches.items():
            self._oldest_ms[partition] = batch[0].timestamp
            age = metrics.CONSUMER_LAG_AGE.labels(self._group, partition.topic, partition.partition)
            age.set_function(partial(self._age_s, partition))

    def applied(self, batches: Batches, consumer: Any) -> None:
        """Where more waits, its age is not known yet: at most that of the last one applied."""
        for partition, batch in batches.items():
            end: int | None = consumer.highwater(partition)
            behind = 0 if end is None else end - batch[-1].offset - 1
            self._set(partition, behind)
            if behind > 0:
                self._oldest_ms[partition] = batch[-1].timestamp
            else:
                self._oldest_ms.pop(partition, None)

    def forget(self, partitions: Iterable[Any]) -> None:
        """They are somebody else's now."""
        for partition in partitions:
            self._set(partition, 0)
            self._oldest_ms.pop(partition, None)

    def _set(self, partition: Any, behind: int) -> None:
        metrics.CONSUMER_LAG.labels(self._group, partition.topic, partition.partition).set(behind)

    def _age_s(self, partition: Any) -> float:
        oldest_ms = self._oldest_ms.get(partition)
        return 0 if oldest_ms is None else max(0.0, time.time() - oldest_ms / 1000)


class Standstill:
    """Asked in every turn of the loop; asks the broker itself once in `patience_s` at most."""

    def __init__(self, patience_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience_s, self._clock = patience_s, clock
        self._silent_since: dict[Any, float] = {}
        self._turned_at = 0.0

    async def stands_still(self, consumer: Any, fetched: Batches, *, full: bool) -> bool:
        """Whether records wait that this consumer does not get. `full`: more than `fetched` may be at hand already."""
        now, last_turn = self._clock(), self._turned_at
        self._turned_at = now
        if full or now - last_turn > LONG_TURN_S:  # busy, or frozen: who had to wait has not been silent
            self._silent_since.clear()
        ours = consumer.assignment() - consumer.paused()
        self._silent_since = {p: now if p in fetched else self._silent_since.get(p, now) for p in ours}
        silent = [p for p, since in self._silent_since.items() if now - since >= self._patience_s]
        if not silent:
            return False
        self._silent_since.update(dict.fromkeys(silent, now))
        return await _records_wait(consumer, silent)


async def _records_wait(consumer: Any, partitions: Sequence[Any]) -> bool:
    try:
        async with asyncio.timeout(ANSWER_S):
            ends: dict[Any, int] = await consumer.end_offsets(partitions)
    except (KafkaError, TimeoutError):  # nothing that a new consumer could mend
        return False
    for partition, end in ends.items():
        if end and await _position(consumer, partition) < end:
            return True
    return False


async def _position(consumer: Any, partition: Any) -> int:
    try:
        async with asyncio.timeout(ANSWER_S):
            return await consumer.position(partition)
    except IllegalStateError:
        return sys.maxsize  # no longer ours
    except (KafkaError, TimeoutError):
        return 0  # it has not even found its place
