"""The switches of the payment provider, as faults; two at a time add up."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import aiohttp

from tests.prove.schedule import Fault, Kind

SWITCH = {Kind.HANG: "hang", Kind.FAIL: "error_rate", Kind.LOSE_REPLIES: "lost_reply_rate"}


@asynccontextmanager
async def switched(provider_url: str, fault: Fault) -> AsyncGenerator[None]:
    """The fault is on inside the block, if the provider lives: one that is started again has no faults."""
    on = True if fault.kind is Kind.HANG else fault.amount
    await switch(provider_url, {SWITCH[fault.kind]: on})
    try:
        yield
    finally:
        await switch(provider_url, {SWITCH[fault.kind]: False if fault.kind is Kind.HANG else 0.0})


async def switch(provider_url: str, switches: dict[str, float | bool | int]) -> bool:
    """Whether the provider took them: it may be down, or frozen, by another fault."""
    timeout = aiohttp.ClientTimeout(total=15)
    try:
        async with (
            aiohttp.ClientSession(provider_url, timeout=timeout, raise_for_status=True) as session,
            session.patch("/switches", json=switches),
        ):
            return True
    except (aiohttp.ClientError, TimeoutError):
        return False
