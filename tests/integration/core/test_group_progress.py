"""How far a group is, asked from outside of it."""

from uuid import uuid4

import pytest

from builders import reserve_stock
from common.contracts.topics import Topic
from common.errors import InfrastructureError
from common.kafka.progress import GroupProgress
from common.kafka.publisher import Publisher
from eventually import eventually
from integration.core.broker import outgoing, running
from integration.core.test_consumer import JOIN_S, FakeEffects, consumer
from local_stack.network import HOST, free_ports
from local_stack.servers import Addresses


async def test_a_group_is_beyond_the_end_once_it_has_committed_all_of_it(
    servers: Addresses, publisher: Publisher
) -> None:
    topic, group, effects = Topic.INVENTORY_COMMANDS, f"test-{uuid4()}", FakeEffects()
    await publisher.publish([outgoing(reserve_stock()) for _ in range(20)])
    progress = GroupProgress(servers.kafka_bootstrap_servers, group, topic)
    ends = await progress.ends()
    before = await progress.is_beyond(ends)

    async with running(consumer(servers.kafka_bootstrap_servers, group, topic, effects.apply, publisher).run):
        await eventually(lambda: progress.is_beyond(ends), within=JOIN_S)
    await publisher.publish([outgoing(reserve_stock())])

    assert not before
    assert await progress.is_beyond(ends)
    assert not await progress.is_beyond(await progress.ends())


async def test_what_a_group_has_committed_and_where_the_log_ends(servers: Addresses, publisher: Publisher) -> None:
    topic, group, effects = Topic.INVENTORY_COMMANDS, f"test-{uuid4()}", FakeEffects()
    await publisher.publish([outgoing(reserve_stock()) for _ in range(20)])
    progress = GroupProgress(servers.kafka_bootstrap_servers, group, topic)
    before, ends = await progress.position()

    async with running(consumer(servers.kafka_bootstrap_servers, group, topic, effects.apply, publisher).run):
        await eventually(lambda: progress.is_beyond(ends), within=JOIN_S)
    committed, _ = await progress.position()

    assert ends == await progress.ends()
    assert set(before.values()) == {0}
    assert committed.keys() == ends.keys()
    # not more than that: the embedded broker says the end of a partition too low by all but one of its last batch
    assert all(committed[partition] >= end for partition, end in ends.items())


async def test_without_a_broker_the_answer_is_an_error_in_bounded_time() -> None:
    with pytest.raises(InfrastructureError):
        await GroupProgress(f"{HOST}:{next(free_ports())}", "group", Topic.ORDERS_COMMANDS).ends()
