"""A payment provider that hangs costs payments time, and nobody else anything."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import pytest
from sqlalchemy import text

from common.postgres import create_engine, transaction
from demo.tokens import Tokens, load_private_key
from eventually import eventually
from local_stack.stack import Stack, running_stack

pytestmark = pytest.mark.timeout(180)
FEW, MANY = 15, 60  # orders in a batch: the failures of many outweigh the successes of few
ORDER = {"currency": "USD", "lines": [{"sku": "cd-1", "quantity": 1}]}
SLOWER = 10  # times; a cascade would be a matter of time-outs, hundreds of times


@pytest.fixture
async def stack() -> AsyncIterator[Stack]:
    with TemporaryDirectory() as folder:
        catalog = Path(folder) / "catalog.csv"
        catalog.write_text("sku,name,price_minor,currency,stock\ncd-1,A record,1177,USD,100000\n")
        quick = {"WORKERS_PAYMENT_PROVIDER_TIMEOUT_S": "0.5"}
        async with running_stack(Path(folder), catalog=catalog, extra_env=quick) as stack:
            yield stack


@dataclass(frozen=True, slots=True)
class Shop:
    stack: Stack
    http: aiohttp.ClientSession
    tokens: Tokens

    async def order(self, customer: str) -> None:
        """Accepted at the first try, or the test fails."""
        headers = {"Authorization": self.tokens.bearer(customer)}
        async with self.http.post("/v1/orders", json=ORDER, headers=headers) as response:
            assert response.status == 202, await response.text()

    async def orders(self, batch: str, count: int = FEW) -> float:
        """Seconds until a whole batch was accepted and placed."""
        before, started = await self.count("true"), time.monotonic()
        await asyncio.gather(*(self.order(f"{batch}-{number}") for number in range(count)))

        async def placed() -> bool:
            return await self.count("true") == before + count

        await eventually(placed, within=60)
        return time.monotonic() - started

    async def count(self, condition: str) -> int:
        engine = create_engine(self.stack.env["DATABASE_URL"], application_name="test")
        async with transaction(engine) as connection:
            found = await connection.execute(text(f"SELECT count(*) FROM orders.orders WHERE {condition}"))
        await engine.dispose()
        return found.scalar_one()

    async def confirmed(self, orders: int) -> bool:
        return await self.count("status = 'confirmed'") == orders

    async def switch(self, **faults: bool) -> None:
        url = self.stack.env["PAYMENT_PROVIDER_URL"]
        async with self.http.patch(f"{url}/switches", json=faults) as response:
            response.raise_for_status()

    async def breaker_is(self, *states: int) -> bool:
        async with self.http.get(self.stack.processes["payments"].spec.address + "/metrics") as response:
            metrics = await response.text()
        return any(f'headrace_breaker_state{{breaker="payment_provider"}} {state}.0' in metrics for state in states)


@pytest.fixture
async def shop(stack: Stack) -> AsyncIterator[Shop]:
    key = load_private_key(Path(stack.env["JWT_PRIVATE_KEY_FILE"]))
    tokens = Tokens(key, issuer=stack.env["JWT_ISSUER"], audience=stack.env["JWT_AUDIENCE"])
    async with aiohttp.ClientSession(stack.env["GATEWAY_URL"], timeout=aiohttp.ClientTimeout(total=10)) as http:
        yield Shop(stack, http, tokens)


async def test_while_the_provider_hangs_orders_are_accepted_and_placed_as_fast_and_confirmed_once_it_heals(
    shop: Shop,
) -> None:
    await shop.orders("first")  # whatever is slow only once
    calm_s = await shop.orders("calm")
    await eventually(lambda: shop.confirmed(2 * FEW), within=60)

    await shop.switch(hang=True)
    await shop.orders("opening", MANY)
    await eventually(lambda: shop.breaker_is(2), within=30)
    hanging_s = await shop.orders("hanging")

    assert await shop.confirmed(2 * FEW)
    assert await shop.breaker_is(1, 2)
    assert hanging_s < SLOWER * calm_s
    await shop.switch(hang=False)
    await eventually(lambda: shop.confirmed(3 * FEW + MANY), within=90)
    assert await shop.breaker_is(0)
