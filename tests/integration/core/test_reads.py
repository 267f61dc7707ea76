"""The read API over gRPC, and the admin server of every process."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# (the generated stubs carry no types)

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import aiohttp
import grpc
import grpc.aio
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from builders import CUSTOMER, NOW, a_line, an_order
from common.contracts import orders_pb2 as pb
from common.contracts import orders_pb2_grpc
from common.postgres import create_engine
from common.telemetry.admin import admin_server
from gateway.schemas import OrderView, links_to
from integration.core.database import value
from local_stack.network import free_ports
from orders.adapters.postgres import unit_of_work
from orders.adapters.queries import OrderQueries
from orders.domain.order import Order, OrderStatus
from orders.grpc_server import grpc_server


@pytest.fixture
async def stub(engine: AsyncEngine) -> AsyncIterator[orders_pb2_grpc.OrdersStub]:
    async with (
        grpc_server(OrderQueries(engine), "127.0.0.1:0") as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        yield orders_pb2_grpc.OrdersStub(channel)


async def add(engine: AsyncEngine, *orders: Order) -> None:
    async with unit_of_work(engine, "test")() as work:
        await work.add_orders(orders)


async def get(stub: orders_pb2_grpc.OrdersStub, order_id: object, customer_id: str = CUSTOMER) -> pb.GetOrderReply:
    return await stub.GetOrder(pb.GetOrderRequest(order_id=str(order_id), customer_id=customer_id), timeout=8)


async def page(
    stub: orders_pb2_grpc.OrdersStub, customer_id: str = CUSTOMER, status: str = "", limit: int = 100, cursor: str = ""
) -> pb.ListOrdersReply:
    request = pb.ListOrdersRequest(customer_id=customer_id, status=status, limit=limit, cursor=cursor)
    return await stub.ListOrders(request, timeout=8)


async def test_an_order_is_found_by_its_customer_with_everything_in_it(
    engine: AsyncEngine, stub: orders_pb2_grpc.OrdersStub
) -> None:
    order = an_order(lines=(a_line("b", 2, 300), a_line("a", 1, 0)), total_minor=600, client_reference="PO 7")
    await add(engine, order)

    reply = await get(stub, order.order_id)
    view = OrderView.model_validate_json(reply.view)

    assert reply.version == 1
    assert reply.view == view.model_dump_json().encode()  # byte for byte what the gateway would have made of it
    assert (view.order_id, view.status, view.version) == (order.order_id, "placed", 1)
    assert (view.total_minor, view.currency, view.client_reference) == (600, "USD", "PO 7")
    assert [(line.sku, line.quantity) for line in view.lines or []] == [("b", 2), ("a", 1)]
    assert (view.accepted_at, view.links) == (NOW, links_to(order.order_id))


async def test_an_unknown_order_and_somebody_elses_get_the_same_answer(
    engine: AsyncEngine, stub: orders_pb2_grpc.OrdersStub
) -> None:
    order = an_order()
    await add(engine, order)

    for order_id, customer in ((uuid4(), CUSTOMER), (order.order_id, "stranger")):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await get(stub, order_id, customer)
        assert (refused.value.code(), refused.value.details()) == (grpc.StatusCode.NOT_FOUND, "no such order")


async def test_pages_show_every_order_of_the_customer_once_newest_first(
    engine: AsyncEngine, stub: orders_pb2_grpc.OrdersStub
) -> None:
    same_moment = [an_order(accepted_at=NOW) for _ in range(4)]
    later = [an_order(accepted_at=NOW + timedelta(microseconds=n)) for n in range(1, 4)]
    await add(engine, *same_moment, *later, an_order(customer_id="stranger"))

    seen: list[pb.Order] = []
    cursor, pages = "", 0
    while cursor or not pages:
        reply = await page(stub, limit=3, cursor=cursor)
        seen += reply.orders
        cursor, pages = reply.next_cursor, pages + 1

    newest_first = sorted([*same_moment, *later], key=lambda o: (o.accepted_at, o.order_id), reverse=True)
    assert [form.order_id for form in seen] == [str(order.order_id) for order in newest_first]
    assert pages == 3


async def test_pages_can_be_of_one_status(engine: AsyncEngine, stub: orders_pb2_grpc.OrdersStub) -> None:
    await add(engine, an_order(), an_order(status=OrderStatus.CANCELLED))

    assert [form.status for form in (await page(stub, status="cancelled")).orders] == ["cancelled"]
    assert not (await page(stub, status="nonsense")).orders


async def test_an_exactly_full_last_page_has_no_next_page(
    engine: AsyncEngine, stub: orders_pb2_grpc.OrdersStub
) -> None:
    await add(engine, an_order(), an_order())

    assert (await page(stub, limit=2)).next_cursor == ""


TAMPERED = [
    "x",
    "!!!!",
    "AAAA",
    "\u00e6",
    "bm8gYmFy",  # "no bar"
    "MjAyNi0wMS0wMlQwMzowNDowNXwwMTk3YTNmMC0xYzJkLTdlM2YtOGE0Yi01YzZkN2U4ZjlhMGI=",  # a time without a zone
    "MDAwMS0wMS0wMVQwMDowMDowMCsxNDowMHwwMTk3YTNmMC0xYzJkLTdlM2YtOGE0Yi01YzZkN2U4ZjlhMGI=",  # before the year 1 in UTC
]


@pytest.mark.parametrize("cursor", TAMPERED)
async def test_a_tampered_cursor_is_refused(stub: orders_pb2_grpc.OrdersStub, cursor: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await page(stub, cursor=cursor)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(("order_id", "customer_id"), [("7", CUSTOMER), ("", CUSTOMER), (uuid4(), "a\0b")])
async def test_an_argument_that_makes_no_sense_is_refused(
    stub: orders_pb2_grpc.OrdersStub, order_id: object, customer_id: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await get(stub, order_id, customer_id)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_without_a_database_the_service_is_unavailable_and_not_wrong() -> None:
    nowhere = create_engine("postgresql://u:p@127.0.0.1:1/d", application_name="test")
    async with (
        grpc_server(OrderQueries(nowhere), "127.0.0.1:0") as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await get(orders_pb2_grpc.OrdersStub(channel), uuid4())
    await nowhere.dispose()

    assert failed.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_frozen_database_session_is_unavailable_in_bounded_time(
    engine: AsyncEngine, stub: orders_pb2_grpc.OrdersStub
) -> None:
    pid: int = await value(engine, "SELECT pg_backend_pid()")  # the pool's only connection so far, used next
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            async with asyncio.timeout(6):
                await get(stub, uuid4())
    finally:
        os.kill(pid, signal.SIGCONT)

    assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
    with pytest.raises(grpc.aio.AioRpcError) as recovered:
        await get(stub, uuid4())
    assert recovered.value.code() is grpc.StatusCode.NOT_FOUND


async def test_the_admin_server_says_alive_ready_and_how_much() -> None:
    state = {"alive": True, "ready": False}
    port = next(free_ports())
    async with (
        admin_server(port, alive=lambda: state["alive"], ready=lambda: state["ready"]),
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client,
    ):

        async def status(path: str) -> int:
            async with client.get(path) as response:
                return response.status

        assert (await status("/livez"), await status("/readyz")) == (200, 503)
        state.update(alive=False, ready=True)
        assert (await status("/livez"), await status("/readyz")) == (503, 200)
        async with client.get("/metrics") as response:
            assert "headrace_event_loop_lag_seconds" in await response.text()
            assert response.content_type == "text/plain"


async def test_the_admin_server_does_not_hide_why_its_process_failed() -> None:
    with pytest.raises(ExceptionGroup) as failed:
        async with admin_server(next(free_ports()), alive=lambda: True, ready=lambda: True):
            raise ValueError("the reason")

    assert failed.group_contains(ValueError, match="the reason")
