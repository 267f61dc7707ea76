"""The last view that was served, for the time in which nobody can say whether there is a newer one.

Problem: when the orders service or Postgres is away, an order that is not in the cache cannot be read, though it was a
moment ago. Yet a copy from memory may be older than what its reader has seen at another gateway.
Rule: the views served last are kept. When an order cannot be read, its copy is served, marked with its age, to readers
whom it cannot take backwards: who says by `If-None-Match` which version he has, and that is no newer; and anybody, if
the version is final. All others get the 503.
Guarantee: a copy is never older than what its reader said he has.
Limits: the last `KEPT` orders of this process.
Source: stale-if-error, RFC 5861; the marks are `Age` (RFC 9111) and `Cache-Status` with a negative ttl (RFC 9211).
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol
from uuid import UUID

from common.errors import InfrastructureError
from common.telemetry.metrics import STALE_VIEWS
from gateway.following import is_final, rank_of
from gateway.reads import View, tags_of

KEPT = 10_000


class Finder(Protocol):
    async def find(self, order_id: UUID, customer_id: str) -> View:
        """A customer's order as it is now. Raises problems, and InfrastructureError when nobody can say."""
        ...


@dataclass(frozen=True, slots=True)
class _Copy:
    view: View
    read_at: float


class LastViews:
    def __init__(self, finder: Finder, *, kept: int = KEPT, clock: Callable[[], float] = time.monotonic) -> None:
        self._finder, self._kept, self._clock = finder, kept, clock
        self._copies: OrderedDict[tuple[UUID, str], _Copy] = OrderedDict()

    async def find(self, order_id: UUID, customer_id: str, known: str | None) -> View:
        """The order as it is now, or as it was last seen, with its age. `known`: the If-None-Match."""
        key = (order_id, customer_id)
        try:
            view = await self._finder.find(order_id, customer_id)
        except InfrastructureError:
            copy = self._copies.get(key)
            if copy is None or not (_has_none_newer(known, copy.view) or is_final(copy.view)):
                raise
            STALE_VIEWS.inc()
            return replace(copy.view, age_s=int(self._clock() - copy.read_at))
        self._keep(key, view)
        return view

    def _keep(self, key: tuple[UUID, str], view: View) -> None:
        copy = self._copies.get(key)
        if copy is None or copy.view.rank <= view.rank:  # of two reads the older may end last
            self._copies[key] = _Copy(view, self._clock())
        self._copies.move_to_end(key)
        if len(self._copies) > self._kept:
            self._copies.popitem(last=False)


def mark_of(view: View) -> dict[str, str]:
    """The headers of a view that may be outdated; none of any other."""
    if view.age_s is None:
        return {}
    return {"Age": str(view.age_s), "Cache-Status": f"headrace; hit; ttl=-{view.age_s}"}


def _has_none_newer(known: str | None, view: View) -> bool:
    ranks = [rank_of(tag.strip('"')) for tag in tags_of(known)]
    return bool(ranks) and min(ranks) >= (0, False) and max(ranks) <= view.rank
