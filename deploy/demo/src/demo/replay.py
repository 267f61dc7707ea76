"""Sends the purchases of a file through the public API, as many customers, and waits until every order is final.

Purchases go out in the order in which they happened. Each is an order of its customer, under its row number as
idempotency key: sending a file again makes no second order.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from common.contracts.values import order_id_for
from common.errors import InfrastructureError
from demo import database
from demo.cdnow import Purchase, read_purchases
from demo.client import Answer, OrdersClient, Result
from demo.database import Database
from demo.finals import watch
from demo.journal import JournalOrder, JournalStart, JournalSummary, JournalWriter
from demo.progress import shown_progress
from demo.settings import ReplaySettings
from demo.tally import Tally
from demo.tokens import Tokens, load_private_key


@dataclass(frozen=True, slots=True)
class ReplaySummary:
    """`rest`: the accepted orders that are not final, by state. `troubles`: why orders were not accepted. `seen`: what
    all tries brought."""

    journal: Path
    totals: JournalSummary
    final: Counter[str]
    rest: Counter[str]
    troubles: Counter[str]
    seen: Counter[str]

    @property
    def ok(self) -> bool:
        return self.totals.accepted == self.totals.sent and not self.rest


async def replay(
    settings: ReplaySettings,
    orders_file: Path,
    *,
    journal_dir: Path,
    limit: int | None = None,
    orders_per_second: float | None = None,
    concurrency: int = 64,
    wait: bool = True,
    console: Console | None = None,
) -> ReplaySummary:
    """Send the first `limit` orders of the file, with at most `concurrency` at a time.

    Returns when all accepted orders are final, or (not `wait`) answered, or when nothing moved for two minutes.
    Raises OrdersFileError, KeyFileError, and InfrastructureError when Postgres is away at the start.
    """
    purchases = sorted(read_purchases(orders_file, limit), key=lambda purchase: purchase.date)
    key = load_private_key(settings.jwt_private_key_file)
    tokens = Tokens(key, issuer=settings.jwt_issuer, audience=settings.jwt_audience)
    tally = Tally(len(purchases))
    async with (
        database.connect(settings.database_url.get_secret_value()) as db,
        OrdersClient(settings.gateway_url, tokens, connections=concurrency) as client,
    ):
        start = JournalStart(await db.stack(), orders_file.name, datetime.now(UTC).strftime("%Y-%m-%dT%H%M%S.%fZ"))
        with (
            JournalWriter(journal_dir / f"{start.started_at}.jsonl", start) as journal,
            shown_progress(console or Console(), tally) as show,
        ):
            started = time.monotonic()
            async with asyncio.TaskGroup() as tasks:
                sender = _Sender(client, journal, tally, orders_per_second)
                tasks.create_task(sender.send_all(purchases, concurrency))
                ended = tasks.create_task(watch(db, journal, tally, show, wait=wait))
            rest = await _states_of_rest(db, tally) if wait else Counter[str]()
            totals = _totals(tally, ended.result() - started, all_final=wait and not rest)
            journal.write(totals)
    return ReplaySummary(journal.file, totals, tally.final, rest, tally.troubles, tally.seen)


class _Sender:
    def __init__(
        self, client: OrdersClient, journal: JournalWriter, tally: Tally, orders_per_second: float | None
    ) -> None:
        self._client, self._journal, self._tally = client, journal, tally
        self._gap_s = 1 / orders_per_second if orders_per_second else 0.0
        self._started = time.monotonic()

    async def send_all(self, purchases: list[Purchase], concurrency: int) -> None:
        rest = enumerate(purchases)  # one iterator for all: each takes the next purchase when it is free
        async with asyncio.TaskGroup() as tasks:
            for _ in range(concurrency):
                tasks.create_task(self._send_in_turn(rest))
        self._tally.all_answered = True

    async def _send_in_turn(self, rest: Iterator[tuple[int, Purchase]]) -> None:
        for place, purchase in rest:
            if self._gap_s:
                await asyncio.sleep(self._started + place * self._gap_s - time.monotonic())
            await self._send(purchase)

    async def _send(self, purchase: Purchase) -> None:
        order_id = str(order_id_for(purchase.customer_id, str(purchase.row)))
        answer = Answer()
        self._tally.sent += 1
        try:
            await self._client.place(purchase, answer)
        finally:  # also when interrupted: the order may exist
            self._tally.count(order_id, answer)
            self._journal.write(_entry(purchase, order_id, answer))


def _entry(purchase: Purchase, order_id: str, answer: Answer) -> JournalOrder:
    return JournalOrder(
        row=purchase.row,
        customer=purchase.customer_id,
        key=str(purchase.row),
        order_id=order_id,
        amount_minor=purchase.amount_minor,
        sku=purchase.sku,
        result=answer.result,
        tries=answer.tries,
        other_order_id=answer.order_id if answer.order_id != order_id else None,
    )


async def _states_of_rest(db: Database, tally: Tally) -> Counter[str]:
    if not tally.waiting:
        return Counter()
    try:
        return await db.count_states(list(tally.waiting))
    except InfrastructureError as error:
        return Counter({str(error): len(tally.waiting)})


def _totals(tally: Tally, seconds: float, *, all_final: bool) -> JournalSummary:
    return JournalSummary(
        sent=tally.sent,
        accepted=tally.accepted,
        refused=tally.results[Result.REFUSED],
        unknown=tally.results[Result.UNKNOWN],
        seconds=round(seconds, 3),
        orders_per_second=round(tally.accepted / seconds, 1) if seconds else 0.0,
        all_final=all_final,
    )
