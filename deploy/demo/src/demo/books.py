"""The five books of a stack, as the reconciliation compares them: order ids as text, money in minor units.

Small structs without garbage collection, because there is one per order and there are many orders.
"""

from dataclasses import dataclass, field

import msgspec

from demo.client import Result

CONFIRMED, REJECTED, CANCELLED = "confirmed", "rejected", "cancelled"
FINAL = (CONFIRMED, REJECTED, CANCELLED)


class Attempt(msgspec.Struct, frozen=True, gc=False):
    """An order as it was sent, and what its sender was told."""

    customer_id: str
    amount_minor: int
    result: Result


@dataclass(slots=True)
class InputBook:
    """What the senders' journals say. `second_orders`: where the answered id differs from the one of the key."""

    attempts: dict[str, Attempt] = field(default_factory=dict[str, Attempt])
    second_orders: dict[str, str] = field(default_factory=dict[str, str])
    timed_orders: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class LogBook:
    """PlaceOrder records of orders.commands: the total of the first record of each order, and how many came again."""

    totals: dict[str, int] = field(default_factory=dict[str, int])
    copies: int = 0
    unreadable: int = 0


class StoredOrder(msgspec.Struct, frozen=True, gc=False):
    customer_id: str
    total_minor: int
    lines_minor: int
    status: str
    currency: str


@dataclass(slots=True)
class OrdersBook:
    """The orders in Postgres. `twice`: ids that came up more than once; so in the books below."""

    orders: dict[str, StoredOrder] = field(default_factory=dict[str, StoredOrder])
    twice: list[str] = field(default_factory=list[str])


class Charge(msgspec.Struct, frozen=True, gc=False):
    """A payment at the provider: authorized, captured, voided or declined."""

    status: str
    amount_minor: int
    currency: str


@dataclass(slots=True)
class LedgerBook:
    charges: dict[str, Charge] = field(default_factory=dict[str, Charge])
    twice: list[str] = field(default_factory=list[str])


@dataclass(slots=True)
class StockBook:
    """`taken`: initial minus available per sku. `reserved`: pieces in reservations per sku. `holders`: their orders."""

    taken: dict[str, int] = field(default_factory=dict[str, int])
    reserved: dict[str, int] = field(default_factory=dict[str, int])
    holders: set[str] = field(default_factory=set[str])
    twice: list[str] = field(default_factory=list[str])


@dataclass(slots=True)
class Books:
    """`input` is None when nobody kept a journal: the orders are somebody else's."""

    input: InputBook | None
    log: LogBook
    orders: OrdersBook
    ledger: LedgerBook
    stock: StockBook
