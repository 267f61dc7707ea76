"""The gateway's client of orders against a real gRPC server."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# (the generated stubs carry no types for the service class)

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import UUID

import grpc
import grpc.aio
import pytest

from common.contracts import orders_pb2 as pb
from common.contracts import orders_pb2_grpc
from common.errors import InfrastructureError
from eventually import eventually
from gateway.adapters.orders_client import GrpcOrders, OrdersAwayError, create_channel
from gateway.problems import Problem
from gateway.reads import View
from gateway.schemas import LineView, OrderView, links_to
from local_stack.network import HOST, free_ports

ORDER_ID = UUID("6f1d4a52-4f0c-5b0e-9d5a-3a1a6c0f7a11")
MISSING, BROKEN, SLOW = UUID(int=404), UUID(int=503), UUID(int=504)
Context = grpc.aio.ServicerContext[object, object]


class Orders(orders_pb2_grpc.OrdersServicer):
    """Knows one order, and how to be missing, broken or slow."""

    async def GetOrder(self, request: pb.GetOrderRequest, context: Context) -> pb.GetOrderReply:  # noqa: N802
        match UUID(request.order_id):
            case id if id == MISSING:
                await context.abort(grpc.StatusCode.NOT_FOUND)
            case id if id == BROKEN:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the database is away")
            case id if id == SLOW:
                await asyncio.Event().wait()
            case _:
                pass
        return pb.GetOrderReply(version=1, view=f'{{"for":"{request.customer_id} {request.lease}"}}'.encode())

    async def ListOrders(self, request: pb.ListOrdersRequest, context: Context) -> pb.ListOrdersReply:  # noqa: N802
        if request.cursor == "tampered":
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT)
        if request.cursor == "broken":
            await context.abort(grpc.StatusCode.UNAVAILABLE)
        cursor = f"{request.status}:{request.limit}:{request.cursor}"
        return pb.ListOrdersReply(orders=[_order(request.customer_id)], next_cursor=cursor if request.status else "")


async def test_an_order_arrives_as_it_is_served_and_the_lease_is_handed_on() -> None:
    async with client() as orders:
        assert await orders.view(ORDER_ID, "alice", "lease-1") == View(1, b'{"for":"alice lease-1"}')


async def test_a_page_has_its_orders_whole() -> None:
    async with client() as orders:
        page = await orders.page("alice", status=None, limit=1, cursor=None)
        assert page.orders[0] == OrderView(
            order_id=ORDER_ID,
            status="placed",
            reason=None,
            version=1,
            currency="USD",
            total_minor=2**40,
            lines=[LineView(sku="cd-1", name="Récord", quantity=2, unit_price_minor=2**39)],
            client_reference="",
            accepted_at=datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC),
            updated_at=datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC),
            links=links_to(ORDER_ID),
        )


async def test_not_found_is_none_and_everything_else_is_away() -> None:
    async with client(deadline_s=0.2) as orders:
        assert await orders.view(MISSING, "alice", "") is None
        for order_id in (BROKEN, SLOW):
            with pytest.raises(InfrastructureError):
                await orders.view(order_id, "alice", "")
        with pytest.raises(InfrastructureError):
            await orders.page("alice", status=None, limit=1, cursor="broken")


async def test_only_a_service_that_is_not_there_is_worth_another_try() -> None:
    async with client(deadline_s=0.2) as orders:
        with pytest.raises(OrdersAwayError):
            await orders.view(BROKEN, "alice", "")
        with pytest.raises(InfrastructureError) as slow:
            await orders.view(SLOW, "alice", "")

    assert not isinstance(slow.value, OrdersAwayError)


async def test_a_page_asks_for_what_was_asked() -> None:
    async with client() as orders:
        page = await orders.page("alice", status="placed", limit=7, cursor="c")
        last = await orders.page("alice", status=None, limit=7, cursor=None)

    assert [order.order_id for order in page.orders] == [ORDER_ID]
    assert page.next_cursor == "placed:7:c"
    assert last.next_cursor is None


async def test_a_cursor_that_orders_refuses_is_a_bad_request() -> None:
    async with client() as orders:
        with pytest.raises(Problem, match="bad-cursor"):
            await orders.page("alice", status=None, limit=1, cursor="tampered")


async def test_a_service_that_is_not_there_is_away_once_the_deadline_has_come() -> None:
    async with create_channel("127.0.0.1:1") as channel:
        with pytest.raises(InfrastructureError):
            await GrpcOrders(channel, deadline_s=0.2).view(ORDER_ID, "alice", "")


async def test_a_call_waits_for_a_service_that_comes_within_its_deadline() -> None:
    port = next(free_ports())
    async with create_channel(f"{HOST}:{port}") as channel, asyncio.TaskGroup() as tasks:
        asked = tasks.create_task(GrpcOrders(channel, deadline_s=10).view(ORDER_ID, "alice", ""))
        await eventually(lambda: channel.get_state() is grpc.ChannelConnectivity.TRANSIENT_FAILURE, within=5)
        async with serving(port):
            assert await asked is not None


@asynccontextmanager
async def client(*, deadline_s: float = 5) -> AsyncGenerator[GrpcOrders]:
    async with serving() as port, create_channel(f"{HOST}:{port}") as channel:
        yield GrpcOrders(channel, deadline_s=deadline_s)


@asynccontextmanager
async def serving(port: int = 0) -> AsyncGenerator[int]:
    server = grpc.aio.server()
    orders_pb2_grpc.add_OrdersServicer_to_server(Orders(), server)
    port = server.add_insecure_port(f"{HOST}:{port}")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(grace=0)


def _order(customer_id: str) -> pb.Order:
    moment = int(datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC).timestamp() * 1000)
    return pb.Order(
        order_id=str(ORDER_ID),
        customer_id=customer_id,
        currency="USD",
        total_minor=2**40,
        client_reference="",
        status="placed",
        version=1,
        accepted_at_ms=moment,
        updated_at_ms=moment,
        lines=[pb.OrderLine(sku="cd-1", name="Récord", quantity=2, unit_price_minor=2**39)],
    )
