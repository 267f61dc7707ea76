"""Rolling restarts under load: every process of ours in turn, RESTARTS times (2), and no client sees an error."""

import asyncio
import logging
import os
import signal
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from demo.tokens import Tokens, load_private_key
from eventually import eventually
from integration.core.broker import running
from local_stack.process import State
from local_stack.stack import WORKERS, Stack, running_stack
from rolling.clients import Customers

RESTARTS = int(os.environ.get("RESTARTS", "2"))
RATE = 300.0
SKU = "cd-1"
CATALOG = f"sku,name,price_minor,currency,stock\n{SKU},A record,1177,USD,1000000\n"
REPLICATED = ("gateway-1", "gateway-2", "orders", "orders-2")


@pytest.mark.timeout(120 + 90 * RESTARTS)
async def test_no_client_sees_an_error_while_every_process_is_restarted_in_turn(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "local_stack")
    with TemporaryDirectory() as folder:
        catalog = Path(folder) / "catalog.csv"
        catalog.write_text(CATALOG)
        async with running_stack(Path(folder), catalog=catalog, gateways=2, orders=2) as stack:
            customers = customers_of(stack)
            async with running(customers.run):
                await eventually(lambda: customers.sent > 5 * RATE, within=30)
                for _ in range(RESTARTS):
                    for name in REPLICATED:
                        await restart(stack, name)
                    # nobody calls a worker: all at once, as so many deployments would
                    await asyncio.gather(*(restart(stack, name) for name in WORKERS))
                    print(customers.summary())
            ends = [message for message in caplog.messages if " ended with " in message]
            why = [line for name in ("gateway-1", "gateway-2") for line in troubles(stack, name)]

    assert not customers.errors, (customers.errors[:10], why[:10])
    assert customers.shed <= 0.01 * customers.sent, why[:10]
    assert len(ends) == RESTARTS * (len(REPLICATED) + len(WORKERS))
    assert all("ended with exit code 0" in message for message in ends)
    assert customers.closed_politely > 0


def customers_of(stack: Stack) -> Customers:
    env = stack.env
    key = load_private_key(Path(env["JWT_PRIVATE_KEY_FILE"]))
    tokens = Tokens(key, issuer=env["JWT_ISSUER"], audience=env["JWT_AUDIENCE"])
    return Customers(int(env["GATEWAY_URL"].rpartition(":")[2]), tokens.bearer, sku=SKU, rate=RATE)


async def restart(stack: Stack, name: str) -> None:
    """SIGTERM, its end, its next start by the supervisor, and it is ready."""
    process = stack.processes[name]
    restarts = process.restarts
    os.kill(process.pid or 0, signal.SIGTERM)
    await eventually(lambda: process.restarts > restarts and process.state is State.RUNNING, within=60)


def troubles(stack: Stack, name: str) -> list[str]:
    lines = stack.processes[name].log.read_text().splitlines()
    return [line for line in lines if '"level": "warning"' in line or '"level": "error"' in line]
