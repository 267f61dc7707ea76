"""Closing a client of aiokafka in bounded time, whatever the broker does meanwhile.

Its own `stop()` may take 40 s, may let the CancelledError of one of its inner tasks out (which would look as if we were
cancelled, and end the process with a traceback), and leaves its connections open in both cases (measured on a frozen
broker). So it runs as a task of its own, and the connections are closed behind it, also if we are cancelled meanwhile.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (aiokafka carries no types)

import asyncio
from typing import Any

import structlog

from common.shutdown import remaining

log = structlog.get_logger()


async def close(client: Any, connections: Any, within_s: float) -> None:
    """Stop a producer or consumer; `connections`: its AIOKafkaClient."""
    stopping = asyncio.ensure_future(client.stop())
    try:
        await asyncio.wait({stopping}, timeout=remaining(within_s))
    finally:
        stopping.cancel()
        (ended,) = await asyncio.gather(stopping, return_exceptions=True)
        if ended is not None:
            log.warning("kafka_client_stopped_hard", client=type(client).__name__, error=repr(ended))
            await connections.close()
