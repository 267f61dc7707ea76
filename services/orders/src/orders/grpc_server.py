"""The read API over gRPC: GetOrder, ListOrders and GetTimeline, as in common/contracts/orders.proto."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# (the generated stubs carry no types for the service class)

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID

import grpc
import grpc.aio
import structlog

from common.cache import Cache
from common.contracts import orders_pb2 as pb
from common.contracts import orders_pb2_grpc
from common.contracts.keys import view_key
from common.errors import InfrastructureError, PoisonError
from common.shutdown import step
from orders.adapters.queries import OrderQueries
from orders.adapters.view import to_value, to_view
from orders.domain.order import Order
from orders.domain.ports import Step

log = structlog.get_logger()

MAX_CONCURRENT_CALLS = 100
FINISH_CALLS_S = 8
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Context = grpc.aio.ServicerContext[object, object]


class OrdersService(orders_pb2_grpc.OrdersServicer):
    def __init__(self, queries: OrderQueries, cache: Cache | None = None) -> None:
        self._queries, self._cache = queries, cache

    async def GetOrder(self, request: pb.GetOrderRequest, context: Context) -> pb.GetOrderReply:  # noqa: N802
        try:
            order_id = UUID(request.order_id)
            order = await self._queries.get(order_id, request.customer_id)
            died_at = None if order else await self._queries.died_at(order_id)
        except (ValueError, PoisonError):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "order_id is not a UUID, or customer_id is no text")
        except InfrastructureError:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the database is away")
        if self._cache and request.lease:
            await _fill(self._cache, view_key(UUID(request.order_id), request.customer_id), request.lease, order)
        if died_at is not None:
            return pb.GetOrderReply(died_at_ms=_ms(died_at))
        if order is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such order")
        return pb.GetOrderReply(version=order.version, view=to_view(order))

    async def ListOrders(self, request: pb.ListOrdersRequest, context: Context) -> pb.ListOrdersReply:  # noqa: N802
        try:
            page = await self._queries.page(
                request.customer_id,
                status=request.status or None,
                limit=min(max(request.limit, 1), 100),
                cursor=request.cursor or None,
            )
        except (ValueError, PoisonError) as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except InfrastructureError:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the database is away")
        return pb.ListOrdersReply(orders=map(to_proto, page.orders), next_cursor=page.next_cursor or "")

    async def GetTimeline(self, request: pb.GetTimelineRequest, context: Context) -> pb.GetTimelineReply:  # noqa: N802
        try:
            steps = await self._queries.timeline(UUID(request.order_id), request.customer_id)
        except (ValueError, PoisonError):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "order_id is not a UUID, or customer_id is no text")
        except InfrastructureError:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the database is away")
        if steps is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such order")
        return pb.GetTimelineReply(steps=map(_to_step, steps))


@asynccontextmanager
async def grpc_server(queries: OrderQueries, listen: str, cache: Cache | None = None) -> AsyncGenerator[int]:
    """Serve for as long as the block runs; yields the port. Calls under way get 8 s to end."""
    server = grpc.aio.server(maximum_concurrent_rpcs=MAX_CONCURRENT_CALLS)
    orders_pb2_grpc.add_OrdersServicer_to_server(OrdersService(queries, cache), server)
    port = server.add_insecure_port(listen)
    await server.start()
    try:
        yield port
    finally:
        async with step("finish the calls", FINISH_CALLS_S + 2):
            await server.stop(grace=FINISH_CALLS_S)


async def _fill(cache: Cache, key: str, lease: str, order: Order | None) -> None:
    try:
        await cache.fill(key, lease, to_value(order) if order else None)
    except InfrastructureError as error:
        log.warning("cache_not_filled", error=str(error))


def to_proto(order: Order) -> pb.Order:
    return pb.Order(
        order_id=str(order.order_id),
        customer_id=order.customer_id,
        currency=order.currency,
        total_minor=order.total_minor,
        client_reference=order.client_reference,
        status=order.status,
        reason=order.reason,
        version=order.version,
        accepted_at_ms=_ms(order.accepted_at),
        updated_at_ms=_ms(order.updated_at),
        lines=[
            pb.OrderLine(sku=line.sku, name=line.name, quantity=line.quantity, unit_price_minor=line.unit_price_minor)
            for line in order.lines
        ],
    )


def _to_step(step: Step) -> pb.TimelineStep:
    record = None
    if step.topic is not None and step.logged_at is not None:
        logged_at_ms = _ms(step.logged_at)
        record = pb.LogPosition(
            topic=step.topic, partition=step.partition, offset=step.offset, logged_at_ms=logged_at_ms
        )
    return pb.TimelineStep(
        what=step.what,
        handled_at_ms=_ms(step.handled_at),
        status=step.status,
        version=step.version,
        attempt=step.attempt,
        trace_id=step.trace_id,
        note=step.note,
        record=record,
    )


def _ms(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(milliseconds=1)  # a float would be off by one now and then
