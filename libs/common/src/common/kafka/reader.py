"""Reading a topic outside any group: from its beginning, for a local copy or an audit; from its end, to hear news."""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportPrivateUsage=false
# (aiokafka carries no types; we hand out our own Record)

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from common.contracts.topics import DEAD_LETTER_MAX_BYTES
from common.errors import InfrastructureError
from common.kafka.closing import close
from common.kafka.consumer import to_our_record
from common.records import Record

CLOSE_S = 1  # it has nothing to finish


class TopicReader:
    """Hands every record of a topic to `handle`, oldest first; `caught_up` is set once it has been at the end.

    `from_end`: only those that come from now on. After an outage some may be missing, if the broker lost its memory.
    Joins no group and commits nothing. What it has read is forgotten when the process ends.
    """

    def __init__(
        self,
        *,
        bootstrap_servers: str,
        topic: str,
        handle: Callable[[Sequence[Record]], None],
        fetch_max_wait_ms: int = 500,
        from_end: bool = False,
    ) -> None:
        self.caught_up = asyncio.Event()
        self._topic, self._handle, self._from_end = topic, handle, from_end
        self._consumer: Any = AIOKafkaConsumer(
            bootstrap_servers=bootstrap_servers,
            enable_auto_commit=False,
            auto_offset_reset="latest" if from_end else "earliest",
            request_timeout_ms=10_000,
            fetch_max_wait_ms=fetch_max_wait_ms,
            max_partition_fetch_bytes=DEAD_LETTER_MAX_BYTES,  # the largest batch of any topic
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Read until `stop` is set. Raises InfrastructureError when the broker is away at the start."""
        try:
            await self._consumer.start()
            partitions = await self._partitions()
            self._consumer.assign(partitions)
            ends = await self._consumer.end_offsets(partitions)
            if self._from_end:
                for partition, end in ends.items():
                    self._consumer.seek(partition, end)
            else:
                await self._consumer.seek_to_beginning(*partitions)
            while not stop.is_set():
                await self._turn(ends)
        except KafkaError as error:
            raise InfrastructureError(f"cannot read {self._topic}: {error}") from error
        finally:
            await close(self._consumer, self._consumer._client, within_s=CLOSE_S)

    async def _partitions(self) -> list[Any]:
        await self._consumer._client._wait_on_metadata(self._topic)
        return [TopicPartition(self._topic, p) for p in sorted(self._consumer.partitions_for_topic(self._topic))]

    async def _turn(self, ends: dict[Any, int]) -> None:
        if not self.caught_up.is_set():
            positions = {partition: await self._consumer.position(partition) for partition in ends}
            if all(positions[partition] >= end for partition, end in ends.items()):
                self.caught_up.set()
        fetched = await self._consumer.getmany(timeout_ms=200, max_records=5_000)
        for batch in fetched.values():
            self._handle([to_our_record(raw) for raw in batch])
