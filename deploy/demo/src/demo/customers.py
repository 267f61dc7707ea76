"""Customers who keep ordering: real purchases at a gentle pace, for ever, so that there is always something to see.

Rule: the place in the file follows from the clock, so a restart goes on instead of ordering again; after
the last purchase comes the first one. The place is the idempotency key: each is a new order.
Limits: the catalog has the stock of every purchase once; what is ordered beyond that ends rejected, out of stock. While
AT_ONCE orders have no answer, those that would be due are left out.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import msgspec
import structlog
from pydantic import Field

from common.lifecycle import load_settings, run
from common.telemetry.admin import admin_server
from common.telemetry.logging import configure_logging
from demo.cdnow import Purchase, read_purchases
from demo.client import Answer, OrdersClient, Result
from demo.settings import ClientSettings
from demo.tally import Tally
from demo.tokens import Tokens, load_private_key

log = structlog.get_logger()

AT_ONCE = 32
GIVE_UP_AFTER_S = 20  # less than the grace of a stop: what was sent gets its answer
LOG_EVERY = 300


class CustomersSettings(ClientSettings):
    orders_file: Path = Field(validation_alias="CUSTOMERS_ORDERS_FILE", description="the purchases, as CSV")
    orders_per_second: float = Field(5, gt=0, validation_alias="CUSTOMERS_ORDERS_PER_SECOND")


class Door(Protocol):
    async def place(self, purchase: Purchase, answer: Answer) -> None: ...


async def keep_ordering(
    door: Door, purchases: Sequence[Purchase], orders_per_second: float, tally: Tally, stop: asyncio.Event
) -> None:
    """Order until `stop` is set, then wait for the answers that are missing."""
    free = asyncio.Semaphore(AT_ONCE)

    async def order(place: int) -> None:
        async with free:
            answer = Answer()
            await door.place(msgspec.structs.replace(purchases[place % len(purchases)], row=place), answer)
        _count(tally, answer)

    async with asyncio.TaskGroup() as tasks:
        place = int(time.time() * orders_per_second)
        while not stop.is_set():
            if not free.locked():
                tasks.create_task(order(place))
            place = max(place + 1, int(time.time() * orders_per_second))
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), place / orders_per_second - time.time())


def _count(tally: Tally, answer: Answer) -> None:
    tally.results[answer.result] += 1
    if answer.result is not Result.ACCEPTED:
        log.warning("order_not_accepted", result=answer.result, detail=answer.detail, tries=answer.tries)
    elif tally.accepted % LOG_EVERY == 1:
        log.info("customers_ordered", accepted=tally.accepted)


async def serve(settings: CustomersSettings, stop: asyncio.Event) -> None:
    """Ready once the first order was accepted."""
    purchases = sorted(read_purchases(settings.orders_file), key=lambda purchase: purchase.date)
    key = load_private_key(settings.jwt_private_key_file)
    tokens = Tokens(key, issuer=settings.jwt_issuer, audience=settings.jwt_audience)
    tally = Tally(len(purchases))
    async with (
        OrdersClient(settings.gateway_url, tokens, connections=AT_ONCE, give_up_after_s=GIVE_UP_AFTER_S) as client,
        admin_server(9100, alive=lambda: True, ready=lambda: tally.accepted > 0),
    ):
        await keep_ordering(client, purchases, settings.orders_per_second, tally, stop)


def main() -> None:
    settings = load_settings(CustomersSettings)
    configure_logging("customers", "json")
    run(lambda stop: serve(settings, stop))


if __name__ == "__main__":
    main()
