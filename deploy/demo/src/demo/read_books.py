"""Reads the five books of a running stack: journals, log, Postgres and the provider's ledger."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import msgspec

from common.contracts.codec import decode
from common.contracts.commands import PlaceOrder
from common.contracts.topics import Topic
from common.errors import InfrastructureError, PoisonError
from common.kafka.reader import TopicReader
from common.records import Record
from demo import database
from demo.books import Attempt, Books, Charge, InputBook, LedgerBook, LogBook
from demo.client import Result
from demo.journal import JournalOrder, JournalSummary, journals_of, read_journal
from demo.settings import BooksSettings

DEADLINE_S = 120


async def read_books(settings: BooksSettings, journal_dir: Path, journals: Sequence[Path] = ()) -> Books:
    """Read all books; without `journals` those in the folder that belong to this stack.

    Raises InfrastructureError when a store cannot be read, and JournalError.
    """
    try:
        async with asyncio.timeout(DEADLINE_S), database.connect(settings.database_url.get_secret_value()) as db:
            journals = journals or journals_of(journal_dir, await db.stack())
            orders, stock = await db.read_books()
            ledger = await read_ledger(settings.payment_provider_url)
            log = await _read_log(settings)
    except TimeoutError as error:
        raise InfrastructureError(f"the books could not be read in {DEADLINE_S} s") from error
    return Books(read_input(journals) if journals else None, log, orders, ledger, stock)


def read_input(journals: Sequence[Path]) -> InputBook:
    """All journals as one book. An order that several of them sent counts once, as accepted if one of them says so."""
    book = InputBook()
    for journal in journals:
        for entry in read_journal(journal):
            if isinstance(entry, JournalOrder):
                _enter(book, entry)
            elif isinstance(entry, JournalSummary):
                book.timed_orders += entry.accepted
                book.seconds += entry.seconds
    return book


def _enter(book: InputBook, order: JournalOrder) -> None:
    if order.other_order_id is not None:
        book.second_orders[order.order_id] = order.other_order_id
    if order.order_id not in book.attempts or order.result is Result.ACCEPTED:
        book.attempts[order.order_id] = Attempt(order.customer, order.amount_minor, order.result)


async def _read_log(settings: BooksSettings) -> LogBook:
    book = LogBook()

    def enter(records: Sequence[Record]) -> None:
        for record in records:
            _enter_record(book, record)

    reader = TopicReader(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        topic=Topic.ORDERS_COMMANDS,
        handle=enter,
        fetch_max_wait_ms=settings.kafka_fetch_max_wait_ms,
    )
    await reader.run(stop=reader.caught_up)
    return book


def _enter_record(book: LogBook, record: Record) -> None:
    try:
        command = decode(record).body
    except PoisonError:
        book.unreadable += 1
        return
    if not isinstance(command, PlaceOrder):
        return
    order_id = str(command.order_id)
    if order_id in book.totals:
        book.copies += 1
    else:
        book.totals[order_id] = command.total_minor


class _LedgerLine(msgspec.Struct, gc=False):
    reference: str
    status: str
    amount_minor: int
    currency: str


async def read_ledger(provider_url: str) -> LedgerBook:
    book = LedgerBook()
    decode_line = msgspec.json.Decoder(_LedgerLine).decode
    timeout = aiohttp.ClientTimeout(connect=5, sock_read=10)
    try:
        async with (
            aiohttp.ClientSession(provider_url, timeout=timeout, raise_for_status=True) as session,
            session.get("/v1/ledger") as response,
        ):
            async for line in response.content:
                _enter_charge(book, decode_line(line))
    except (aiohttp.ClientError, TimeoutError, msgspec.MsgspecError) as error:
        raise InfrastructureError(f"payment provider: {error or type(error).__name__}") from error
    return book


def _enter_charge(book: LedgerBook, line: _LedgerLine) -> None:
    if line.reference in book.charges:
        book.twice.append(line.reference)
    book.charges[line.reference] = Charge(line.status, line.amount_minor, line.currency)
