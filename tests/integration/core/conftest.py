"""A broker that may be frozen without harm to the other tests."""

import os
import signal
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from common.contracts.topics import all_topics
from common.kafka.admin import create_topics
from integration.core.broker import OwnBroker
from kafka.container import Kafka
from local_stack import servers as local_servers
from local_stack.network import HOST, free_ports
from local_stack.supervisor import supervised


@pytest.fixture
async def own_broker(kafka: Kafka | None, tmp_path: Path) -> AsyncIterator[OwnBroker]:
    """One of its own; or the container, which nobody else uses meanwhile."""
    if kafka is not None:
        (node,) = kafka.nodes
        broker = OwnBroker(kafka.bootstrap_servers, True, node.freeze, node.thaw)
        await create_topics(broker.bootstrap_servers, all_topics())
        yield broker
        node.thaw()
        return
    port = next(free_ports())
    async with supervised(tmp_path, [[local_servers.broker(port)]]) as supervisor:
        send = partial(os.kill, supervisor.processes["broker"].pid or 0)
        freeze, thaw = partial(send, signal.SIGSTOP), partial(send, signal.SIGCONT)
        await create_topics(f"{HOST}:{port}", all_topics())
        try:
            yield OwnBroker(f"{HOST}:{port}", False, freeze, thaw)
        finally:
            thaw()
