"""Group-commit publisher: many records, one batch per partition, and a verdict on every record.

Rule: acks=all, a bounded wait, and three outcomes: acked, refused (surely not in the log), unknown (no answer seen).
Guarantees: order within a partition; when a batch is not acked, the rest of its partition is not sent.
Limits: unknown means that the record may be in the log. Publish it again under the same message id.
A producer can die in a live process (its sender task ended, or its sequence numbers are out of step): then nothing is
acked again. It is replaced by a new one, by the next publish or by `heal`; until then `healthy` is false.
Source: the `BatchBuilder` of aiokafka; group commit, DeWitt et al. 1984.
"""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportPrivateUsage=false
# (aiokafka carries no types; we hand out our own Record)

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from enum import Enum
from functools import lru_cache, partial
from struct import Struct
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    InvalidProducerEpoch,
    KafkaError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    UnknownProducerId,
)

from common.contracts.topics import max_message_bytes
from common.errors import InfrastructureError
from common.kafka.closing import close
from common.records import OutgoingRecord
from common.telemetry.metrics import PRODUCERS_REBUILT

log = structlog.get_logger()

STOP_S = 3
ABANDON_S = 0.1  # what a dead producer still holds is unknown already, and publishers wait for its end
_FATAL = (OutOfOrderSequenceNumber, InvalidProducerEpoch, UnknownProducerId)  # of no use any more
_WORD = Struct("<I")
MAX_BATCH_BYTES = 1_000_000  # a little below what a broker takes; a batch of one record may be larger


class Outcome(Enum):
    """What became of a published record."""

    ACKED = "acked"
    REFUSED = "refused"  # surely not in the log
    UNKNOWN = "unknown"  # no answer seen: it may be in the log


OnLateAck = Callable[[Sequence[int]], None] | None


class Publisher:
    """Publishes many records with one batch per partition, acks=all, and says of each what became of it.

    Order within a partition is kept: when a batch is not acked, the rest of that partition is not sent (REFUSED).
    """

    def __init__(
        self,
        bootstrap_servers: str,
        *,
        idempotence: bool,
        ack_timeout_s: float = 5.0,
        rebuild_after_s: float = 10.0,
    ) -> None:
        self._bootstrap_servers, self._idempotence = bootstrap_servers, idempotence
        self._ack_timeout_s, self._rebuild_after_s = ack_timeout_s, rebuild_after_s
        self._no_ack_since: float | None = None  # the first unknown outcome since the last ack
        self._healing = asyncio.Lock()
        self._producer = self._new_producer()

    async def start(self) -> None:
        """Raises InfrastructureError when the broker does not answer."""
        try:
            await self._producer.start()
        except KafkaError as error:
            raise InfrastructureError(f"cannot publish: {error}") from error

    async def stop(self) -> None:
        await _stop(self._producer)

    @property
    def healthy(self) -> bool:
        """False when the producer died, or when nothing was acked for too long although it was tried."""
        no_ack_s = 0.0 if self._no_ack_since is None else time.monotonic() - self._no_ack_since
        return not self._producer._sender.sender_task.done() and no_ack_s < self._rebuild_after_s

    async def heal(self) -> None:
        """Put a new producer in the place of one that died. Where the broker does not answer, the next call tries."""
        async with self._healing:
            if self.healthy:
                return
            new, old = self._new_producer(), self._producer
            try:
                async with asyncio.timeout(self._ack_timeout_s):
                    await new.start()
            except (KafkaError, TimeoutError) as error:
                log.warning("producer_not_rebuilt", error=str(error))
                await _stop(new)
                return
            self._producer, self._no_ack_since = new, None
            PRODUCERS_REBUILT.inc()
            log.warning("producer_rebuilt")
            await _stop(old, ABANDON_S)

    def _new_producer(self) -> Any:
        return AIOKafkaProducer(
            bootstrap_servers=self._bootstrap_servers,
            acks="all",
            enable_idempotence=self._idempotence,
            request_timeout_ms=10_000,
            max_batch_size=MAX_BATCH_BYTES,
        )

    async def publish(self, records: Sequence[OutgoingRecord], on_late_ack: OnLateAck = None) -> list[Outcome]:
        """Publish and wait for the acks, at most the ack timeout per batch. Outcomes are in the order of `records`.

        `on_late_ack` hears the indexes of records that were UNKNOWN, if they are acked after all.
        """
        if not self.healthy:
            await self.heal()
        outcomes = [Outcome.REFUSED] * len(records)
        by_partition: dict[tuple[str, int], list[int]] = defaultdict(list)
        try:
            async with asyncio.timeout(self._ack_timeout_s):
                partitions = {topic: await self._partitions_of(topic) for topic in {r.topic for r in records}}
        except (KafkaError, TimeoutError) as error:
            log.warning("publish_no_metadata", error=str(error))
            return outcomes
        for index, record in enumerate(records):
            partition = partition_of(record.key or b"", partitions[record.topic])
            by_partition[record.topic, partition].append(index)
        async with asyncio.TaskGroup() as tasks:
            for (topic, partition), indexes in by_partition.items():
                batches = self._publish_partition(topic, partition, indexes, records, outcomes, on_late_ack)
                tasks.create_task(batches)
        return outcomes

    async def _partitions_of(self, topic: str) -> int:
        partitions: set[int] | None = self._producer.client.cluster.partitions_for_topic(topic)
        return len(partitions or await self._producer.partitions_for(topic))

    async def _publish_partition(
        self,
        topic: str,
        partition: int,
        indexes: list[int],
        records: Sequence[OutgoingRecord],
        outcomes: list[Outcome],
        on_late_ack: OnLateAck,
    ) -> None:
        rest = indexes
        while rest:
            batch = self._producer.create_batch()
            taken = 0
            for index in rest:
                record = records[index]
                # append answers None when the batch is full; ignoring that would lose the record
                if batch.append(timestamp=None, key=record.key, value=record.value, headers=record.headers) is None:
                    break
                taken += 1
            if batch.size() > max_message_bytes(topic):  # a first record is always taken; the broker would refuse it
                rest = rest[1:]  # this one only, the others go on
                continue
            late = partial(on_late_ack, rest[:taken]) if on_late_ack else None
            outcome = await self._send(batch, topic, partition, late)
            for index in rest[:taken]:
                outcomes[index] = outcome
            if outcome is not Outcome.ACKED:
                return
            rest = rest[taken:]

    async def _send(self, batch: Any, topic: str, partition: int, on_late_ack: Callable[[], None] | None) -> Outcome:
        try:
            async with asyncio.timeout(self._ack_timeout_s):
                future = await self._producer.send_batch(batch, topic, partition=partition)
        except (KafkaError, TimeoutError) as error:  # it never entered the producer's queue
            log.warning("publish_refused", topic=topic, partition=partition, error=str(error))
            return Outcome.REFUSED
        # The idempotent producer never gives up, so the wait is bounded here and the future is left alone.
        await asyncio.wait({future}, timeout=self._ack_timeout_s)
        if not future.done():
            future.add_done_callback(partial(_retrieve, on_late_ack))
            log.warning("publish_unknown", topic=topic, partition=partition)
            self._no_ack_since = self._no_ack_since or time.monotonic()
            return Outcome.UNKNOWN
        error = future.exception()
        if error is None:
            self._no_ack_since = None
            return Outcome.ACKED
        log.warning("publish_failed", topic=topic, partition=partition, error=repr(error))
        if isinstance(error, MessageSizeTooLargeError):
            return Outcome.REFUSED
        lost = -math.inf if isinstance(error, _FATAL) else time.monotonic()
        self._no_ack_since = min(lost, self._no_ack_since or lost)
        return Outcome.UNKNOWN


async def _stop(producer: Any, within_s: float = STOP_S) -> None:
    await close(producer, producer.client, within_s)
    if (sender := producer._sender.sender_task) is not None:
        sender.cancel()  # or it would try for ever to send what is left


def _retrieve(on_late_ack: Callable[[], None] | None, late: "asyncio.Future[Any]") -> None:
    if late.cancelled() or late.exception() is not None:  # looked at, or asyncio would complain
        return
    if on_late_ack is not None:
        on_late_ack()


@lru_cache(maxsize=8_192)  # an order's messages come within seconds of each other
def partition_of(key: bytes, partitions: int) -> int:
    """What every Kafka client's default partitioner says, so that any client finds an order on the same partition.

    MurmurHash2 by whole words: aiokafka's own goes byte by byte and takes three times as long.
    """
    h = 0x9747B28C ^ len(key)
    words = len(key) >> 2
    for (k,) in _WORD.iter_unpack(key[: words << 2]):
        k = k * 0x5BD1E995 & 0xFFFFFFFF
        h = h * 0x5BD1E995 & 0xFFFFFFFF ^ (k ^ k >> 24) * 0x5BD1E995 & 0xFFFFFFFF
    if tail := key[words << 2 :]:
        h = (h ^ int.from_bytes(tail, "little")) * 0x5BD1E995 & 0xFFFFFFFF
    h = (h ^ h >> 13) * 0x5BD1E995 & 0xFFFFFFFF
    return ((h ^ h >> 15) & 0x7FFFFFFF) % partitions
