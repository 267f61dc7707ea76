"""A good history of three orders, as evidence, for tests that break it in one place."""

from dataclasses import dataclass, field
from itertools import count

import msgspec

from common.contracts.topics import Topic
from demo.books import Charge, LedgerBook, OrdersBook, StockBook, StoredOrder
from tests.prove.calls import Answer, Call, Exchange, What
from tests.prove.evidence import Entry, Evidence

ANNE, BERT, CARL = "order-of-anne", "order-of-bert", "order-of-carl"  # confirmed, cancelled, rejected
PRICE = {ANNE: 1_200, BERT: 800, CARL: 300}


@dataclass
class History:
    """Add to it, or take away, and hand out the evidence."""

    calls: list[Exchange] = field(default_factory=list[Exchange])
    entries: list[Entry] = field(default_factory=list[Entry])

    def call(self, what: What, order: str, status: int | None, *, at: float, **said: object) -> None:
        call = Call(len(self.calls), at, what, customer(order), order, PRICE[order])
        media_type = "application/json" if status and status < 400 else "application/problem+json"
        answer = Answer(call.n, at + 0.1, status=status, media_type=media_type, order_id=order)
        self.calls.append(Exchange(call, _changed(answer, said)))

    def record(self, topic: Topic, kind: str, order: str, *, version: int | None = None, partition: int = 1) -> None:
        offset = sum(e.topic == topic and e.partition == partition for e in self.entries)
        total = PRICE[order] if kind == "PlaceOrder" else None
        message_id = f"{kind} {order} {next(_NUMBERS)}"
        entry = Entry(topic, partition, offset, 0.0, order, message_id, kind, order, total, customer(order), version)
        self.entries.append(entry)

    def evidence(self, *, final: bool = True) -> Evidence:
        orders = {
            order: StoredOrder(customer(order), PRICE[order], PRICE[order], status, "USD")
            for order, status in ((ANNE, "confirmed"), (BERT, "cancelled"), (CARL, "rejected"))
        }
        charges = {ANNE: Charge("captured", PRICE[ANNE], "USD"), BERT: Charge("voided", PRICE[BERT], "USD")}
        return Evidence(
            final=final,
            attempts=list(self.calls),
            promises=list(self.calls),
            entries=list(self.entries),
            orders=OrdersBook(orders),
            stock=StockBook(taken={"cd": 1}, reserved={"cd": 1}, holders={ANNE}),
            ledger=LedgerBook(charges),
            committed=len(self.entries),
        )


_NUMBERS = count()


def customer(order: str) -> str:
    return order.removeprefix("order-of-")


def good_history() -> History:
    history = History()
    for at, order in enumerate((ANNE, BERT, CARL)):
        history.call(What.PLACE, order, 202, at=at)
        history.record(Topic.ORDERS_COMMANDS, "PlaceOrder", order)
        history.record(Topic.ORDERS_EVENTS, "OrderPlaced", order, version=1)
    history.call(What.CANCEL, BERT, 202, at=5)
    history.call(What.PLACE_OTHER, ANNE, 422, at=6)
    for version, kind in enumerate(("OrderReserved", "OrderAuthorized", "OrderConfirmed"), start=2):
        history.record(Topic.ORDERS_EVENTS, kind, ANNE, version=version)
    history.record(Topic.ORDERS_EVENTS, "OrderCancelled", BERT, version=2)
    history.record(Topic.ORDERS_EVENTS, "OrderRejected", CARL, version=2)
    history.call(What.READ, ANNE, 200, at=7, version=1, state="placed")
    history.call(What.READ, ANNE, 503, at=8, retry_after=True)
    history.call(What.READ, ANNE, 200, at=9, version=4, state="confirmed")
    history.call(What.READ, BERT, None, at=10, trouble="TimeoutError", media_type=None)
    return history


def _changed(answer: Answer, said: dict[str, object]) -> Answer:
    return msgspec.structs.replace(answer, **said)
