"""A broker of one's own, to be frozen without harm to the other tests."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from common.contracts.topics import all_topics
from common.kafka.admin import create_topics
from integration.core.broker import OwnBroker
from local_stack import servers as local_servers
from local_stack.network import HOST, free_ports
from local_stack.supervisor import supervised


@pytest.fixture
async def own_broker(tmp_path: Path) -> AsyncIterator[OwnBroker]:
    port = next(free_ports())
    async with supervised(tmp_path, [[local_servers.broker(port)]]) as supervisor:
        broker = OwnBroker(f"{HOST}:{port}", supervisor.processes["broker"].pid or 0)
        await create_topics(broker.bootstrap_servers, all_topics())
        try:
            yield broker
        finally:
            broker.thaw()
