"""How far a consumer group is in a topic, asked from outside the group."""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (aiokafka carries no types)

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from common.errors import InfrastructureError

ANSWER_S = 2.0
STOP_S = 2.0


def covers(committed: Mapping[int, int], ends: Mapping[int, int]) -> bool:
    """Whether everything before `ends` is committed. Both are offsets, by partition."""
    return all(committed.get(partition, 0) >= end for partition, end in ends.items())


@dataclass(frozen=True, slots=True)
class GroupProgress:
    """For a question every few seconds: each opens a connection of its own. Raises InfrastructureError after 2 s."""

    bootstrap_servers: str
    group: str
    topic: str

    async def ends(self) -> Mapping[int, int]:
        """Of each partition the offset that its next record will have."""
        async with self._asking() as (consumer, partitions):
            return _by_number(await consumer.end_offsets(partitions))

    async def committed(self) -> Mapping[int, int]:
        """Of each partition the offset that the group would read next."""
        async with self._asking() as (consumer, partitions):
            return await _committed(consumer, partitions)

    async def is_beyond(self, ends: Mapping[int, int]) -> bool:
        """Whether the group has committed everything before these offsets."""
        return covers(await self.committed(), ends)

    async def position(self) -> tuple[Mapping[int, int], Mapping[int, int]]:
        """What the group has committed in each partition, and where that ended afterwards."""
        async with self._asking() as (consumer, partitions):
            committed = await _committed(consumer, partitions)
            return committed, _by_number(await consumer.end_offsets(partitions))

    @asynccontextmanager
    async def _asking(self) -> AsyncGenerator[tuple[Any, list[Any]]]:
        consumer: Any = AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap_servers, group_id=self.group, enable_auto_commit=False
        )
        try:
            async with asyncio.timeout(ANSWER_S):
                await consumer.start()
                await consumer._client._wait_on_metadata(self.topic)
                partitions = [TopicPartition(self.topic, p) for p in sorted(consumer.partitions_for_topic(self.topic))]
                consumer.assign(partitions)  # by hand: it does not join the group
                yield consumer, partitions
        except (KafkaError, TimeoutError) as error:
            raise InfrastructureError(f"cannot ask how far {self.group} is in {self.topic}: {error!r}") from error
        finally:
            with suppress(TimeoutError, KafkaError):
                async with asyncio.timeout(STOP_S):
                    await consumer.stop()


async def _committed(consumer: Any, partitions: list[Any]) -> dict[int, int]:
    return {p.partition: await consumer.committed(p) or 0 for p in partitions}


def _by_number(offsets: dict[Any, int]) -> dict[int, int]:
    return {partition.partition: offset for partition, offset in offsets.items()}
