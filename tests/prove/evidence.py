"""What the guarantees are held against: the client log, the records in Kafka, and what the stores say.

The stores are read one after the other while everything moves. So the order of reading makes the comparison sound:
what is to be proved is read before what proves it. An order stored now must be in the log that is read later.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from common.contracts.codec import decode
from common.contracts.commands import CancelOrder, PlaceOrder
from common.contracts.topics import Topic
from common.errors import PoisonError
from common.records import Record
from demo.books import Attempt, Books, InputBook, LedgerBook, LogBook, OrdersBook, StockBook
from demo.client import Result
from demo.reconcile import Report, reconcile
from orders.use_cases import HEARD
from tests.prove.calls import Exchange, What

GROUPS: dict[str, tuple[Topic, ...]] = {
    "order_writer": (Topic.ORDERS_COMMANDS,),
    "saga_runner": (Topic.ORDERS_EVENTS, Topic.INVENTORY_EVENTS, Topic.PAYMENTS_EVENTS),
    "inventory": (Topic.INVENTORY_COMMANDS,),
    "payments": (Topic.PAYMENTS_COMMANDS,),
}
HEARD_BY_SAGA = {kind.__name__ for kind in HEARD}  # what else is in its topics it passes over
TOPICS = [topic for topics in GROUPS.values() for topic in topics]
Place = tuple[str, int]  # topic and partition


@dataclass(frozen=True, slots=True)
class Entry:
    """A record as the proof needs it. `status`: of an order event that moves the order, such as `reserved`."""

    topic: str
    partition: int
    offset: int
    seen_at: float
    key: str
    message_id: str
    kind: str
    order_id: str = ""
    total_minor: int | None = None
    customer: str = ""
    version: int | None = None


def entry_of(record: Record, seen_at: float) -> Entry:
    """Read a record; what cannot be read has the kind `unreadable`."""
    key = (record.key or b"").decode(errors="replace")
    try:
        message = decode(record)
    except PoisonError as error:
        return Entry(record.topic, record.partition, record.offset, seen_at, key, "", "unreadable", str(error))
    body = message.body
    return Entry(
        record.topic,
        record.partition,
        record.offset,
        seen_at,
        key,
        str(message.message_id),
        message.kind.__name__,
        str(body.order_id),
        body.total_minor if isinstance(body, PlaceOrder) else None,
        body.customer_id if isinstance(body, PlaceOrder | CancelOrder) else "",
        getattr(body, "version", None),
    )


@dataclass(frozen=True, slots=True)
class Unproven:
    """A record that its group has committed, and that is not in its inbox."""

    group: str
    entry: Entry


@dataclass
class Evidence:
    """Gathered at one time, or at the end (`final`), when all has healed and the log was read again from its start.

    `promises`: the client log as it was before the log in Kafka was read. `attempts`: as it was after everything.
    """

    final: bool
    attempts: Sequence[Exchange]
    promises: Sequence[Exchange]
    entries: Sequence[Entry]
    dead_letters: Sequence[Record] = ()
    orders: OrdersBook = field(default_factory=OrdersBook)
    stock: StockBook = field(default_factory=StockBook)
    ledger: LedgerBook = field(default_factory=LedgerBook)
    committed: int = 0  # records that the groups had committed, and how many of them are not in the inbox
    unproven: Sequence[Unproven] = ()
    outbox_rows: int = 0
    not_ready: Sequence[str] = ()
    not_final: dict[str, str] = field(default_factory=dict[str, str])  # accepted orders and their state
    gave_up_after_s: float = 60.0

    @cached_property
    def accepted(self) -> dict[str, Exchange]:
        """The orders with a 202 that was there before the log was read, each with its first."""
        first: dict[str, Exchange] = {}
        for exchange in self.promises:
            if exchange.accepted:
                first.setdefault(exchange.call.order_id, exchange)
        return first

    @cached_property
    def placed(self) -> dict[str, list[Entry]]:
        """The PlaceOrder records of each order; all but the first are copies."""
        found: dict[str, list[Entry]] = defaultdict(list)
        for entry in self.entries:
            if entry.kind == "PlaceOrder":
                found[entry.order_id].append(entry)
        return found

    @cached_property
    def report(self) -> Report:
        """The reconciliation of the five books, as `make reconcile` makes it."""
        log = LogBook(
            totals={order_id: entries[0].total_minor or 0 for order_id, entries in self.placed.items()},
            copies=sum(len(entries) - 1 for entries in self.placed.values()),
            unreadable=sum(entry.kind == "unreadable" for entry in self.entries),
        )
        return reconcile(Books(self._input(), log, self.orders, self.ledger, self.stock), alone=True)

    def reads(self) -> Iterator[Exchange]:
        """Reads of one order that told a version, in the order in which they were begun."""
        for exchange in self.attempts:
            if exchange.call.what is What.READ and exchange.answer and exchange.answer.version is not None:
                yield exchange

    def _input(self) -> InputBook:
        book = InputBook()
        for exchange in self.attempts:
            call, answer = exchange.call, exchange.answer
            if call.what is not What.PLACE:
                continue
            result = Result.ACCEPTED if call.order_id in self.accepted else Result.UNKNOWN
            book.attempts[call.order_id] = Attempt(call.customer, call.amount_minor, result)
            if exchange.accepted and answer and answer.order_id != call.order_id:
                book.second_orders[call.order_id] = answer.order_id or "no id"
        return book
