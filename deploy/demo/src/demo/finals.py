"""Watches the accepted orders of a replay become final, a thousand ids at a time: exact, and cheap for Postgres."""

import asyncio
import time
from collections.abc import Sequence
from typing import Protocol

from common.errors import InfrastructureError
from demo.journal import JournalWriter
from demo.progress import Show
from demo.tally import Tally

POLL_S = 0.25
IDS_PER_POLL = 1_000
STALLED_AFTER_S = 120


class FinalOrders(Protocol):
    async def final_among(self, order_ids: Sequence[str]) -> dict[str, str]:
        """Id and status of those that are final. Raises InfrastructureError."""
        ...


async def watch(db: FinalOrders, journal: JournalWriter, tally: Tally, show: Show, *, wait: bool) -> float:
    """Look for final orders until there is nothing to wait for. Answers the moment when something moved last."""
    moved_at, final = time.monotonic(), 0
    while True:
        await asyncio.sleep(POLL_S)
        if wait:
            await find_final(db, tally)
        journal.flush()
        show(tally)
        now = time.monotonic()
        if not tally.all_answered or tally.final.total() > final:
            moved_at, final = now, tally.final.total()
        if tally.all_answered and (not wait or not tally.waiting or now - moved_at > STALLED_AFTER_S):
            return moved_at


async def find_final(db: FinalOrders, tally: Tally) -> None:
    """Ask for the oldest waiting orders, and go on as long as most of them are final. What is not yet goes last."""
    while tally.waiting:
        order_ids = [tally.waiting.popleft() for _ in range(min(IDS_PER_POLL, len(tally.waiting)))]
        try:
            final = await db.final_among(order_ids)
        except InfrastructureError:  # Postgres is away: it shows as orders that do not become final
            final = dict[str, str]()
        tally.final.update(final.values())
        tally.waiting.extend(order_id for order_id in order_ids if order_id not in final)
        if len(final) < len(order_ids) / 2:
            return
