"""An orders service for gateways that are tested as processes: it answers, or hangs."""

# pyright: reportUnknownMemberType=false
# (the generated stubs carry no types for the service class)

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import grpc.aio

from common.contracts import orders_pb2 as pb
from common.contracts import orders_pb2_grpc
from local_stack.network import HOST


class HangingOrders(orders_pb2_grpc.OrdersServicer):
    """Every order is placed; while `answers` is cleared nobody hears of it."""

    def __init__(self) -> None:
        self.calls = 0
        self.answers = asyncio.Event()
        self.answers.set()

    async def GetOrder(self, request: pb.GetOrderRequest, context: object) -> pb.GetOrderReply:  # noqa: N802
        self.calls += 1
        await self.answers.wait()
        return pb.GetOrderReply(version=1, view=b'{"status":"placed"}')


@asynccontextmanager
async def served(orders: HangingOrders) -> AsyncGenerator[str]:
    server = grpc.aio.server()
    orders_pb2_grpc.add_OrdersServicer_to_server(orders, server)
    port = server.add_insecure_port(f"{HOST}:0")
    await server.start()
    try:
        yield f"{HOST}:{port}"
    finally:
        orders.answers.set()
        await server.stop(grace=0)
