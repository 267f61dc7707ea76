"""Bad calls of the read API: the standard status, no task left behind, and the server goes on."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (the generated stubs carry no types)

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import grpc
import grpc.aio
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from builders import CUSTOMER, a_record, place_order
from common.contracts import orders_pb2 as pb
from common.contracts import orders_pb2_grpc
from common.postgres import transaction
from eventually import eventually
from integration.core.database import value
from orders.adapters.dead_orders import remember_dead_orders
from orders.adapters.queries import OrderQueries
from orders.grpc_server import grpc_server

HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@dataclass(frozen=True)
class Api:
    port: int
    channel: grpc.aio.Channel
    stub: orders_pb2_grpc.OrdersStub

    def get(self, order_id: object = "", **options: Any) -> Any:
        request = pb.GetOrderRequest(order_id=str(order_id or uuid4()), customer_id=CUSTOMER)
        return self.stub.GetOrder(request, **options)


@pytest.fixture
async def api(engine: AsyncEngine) -> AsyncIterator[Api]:
    async with (
        grpc_server(OrderQueries(engine), "127.0.0.1:0") as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        api = Api(port, channel, orders_pb2_grpc.OrdersStub(channel))
        assert await code_of(api.get(timeout=5)) is grpc.StatusCode.NOT_FOUND  # connected: its tasks are there
        yield api


async def code_of(call: Any) -> grpc.StatusCode:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    except asyncio.CancelledError:
        return await call.code()
    return grpc.StatusCode.OK


async def goes_on(api: Api, tasks_before: int) -> None:
    assert await code_of(api.get(timeout=5)) is grpc.StatusCode.NOT_FOUND
    await eventually(lambda: len(asyncio.all_tasks()) <= tasks_before, within=5)


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", HTTP2_PREFACE + os.urandom(4_096), b"\0" * 65_536])
async def test_garbage_frames_cost_their_connection_and_nothing_else(api: Api, garbage: bytes) -> None:
    before = len(asyncio.all_tasks())
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    async with asyncio.timeout(10):
        try:
            writer.write(garbage)
            await writer.drain()
            await reader.read()  # until the server closes it
        except ConnectionError:
            pass
        writer.close()

    await goes_on(api, before)


async def test_a_message_of_5_mb_is_resource_exhausted(api: Api) -> None:
    before = len(asyncio.all_tasks())

    code = await code_of(api.get("x" * 5_000_000, timeout=10))

    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    await goes_on(api, before)


async def test_an_unknown_method_is_unimplemented(api: Api) -> None:
    before = len(asyncio.all_tasks())

    code = await code_of(api.channel.unary_unary("/headrace.Orders/Nonsense")(b"", timeout=5))

    assert code is grpc.StatusCode.UNIMPLEMENTED
    await goes_on(api, before)


async def test_a_request_of_other_bytes_is_refused(api: Api) -> None:
    before = len(asyncio.all_tasks())
    method = api.stub.GetOrder._method.decode()

    code = await code_of(api.channel.unary_unary(method)(b"\xff" * 100, timeout=5))

    assert code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
    await goes_on(api, before)


async def test_without_a_deadline_a_call_is_answered(api: Api) -> None:
    before = len(asyncio.all_tasks())

    async with asyncio.timeout(5):
        assert await code_of(api.get()) is grpc.StatusCode.NOT_FOUND

    await goes_on(api, before)


async def test_without_a_deadline_a_call_still_ends_when_the_database_does_not_answer(
    api: Api, engine: AsyncEngine
) -> None:
    before = len(asyncio.all_tasks())
    async with transaction(engine) as connection:
        await connection.execute(text("LOCK TABLE orders.orders IN ACCESS EXCLUSIVE MODE"))
        async with asyncio.timeout(6):
            assert await code_of(api.get()) is grpc.StatusCode.UNAVAILABLE

    await goes_on(api, before)


async def test_past_its_deadline_a_call_is_deadline_exceeded(api: Api) -> None:
    before = len(asyncio.all_tasks())

    assert await code_of(api.get(timeout=-1)) is grpc.StatusCode.DEADLINE_EXCEEDED

    await goes_on(api, before)


async def test_a_deadline_that_passes_while_postgres_works_ends_the_query_too(api: Api, engine: AsyncEngine) -> None:
    before = len(asyncio.all_tasks())
    async with transaction(engine) as connection:
        await connection.execute(text("LOCK TABLE orders.orders IN ACCESS EXCLUSIVE MODE"))
        assert await code_of(api.get(timeout=0.2)) is grpc.StatusCode.DEADLINE_EXCEEDED
        await eventually(lambda: nobody_waits(engine), within=5)

    await goes_on(api, before)


async def nobody_waits(engine: AsyncEngine) -> bool:
    sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'test' AND wait_event_type = 'Lock'"
    return await value(engine, sql) == 0


async def test_calls_cancelled_at_once_are_cancelled(api: Api) -> None:
    before = len(asyncio.all_tasks())
    calls = [api.get(timeout=5) for _ in range(100)]
    for call in calls:
        call.cancel()

    assert {await code_of(call) for call in calls} == {grpc.StatusCode.CANCELLED}

    await goes_on(api, before)


async def test_an_order_in_the_dead_letter_topic_needs_attention_at_version_0(api: Api, engine: AsyncEngine) -> None:
    order_id = uuid4()
    records = [a_record(place_order(order_id), value=b"{"), a_record(place_order(), key=b"no uuid")]
    for _ in range(2):
        await remember_dead_orders(engine, records)

    found: pb.GetOrderReply = await api.get(order_id, timeout=5)

    assert (found.version, found.view) == (0, b"")
    assert found.died_at_ms > 0
