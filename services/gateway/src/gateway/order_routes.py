"""The routes that tell the story of one order: its versions as they come, and its timeline."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from gateway.auth import READ, Authenticator
from gateway.following import Following, is_final, rank_of
from gateway.reads import View
from gateway.requests import order_id_of
from gateway.schemas import OrderView, Timeline, TimelineStep


class TimelineReader(Protocol):
    async def timeline(self, order_id: UUID, customer_id: str) -> list[TimelineStep] | None:
        """What was done since the order is placed, oldest first; None for an order that is unknown or somebody else's.
        Raises InfrastructureError."""
        ...


class OrderRoutes:
    """`find`: a customer's order as it is now, or the problem 404."""

    def __init__(
        self,
        *,
        authenticator: Authenticator,
        find: Callable[[UUID, str], Awaitable[View]],
        following: Following,
        timelines: TimelineReader,
    ) -> None:
        self._authenticator, self._find = authenticator, find
        self._following, self._timelines = following, timelines

    async def stream_events(self, request: Request) -> Response:
        """204 ends it for good: a browser would come back for ever to an order that has ended."""
        customer_id = self._authenticator.customer(request.headers.get("authorization"), READ)
        order_id = order_id_of(request)
        last_event_id = request.headers.get("last-event-id")
        view = await self._find(order_id, customer_id)
        if is_final(view) and view.rank <= rank_of(last_event_id):
            return Response(status_code=204)
        return self._following.stream(order_id, partial(self._find, order_id, customer_id), last_event_id)

    async def read_timeline(self, request: Request) -> Response:
        """First what only the gateway knows, that it was accepted; then what was done about it."""
        customer_id = self._authenticator.customer(request.headers.get("authorization"), READ)
        order_id = order_id_of(request)
        view = await self._find(order_id, customer_id)
        steps = _unplaced_steps(OrderView.model_validate_json(view.body))
        if view.version > 0:
            steps = steps[:1] + (await self._timelines.timeline(order_id, customer_id) or [])
        timeline = Timeline(order_id=order_id, steps=steps)
        return Response(timeline.model_dump_json(), media_type="application/json")


def _unplaced_steps(view: OrderView) -> list[TimelineStep]:
    """It was accepted; and if its command is a dead letter, that."""
    steps = [TimelineStep(what="accepted", handled_at=view.accepted_at, status="accepted", version=0)]
    if view.status == "needs_attention":
        steps.append(TimelineStep(what="dead_letter", handled_at=view.updated_at, status=view.status, version=0))
    return steps
