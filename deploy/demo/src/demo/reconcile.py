"""Compares the five books of a stack, order by order. Pure: the books come in as an argument, a report comes out.

Rule: acked ⊆ stored ⊆ attempted, stored = log, money taken = confirmed orders, stock reserved = confirmed orders.
What was stored although its sender saw no ack is no difference: it is a column of its own.
Limits: the stores are read one after the other, so run it when all orders are final; one that is not is a difference.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

from demo.books import CANCELLED, CONFIRMED, FINAL, REJECTED, Attempt, Books, Charge, InputBook
from demo.client import Result

Subject = TypeVar("Subject")
# One verdict for each thing compared: True, or what differs.
Verdicts = Iterator[bool | str]


@dataclass(frozen=True, slots=True)
class Check:
    """A finished comparison: how many things it compared, and a line for each that differs.

    `compared` is None when the check needs the senders' journals and there are none.
    """

    name: str
    compared: int | None
    differences: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Figures:
    """The sums, in minor units. What comes from the senders' journals is None without them.

    `amount_in_minor` is what had to be stored: the orders that were accepted, or stored without an ack.
    """

    logged: int
    log_copies: int
    amount_logged_minor: int
    stored: int
    amount_stored_minor: int
    confirmed: int
    amount_confirmed_minor: int
    confirmed_free: int
    rejected: int
    cancelled: int
    charged: int
    amount_charged_minor: int
    reserved: int
    doubled: int
    sent: int | None = None
    accepted: int | None = None
    by_others: int | None = None
    unacked_stored: int | None = None
    missing: int | None = None
    amount_in_minor: int | None = None
    customers: int | None = None
    seconds: float | None = None
    orders_per_second: float | None = None


@dataclass(frozen=True, slots=True)
class Report:
    figures: Figures
    checks: tuple[Check, ...]

    @property
    def differences(self) -> list[str]:
        return [f"{check.name}: {line}" for check in self.checks for line in check.differences]


def reconcile(books: Books, *, alone: bool) -> Report:
    """Apply every check to the books. `alone`: nobody but the senders of the journals used this stack.

    Else what they did not send is somebody else's order: counted, and held against the other books only.
    """
    checks = tuple(_apply(*rule, books) for rule in RULES_OF_STORES)
    if books.input is None:
        return Report(_figures(books, checks), (*(Check(name, None) for name, _ in RULES_OF_INPUT), *checks))
    expected = Expected(books, books.input, alone=alone)
    input_checks = tuple(_apply(*rule, expected) for rule in RULES_OF_INPUT)
    figures = _figures(books, checks)
    return Report(_with_input(figures, expected, input_checks), (*input_checks, *checks))


class Expected:
    """The books together with what the input says had to be stored: what was acked, and what is stored without ack."""

    def __init__(self, books: Books, input_book: InputBook, *, alone: bool) -> None:
        everybodys = books.orders.orders
        stored = everybodys if alone else {i: o for i, o in everybodys.items() if i in input_book.attempts}
        self.by_others = len(everybodys) - len(stored)
        self.books, self.input, self.stored = books, input_book, stored
        self.acked = {i: a for i, a in input_book.attempts.items() if a.result is Result.ACCEPTED}
        self.unacked_stored = {i: a for i, a in input_book.attempts.items() if i in stored and i not in self.acked}
        self.attempts: dict[str, Attempt] = {**self.acked, **self.unacked_stored}
        self.amount_minor = sum(attempt.amount_minor for attempt in self.attempts.values())


def _acked_is_stored(expected: Expected) -> Verdicts:
    for order_id in expected.acked:
        yield order_id in expected.stored or f"{order_id} was acked, not stored"


def _stored_was_attempted(expected: Expected) -> Verdicts:
    for order_id in expected.stored:
        yield order_id in expected.input.attempts or f"{order_id} is stored, nobody sent it"


def _stored_as_sent(expected: Expected) -> Verdicts:
    for order_id, sent in expected.attempts.items():
        order = expected.stored.get(order_id)
        if order is not None:
            yield (order.customer_id, order.total_minor) == (sent.customer_id, sent.amount_minor) or (
                f"{order_id}: sent {sent.amount_minor} for {sent.customer_id}, "
                f"stored {order.total_minor} for {order.customer_id}"
            )


def _total_as_sent(expected: Expected) -> Verdicts:
    stored = sum(order.total_minor for order in expected.stored.values())
    yield stored == expected.amount_minor or f"{expected.amount_minor} sent, {stored} stored"


def _customers_as_sent(expected: Expected) -> Verdicts:
    sent, stored = defaultdict[str, int](int), defaultdict[str, int](int)
    for attempt in expected.attempts.values():
        sent[attempt.customer_id] += attempt.amount_minor
    for order in expected.stored.values():
        stored[order.customer_id] += order.total_minor
    for customer in sent.keys() | stored.keys():
        yield sent.get(customer) == stored.get(customer) or (
            f"customer {customer}: {sent.get(customer)} sent, {stored.get(customer)} stored"
        )


def _one_order_per_row(expected: Expected) -> Verdicts:
    for order_id in expected.input.attempts:
        other = expected.input.second_orders.get(order_id)
        yield other is None or f"{order_id}: the gateway made it {other}"


def _stored_is_logged(books: Books) -> Verdicts:
    for order_id, order in books.orders.orders.items():
        logged = books.log.totals.get(order_id)
        yield order.total_minor == logged or f"{order_id}: {order.total_minor} stored, {logged} in the log"


def _logged_is_stored(books: Books) -> Verdicts:
    for order_id in books.log.totals:
        yield order_id in books.orders.orders or f"{order_id} is in the log, not stored"


def _nothing_twice(books: Books) -> Verdicts:
    twice = dict.fromkeys(books.orders.twice, "stored")
    twice |= dict.fromkeys(books.ledger.twice, "charged")
    twice |= dict.fromkeys(books.stock.twice, "reserved")
    for order_id in books.orders.orders.keys() | twice.keys():
        yield order_id not in twice or f"{order_id} was {twice[order_id]} more than once"


def _lines_add_up(books: Books) -> Verdicts:
    for order_id, order in books.orders.orders.items():
        yield order.total_minor == order.lines_minor or (
            f"{order_id}: total {order.total_minor}, lines {order.lines_minor}"
        )


def _all_final(books: Books) -> Verdicts:
    for order_id, order in books.orders.orders.items():
        yield order.status in FINAL or f"{order_id} is {order.status}"


def _confirmed_is_captured(books: Books) -> Verdicts:
    for order_id, order in books.orders.orders.items():
        if order.status == CONFIRMED and order.total_minor > 0:
            charge = books.ledger.charges.get(order_id)
            yield charge == Charge("captured", order.total_minor, order.currency) or (
                f"{order_id}: {order.total_minor} {order.currency} to capture, the provider has {_spoken(charge)}"
            )


def _only_confirmed_is_charged(books: Books) -> Verdicts:
    """Money taken or still held for an order that ended without it, or that does not exist."""
    for order_id, charge in books.ledger.charges.items():
        order = books.orders.orders.get(order_id)
        status = "unknown to us" if order is None else order.status
        harmless = charge.status not in ("authorized", "captured") or (order is not None and status not in FINAL)
        paid_for = order is not None and status == CONFIRMED and order.total_minor > 0
        yield harmless or paid_for or f"{order_id} is {status}, the provider has {_spoken(charge)}"


def _stock_adds_up(books: Books) -> Verdicts:
    taken, reserved = books.stock.taken, books.stock.reserved
    for sku in taken.keys() | reserved.keys():
        yield taken.get(sku, 0) == reserved.get(sku, 0) or (
            f"{sku}: {taken.get(sku, 0)} taken from stock, {reserved.get(sku, 0)} reserved"
        )


def _reserved_is_confirmed(books: Books) -> Verdicts:
    """Orders under way may hold stock or not; the check for final orders names them."""
    orders, holders = books.orders.orders, books.stock.holders
    for order_id, order in orders.items():
        if order.status in FINAL:
            holds = order_id in holders
            yield holds == (order.status == CONFIRMED) or (
                f"{order_id} is {order.status}, its stock is {'' if holds else 'not '}reserved"
            )
    for order_id in holders - orders.keys():
        yield f"{order_id} holds stock and is unknown to us"


MISSING = "every acked order is stored"
ONE_ORDER = "every row became one order"
CUSTOMERS = "customers' totals as sent"
DOUBLED = "nothing stored, charged or reserved twice"

RULES_OF_INPUT: tuple[tuple[str, Callable[[Expected], Verdicts]], ...] = (
    (MISSING, _acked_is_stored),
    ("every stored order was attempted", _stored_was_attempted),
    ("every order is stored as it was sent", _stored_as_sent),
    (ONE_ORDER, _one_order_per_row),
    ("total sent = total stored", _total_as_sent),
    (CUSTOMERS, _customers_as_sent),
)
RULES_OF_STORES: tuple[tuple[str, Callable[[Books], Verdicts]], ...] = (
    ("every stored order is in the log, same total", _stored_is_logged),
    ("every order in the log is stored", _logged_is_stored),
    (DOUBLED, _nothing_twice),
    ("lines add up to the total", _lines_add_up),
    ("every order is final", _all_final),
    ("every confirmed order is captured, to the cent", _confirmed_is_captured),
    ("nothing is held or taken for any other order", _only_confirmed_is_charged),
    ("stock taken = stock reserved, sku by sku", _stock_adds_up),
    ("stock is reserved for the confirmed orders", _reserved_is_confirmed),
)


def _apply(name: str, rule: Callable[[Subject], Verdicts], subject: Subject) -> Check:
    verdicts = list(rule(subject))
    return Check(name, len(verdicts), tuple(verdict for verdict in verdicts if isinstance(verdict, str)))


def _figures(books: Books, checks: tuple[Check, ...]) -> Figures:
    orders = books.orders.orders.values()
    confirmed = [order for order in orders if order.status == CONFIRMED]
    captured = [charge for charge in books.ledger.charges.values() if charge.status == "captured"]
    return Figures(
        doubled=_count(checks, DOUBLED),
        logged=len(books.log.totals),
        log_copies=books.log.copies,
        amount_logged_minor=sum(books.log.totals.values()),
        stored=len(orders),
        amount_stored_minor=sum(order.total_minor for order in orders),
        confirmed=len(confirmed),
        amount_confirmed_minor=sum(order.total_minor for order in confirmed),
        confirmed_free=sum(order.total_minor == 0 for order in confirmed),
        rejected=sum(order.status == REJECTED for order in orders),
        cancelled=sum(order.status == CANCELLED for order in orders),
        charged=len(captured),
        amount_charged_minor=sum(charge.amount_minor for charge in captured),
        reserved=len(books.stock.holders),
    )


def _with_input(figures: Figures, expected: Expected, checks: tuple[Check, ...]) -> Figures:
    book = expected.input
    return replace(
        figures,
        sent=len(book.attempts),
        accepted=len(expected.acked),
        by_others=expected.by_others,
        unacked_stored=len(expected.unacked_stored),
        missing=_count(checks, MISSING),
        doubled=figures.doubled + _count(checks, ONE_ORDER),
        amount_in_minor=expected.amount_minor,
        customers=next(check.compared for check in checks if check.name == CUSTOMERS),
        seconds=round(book.seconds, 2) or None,
        orders_per_second=round(book.timed_orders / book.seconds, 1) if book.seconds else None,
    )


def _count(checks: tuple[Check, ...], name: str) -> int:
    return sum(len(check.differences) for check in checks if check.name == name)


def _spoken(charge: Charge | None) -> str:
    return "nothing" if charge is None else f"{charge.amount_minor} {charge.currency} {charge.status}"
