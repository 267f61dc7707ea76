"""The gateway as a process while the orders service hangs: who is asked, what is answered, and when it is over."""

import asyncio
from pathlib import Path
from uuid import uuid4

import httpx

from common.kafka.publisher import Publisher
from contract.orders_server import HangingOrders, served
from eventually import eventually
from gateway_process import gateway_environment, offer, serving
from local_stack.servers import Addresses
from unit.gateway.fakes import bearer

TO_OPEN, LATER = 30, 50


async def test_orders_that_hangs_is_left_alone_and_views_are_served_with_their_age(
    servers: Addresses, publisher: Publisher, tmp_path: Path
) -> None:
    orders, order = HangingOrders(), f"/v1/orders/{uuid4()}"
    await offer(publisher)
    async with (
        served(orders) as target,
        serving({**gateway_environment(servers, tmp_path), "GATEWAY_ORDERS_GRPC_TARGET": target}) as (_, url),
        httpx.AsyncClient(base_url=url, timeout=30, trust_env=False, headers=bearer()) as http,
    ):
        assert (await http.get(order)).headers["etag"] == '"1"'
        orders.answers.clear()
        await get_others(http, TO_OPEN)
        await eventually(lambda: breaker_is(http, "2.0"), within=10)
        asked = orders.calls

        refused = await get_others(http, LATER)
        known = await http.get(order, headers={"If-None-Match": '"1"'})

        assert orders.calls - asked < LATER / 5  # a probe now and then
        assert {(answer.status_code, answer.headers["retry-after"]) for answer in refused} == {(503, "1")}
        assert known.status_code == 304
        assert int(known.headers["age"]) >= 0
        orders.answers.set()
        await eventually(lambda: is_fresh(http, order), within=10)
        assert await breaker_is(http, "0.0")


async def get_others(http: httpx.AsyncClient, count: int) -> list[httpx.Response]:
    return list(await asyncio.gather(*(http.get(f"/v1/orders/{uuid4()}") for _ in range(count))))


async def breaker_is(http: httpx.AsyncClient, state: str) -> bool:
    return f'headrace_breaker_state{{breaker="orders"}} {state}' in (await http.get("/metrics")).text


async def is_fresh(http: httpx.AsyncClient, order: str) -> bool:
    answer = await http.get(order)
    return answer.status_code == 200 and "age" not in answer.headers
