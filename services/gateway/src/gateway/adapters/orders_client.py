"""Orders over gRPC: one channel per process, a deadline on every call. A call waits for a replica within its deadline:
while one restarts the other may not be connected again yet."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (the generated stubs carry no types for the service class)

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import grpc
import grpc.aio

from common.contracts import orders_pb2 as pb
from common.contracts import orders_pb2_grpc
from common.errors import InfrastructureError
from gateway.problems import BAD_CURSOR, Problem
from gateway.reads import View
from gateway.schemas import LineView, OrderPage, OrderView, TimelineStep, links_to

DEADLINE_S = 2.0

_OPTIONS = [
    ("grpc.lb_policy_name", "round_robin"),  # pick_first would send everything to one replica
    ("grpc.initial_reconnect_backoff_ms", 100),  # a replica that was restarted is back in a second or two
    ("grpc.max_reconnect_backoff_ms", 1_000),  # the default waits up to two minutes for a service that is back
    ("grpc.enable_http_proxy", 0),
]
_AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)  # cancelled: by a server that was just leaving


class OrdersAwayError(InfrastructureError):
    """The service, or Postgres behind it, is not there: it may be in a moment, or another replica is."""


class GrpcOrders:
    """The OrdersReader of gateway.routes, the ViewReader of gateway.reads, the TimelineReader of order_routes."""

    def __init__(self, channel: grpc.aio.Channel, *, deadline_s: float = DEADLINE_S) -> None:
        self._stub: Any = orders_pb2_grpc.OrdersStub(channel)
        self._deadline_s = deadline_s

    async def view(self, order_id: UUID, customer_id: str, lease: str) -> View | None:
        request = pb.GetOrderRequest(order_id=str(order_id), customer_id=customer_id, lease=lease)
        try:
            reply: pb.GetOrderReply = await self._stub.GetOrder(request, timeout=self._deadline_s, wait_for_ready=True)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return None
            raise _away(error) from error
        died_at = _moment(reply.died_at_ms) if reply.died_at_ms else None
        return View(reply.version, reply.view, died_at)

    async def page(self, customer_id: str, *, status: str | None, limit: int, cursor: str | None) -> OrderPage:
        request = pb.ListOrdersRequest(customer_id=customer_id, status=status or "", limit=limit, cursor=cursor or "")
        try:
            reply: pb.ListOrdersReply = await self._stub.ListOrders(
                request, timeout=self._deadline_s, wait_for_ready=True
            )
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                raise Problem(BAD_CURSOR) from error
            raise _away(error) from error
        return OrderPage(orders=[_view(order) for order in reply.orders], next_cursor=reply.next_cursor or None)

    async def timeline(self, order_id: UUID, customer_id: str) -> list[TimelineStep] | None:
        request = pb.GetTimelineRequest(order_id=str(order_id), customer_id=customer_id)
        try:
            reply: pb.GetTimelineReply = await self._stub.GetTimeline(
                request, timeout=self._deadline_s, wait_for_ready=True
            )
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return None
            raise _away(error) from error
        return [_step(step) for step in reply.steps]


def create_channel(target: str) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(target, options=_OPTIONS)


def _away(error: grpc.aio.AioRpcError) -> InfrastructureError:
    kind = OrdersAwayError if error.code() in _AWAY else InfrastructureError
    return kind(f"the orders service does not answer: {error.code().name} {error.details()}")


def _view(order: pb.Order) -> OrderView:
    order_id = UUID(order.order_id)
    return OrderView(
        order_id=order_id,
        status=order.status,
        reason=order.reason if order.HasField("reason") else None,
        version=order.version,
        currency=order.currency,
        total_minor=order.total_minor,
        lines=[
            LineView(sku=line.sku, name=line.name, quantity=line.quantity, unit_price_minor=line.unit_price_minor)
            for line in order.lines
        ],
        client_reference=order.client_reference if order.HasField("client_reference") else None,
        accepted_at=_moment(order.accepted_at_ms),
        updated_at=_moment(order.updated_at_ms),
        links=links_to(order_id),
    )


def _step(step: pb.TimelineStep) -> TimelineStep:
    record = step.record if step.HasField("record") else None
    return TimelineStep(
        what=step.what,
        handled_at=_moment(step.handled_at_ms),
        logged_at=_moment(record.logged_at_ms) if record else None,
        status=step.status if step.HasField("status") else None,
        version=step.version if step.HasField("version") else None,
        topic=record.topic if record else None,
        partition=record.partition if record else None,
        offset=record.offset if record else None,
        attempt=step.attempt,
        trace_id=step.trace_id if step.HasField("trace_id") else None,
        note=step.note if step.HasField("note") else None,
    )


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
