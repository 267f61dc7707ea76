"""Finding one order for its customer: the view, else the accepted marker, else nothing, if that is sure.

Rule: view -> marker -> 404 only while Redis' memory is trusted (memory.py), else 503: an accepted order is never a 404.
Somebody else's order is the same 404 as none.
"""

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from gateway.idempotency import Marker
from gateway.memory import Memory
from gateway.problems import CANNOT_SAY_YET, NOT_FOUND, Problem
from gateway.reads import Reads, View
from gateway.schemas import OrderView, links_to


@dataclass(frozen=True, slots=True)
class Remembered:
    """What Redis has of an order, and the epoch of its memory; None when it has none."""

    marker: Marker | None
    epoch: str | None


class MarkerStore(Protocol):
    async def find(self, order_id: UUID, customer_id: str) -> Remembered:
        """The customer's marker of this order. Raises InfrastructureError when the store cannot say."""
        ...


class Lookup:
    def __init__(self, reads: Reads, markers: MarkerStore, memory: Memory) -> None:
        self._reads, self._markers, self._memory = reads, markers, memory

    async def find(self, order_id: UUID, customer_id: str) -> View:
        """Raises the problems 404 and 503, and InfrastructureError."""
        asked_at = time.monotonic()
        view = await self._reads.read(order_id, customer_id)
        if view is not None and view.died_at is None:
            return view
        found = await self._markers.find(order_id, customer_id)
        if found.marker is not None:  # of a dead letter, too, only the marker knows whose it is
            return _unplaced_view(found.marker, view.died_at if view else None)
        if self._memory.trusts(found.epoch, asked_at):
            raise Problem(NOT_FOUND)
        return await self._find_by_the_log(order_id, customer_id, found.epoch)

    async def _find_by_the_log(self, order_id: UUID, customer_id: str, epoch: str | None) -> View:
        if not await self._memory.learn_to_trust(epoch):
            raise Problem(CANNOT_SAY_YET, headers={"Retry-After": "1"})
        view = await self._reads.read(order_id, customer_id)  # it may have been written since we looked
        if view is None or view.died_at is not None:
            raise Problem(NOT_FOUND)
        return view


def _unplaced_view(marker: Marker, died_at: datetime | None) -> View:
    """An order that is in the log only, or in the dead letter topic and waits for a person."""
    view = OrderView(
        order_id=marker.order_id,
        status="needs_attention" if died_at else "accepted",
        reason="dead_letter" if died_at else None,
        version=0,
        accepted_at=marker.accepted_at,
        updated_at=died_at or marker.accepted_at,
        links=links_to(marker.order_id),
    )
    return View(0, view.model_dump_json().encode(), died_at)
