"""News of orders over a real broker: from now on, for a thousand at once, and again after the broker was away."""

import asyncio
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from uuid import UUID, uuid4

from common.contracts.events import OrderCancelRequested
from common.contracts.topics import Topic, all_topics
from common.kafka.admin import create_topics
from common.kafka.publisher import Outcome, Publisher
from common.kafka.reader import TopicReader
from eventually import eventually
from gateway.following import Following
from gateway.order_events import OrderEvents
from gateway.reads import View
from integration.core.broker import OwnBroker, outgoing, running
from local_stack import servers as local_servers
from local_stack.network import HOST, NotReadyError, free_ports
from local_stack.readiness import broker_ready


@asynccontextmanager
async def listening(bootstrap_servers: str) -> AsyncGenerator[OrderEvents]:
    """Events, heard from the end of the topic."""
    events, readers = OrderEvents(), list[TopicReader]()

    def open_reader() -> TopicReader:
        reader = TopicReader(
            bootstrap_servers=bootstrap_servers,
            topic=Topic.ORDERS_EVENTS,
            handle=events.hear,
            fetch_max_wait_ms=10,
            from_end=True,
        )
        readers.append(reader)
        return reader

    async with running(partial(events.listen, open_reader=open_reader)):
        await eventually(lambda: readers and readers[-1].caught_up.is_set(), within=10)
        yield events


async def tell(publisher: Publisher, *order_ids: UUID) -> bool:
    outcomes = await publisher.publish([outgoing(OrderCancelRequested(order_id=order_id)) for order_id in order_ids])
    return all(outcome is Outcome.ACKED for outcome in outcomes)


async def test_a_thousand_who_wait_for_as_many_orders_are_all_woken(own_broker: OwnBroker) -> None:
    versions = {uuid4(): 1 for _ in range(1_000)}

    async def find(order_id: UUID) -> View:
        return View(versions[order_id], b'{"status":"placed"}')

    async with listening(own_broker.bootstrap_servers) as events, publishing(own_broker.bootstrap_servers) as publisher:
        following = Following(events, poll_s=60)
        async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
            waiting = [tasks.create_task(following.change(i, partial(find, i), '"1"', 20)) for i in versions]
            versions |= dict.fromkeys(versions, 2)
            assert await tell(publisher, *versions)

    assert {task.result().version for task in waiting} == {2}


async def test_what_was_published_before_wakes_nobody(own_broker: OwnBroker) -> None:
    old, new = uuid4(), uuid4()
    async with publishing(own_broker.bootstrap_servers) as publisher:
        await tell(publisher, old)

        async with listening(own_broker.bootstrap_servers) as events, asyncio.timeout(10):
            with events.of(old) as heard_old, events.of(new) as heard_new:
                await tell(publisher, new)
                await heard_new.wait()

    assert not heard_old.is_set()


async def test_after_a_broker_that_stood_still_news_is_heard_again(own_broker: OwnBroker) -> None:
    order_id = uuid4()
    async with listening(own_broker.bootstrap_servers) as events, publishing(own_broker.bootstrap_servers) as publisher:
        with events.of(order_id) as heard:
            own_broker.freeze()
            assert not await tell(publisher, order_id)  # it gives up after a while
            own_broker.thaw()

            await eventually(lambda: until_heard(publisher, order_id, heard), within=30)


async def test_after_a_restart_of_the_broker_news_is_heard_again() -> None:
    port, order_id = next(free_ports()), uuid4()
    address = f"{HOST}:{port}"
    async with AsyncExitStack() as second, AsyncExitStack() as first:
        await first.enter_async_context(broker(port))
        async with listening(address) as events:
            async with publishing(address) as publisher:
                assert await tell(publisher, *(uuid4() for _ in range(100)))
            await first.aclose()
            await second.enter_async_context(broker(port))
            async with publishing(address) as publisher:
                with events.of(order_id) as heard:
                    await eventually(lambda: until_heard(publisher, order_id, heard), within=30)


@asynccontextmanager
async def broker(port: int) -> AsyncGenerator[None]:
    """A broker that is killed at the end, not stopped: it would wait for who is still connected."""
    spec = local_servers.broker(port)
    process = await asyncio.create_subprocess_exec(*spec.argv, env=spec.env, stdout=DEVNULL, stderr=DEVNULL)

    async def ready() -> bool:
        try:
            await broker_ready(port)()
        except NotReadyError:
            return False
        return True

    try:
        await eventually(ready, within=10)
        await create_topics(f"{HOST}:{port}", all_topics())
        yield
    finally:
        process.kill()
        await process.wait()


@asynccontextmanager
async def publishing(bootstrap_servers: str) -> AsyncGenerator[Publisher]:
    publisher = Publisher(bootstrap_servers, idempotence=False, ack_timeout_s=1)
    await publisher.start()
    try:
        yield publisher
    finally:
        await publisher.stop()


async def until_heard(publisher: Publisher, order_id: UUID, heard: asyncio.Event) -> bool:
    """Whether it is heard; if not, tell it again: what is said while nobody listens is lost."""
    await tell(publisher, order_id)
    with suppress(TimeoutError):
        async with asyncio.timeout(0.5):
            await heard.wait()
    return heard.is_set()
