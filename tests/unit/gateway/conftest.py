from collections.abc import AsyncGenerator

import pytest

from common.telemetry.tracing import configure_tracing
from unit.gateway.fakes import Door, open_door


@pytest.fixture(scope="session", autouse=True)
def trace_ids() -> None:  # pyright: ignore[reportUnusedFunction]
    configure_tracing("gateway", None, 0.0)


@pytest.fixture
async def door() -> AsyncGenerator[Door]:
    async with open_door() as opened:
        yield opened
