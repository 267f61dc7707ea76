"""The cached views, as the gateway sees them: JSON with the customer in front; a stranger sees nothing."""

from uuid import UUID

from common.cache import Cache, Hit, Lease, Miss
from common.contracts.keys import view_key
from gateway.reads import Missing, View


class CacheViews:
    """The CachedViews of gateway.reads."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    async def get(self, order_id: UUID, customer_id: str, *, take_over: bool = False) -> View | Missing:
        found = await self._cache.get(view_key(order_id, customer_id), take_over=take_over)
        match found:
            case Hit():
                owner, _, body = found.payload.rpartition(b"\n")  # JSON on one line has no line break
                return View(found.version, body) if owner == customer_id.encode() else Missing()
            case Lease():
                return Missing(lease=found.token)
            case Miss():
                return Missing(wait=found is Miss.WAIT)
