"""Books that agree pass, and each check fails when its one thing is wrong."""

import copy
import io
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from demo.books import Attempt, Books, Charge, InputBook, LedgerBook, LogBook, OrdersBook, StockBook, StoredOrder
from demo.client import Result
from demo.reconcile import Report, reconcile
from demo.report import print_report, write_json


def agreeing_books() -> Books:
    """a, b: confirmed, of one customer. free: confirmed for nothing. short, broke: rejected. gone: cancelled.

    lost-ack: confirmed, its sender saw no ack. never: sent, no ack, not in the log.
    """
    amounts = {"a": 1177, "b": 500, "free": 0, "short": 900, "broke": 800, "gone": 700, "lost-ack": 300}
    status = {"short": "rejected", "broke": "rejected", "gone": "cancelled"}
    customers = {order_id: "ann" if order_id in ("a", "b") else f"customer of {order_id}" for order_id in amounts}
    attempts = {i: Attempt(customers[i], amounts[i], Result.ACCEPTED) for i in amounts}
    attempts["lost-ack"] = Attempt(customers["lost-ack"], 300, Result.UNKNOWN)
    attempts["never"] = Attempt("customer of never", 50, Result.UNKNOWN)
    return Books(
        input=InputBook(attempts, timed_orders=6, seconds=3.0),
        log=LogBook(dict(amounts), copies=1),
        orders=OrdersBook(
            {i: StoredOrder(customers[i], a, a, status.get(i, "confirmed"), "USD") for i, a in amounts.items()}
        ),
        ledger=LedgerBook(
            {
                "a": Charge("captured", 1177, "USD"),
                "b": Charge("captured", 500, "USD"),
                "lost-ack": Charge("captured", 300, "USD"),
                "broke": Charge("declined", 800, "USD"),
                "gone": Charge("voided", 700, "USD"),
                "short": Charge("voided", 0, "XXX"),
            }
        ),
        stock=StockBook(
            taken={"cd-1": 3, "cd-2": 1, "cd-3": 0},
            reserved={"cd-1": 3, "cd-2": 1},
            holders={"a", "b", "free", "lost-ack"},
        ),
    )


def differing(report: Report) -> set[str]:
    return {check.name for check in report.checks if check.differences}


def order(books: Books, order_id: str, **changes: object) -> None:
    books.orders.orders[order_id] = msgspec.structs.replace(books.orders.orders[order_id], **changes)


def input_of(books: Books) -> InputBook:
    assert books.input is not None
    return books.input


def test_books_that_agree_have_no_difference():
    report = reconcile(agreeing_books(), alone=True)

    assert report.differences == []
    assert all(check.compared for check in report.checks)


def test_the_figures_count_what_the_books_say():
    figures = reconcile(agreeing_books(), alone=True).figures

    assert (figures.sent, figures.accepted, figures.unacked_stored) == (8, 6, 1)
    assert (figures.confirmed, figures.rejected, figures.cancelled, figures.confirmed_free) == (4, 2, 1, 1)
    assert (figures.missing, figures.doubled, figures.log_copies) == (0, 0, 1)
    assert figures.amount_in_minor == figures.amount_stored_minor == figures.amount_logged_minor == 4377
    assert figures.amount_charged_minor == figures.amount_confirmed_minor == 1977
    assert (figures.customers, figures.seconds, figures.orders_per_second) == (6, 3.0, 2.0)


ALONE: list[tuple[str, str, Callable[[Books], object]]] = [
    ("every stored order was attempted", "a", lambda b: input_of(b).attempts.pop("a")),
    (
        "every order is stored as it was sent",
        "a: sent 1177 for ann, stored 1177 for bob",
        lambda b: order(b, "a", customer_id="bob"),
    ),
    ("every row became one order", "a: the gateway made it z", lambda b: input_of(b).second_orders.update(a="z")),
    ("every stored order is in the log, same total", "a", lambda b: b.log.totals.pop("a")),
    ("every stored order is in the log, same total", "a", lambda b: b.log.totals.update(a=1)),
    ("every order in the log is stored", "x is in the log", lambda b: b.log.totals.update(x=1)),
    ("nothing stored, charged or reserved twice", "a was stored", lambda b: b.orders.twice.append("a")),
    ("nothing stored, charged or reserved twice", "a was charged", lambda b: b.ledger.twice.append("a")),
    ("nothing stored, charged or reserved twice", "a was reserved", lambda b: b.stock.twice.append("a")),
    ("lines add up to the total", "a: total 1177, lines 1176", lambda b: order(b, "a", lines_minor=1176)),
    ("every order is final", "a is authorized", lambda b: order(b, "a", status="authorized")),
    ("every order is final", "short is needs_attention", lambda b: order(b, "short", status="needs_attention")),
    (
        "every confirmed order is captured, to the cent",
        "a: 1177 USD to capture, the provider has nothing",
        lambda b: b.ledger.charges.pop("a"),
    ),
    (
        "every confirmed order is captured, to the cent",
        "a",
        lambda b: b.ledger.charges.update(a=Charge("captured", 1178, "USD")),
    ),
    (
        "every confirmed order is captured, to the cent",
        "a",
        lambda b: b.ledger.charges.update(a=Charge("captured", 1177, "EUR")),
    ),
    (
        "every confirmed order is captured, to the cent",
        "a",
        lambda b: b.ledger.charges.update(a=Charge("authorized", 1177, "USD")),
    ),
    (
        "nothing is held or taken for any other order",
        "broke is rejected",
        lambda b: b.ledger.charges.update(broke=Charge("captured", 800, "USD")),
    ),
    (
        "nothing is held or taken for any other order",
        "gone is cancelled",
        lambda b: b.ledger.charges.update(gone=Charge("authorized", 700, "USD")),
    ),
    (
        "nothing is held or taken for any other order",
        "x is unknown to us",
        lambda b: b.ledger.charges.update(x=Charge("captured", 1, "USD")),
    ),
    (
        "nothing is held or taken for any other order",
        "free is confirmed",
        lambda b: b.ledger.charges.update(free=Charge("captured", 1, "USD")),
    ),
    ("stock taken = stock reserved, sku by sku", "cd-1: 4 taken", lambda b: b.stock.taken.update({"cd-1": 4})),
    ("stock taken = stock reserved, sku by sku", "cd-9: 0 taken", lambda b: b.stock.reserved.update({"cd-9": 1})),
    ("stock is reserved for the confirmed orders", "short is rejected", lambda b: b.stock.holders.add("short")),
    ("stock is reserved for the confirmed orders", "a is confirmed", lambda b: b.stock.holders.remove("a")),
    ("stock is reserved for the confirmed orders", "x holds stock", lambda b: b.stock.holders.add("x")),
]


@pytest.mark.parametrize(("check", "line", "spoil"), ALONE)
def test_each_check_fails_for_its_own_difference(check: str, line: str, spoil: Callable[[Books], object]):
    books = agreeing_books()

    spoil(books)

    report = reconcile(books, alone=True)
    assert check in differing(report)
    assert any(difference.startswith(f"{check}: {line}") for difference in report.differences)


def test_an_order_of_another_sender_is_counted_and_held_against_the_other_books_only():
    books = agreeing_books()
    input_of(books).attempts.pop("a")

    report = reconcile(books, alone=False)

    assert report.differences == []
    assert report.figures.by_others == 1


def test_an_acked_order_that_is_not_stored_is_missing():
    books = agreeing_books()

    books.orders.orders.pop("a")

    report = reconcile(books, alone=True)
    assert report.figures.missing == 1
    assert {"every acked order is stored", "total sent = total stored", "customers' totals as sent"} <= differing(
        report
    )


def test_amounts_that_cancel_out_in_the_total_differ_per_customer_and_order():
    books = agreeing_books()

    order(books, "a", total_minor=1178, lines_minor=1178)
    order(books, "gone", total_minor=699, lines_minor=699)

    assert "total sent = total stored" not in differing(reconcile(books, alone=True))
    assert {"customers' totals as sent", "every order is stored as it was sent"} <= differing(
        reconcile(books, alone=True)
    )


def test_an_order_stored_twice_counts_as_doubled():
    books = agreeing_books()

    books.orders.twice.append("a")
    input_of(books).second_orders["b"] = "z"

    assert reconcile(books, alone=True).figures.doubled == 2


def test_an_order_under_way_may_hold_stock_and_money():
    books = agreeing_books()

    order(books, "a", status="reserved")

    assert differing(reconcile(books, alone=True)) == {"every order is final"}


def test_somebody_elses_orders_are_compared_without_an_input_book():
    books = agreeing_books()
    books.input = None
    spoiled = copy.deepcopy(books)
    spoiled.ledger.charges.pop("a")

    assert reconcile(books, alone=True).differences == []
    assert reconcile(books, alone=True).figures.missing is None
    assert differing(reconcile(spoiled, alone=True)) == {"every confirmed order is captured, to the cent"}


def test_the_report_shows_ten_differences_and_counts_the_rest(tmp_path: Path):
    books = agreeing_books()
    books.log.totals.update({f"x{number}": 1 for number in range(15)})
    console = Console(width=120, file=io.StringIO(), record=True)

    print_report(reconcile(books, alone=True), console)
    write_json(reconcile(books, alone=True), tmp_path / "report.json")

    figures = msgspec.json.decode((tmp_path / "report.json").read_bytes())
    text = console.export_text()
    assert "DIFFERS (15)" in text
    assert "and 5 more" in text
    assert figures["differences"] == 15
    assert len(figures["first_differences"]) == 10


def test_the_report_has_a_dash_where_there_is_no_input_book():
    books = agreeing_books()
    books.input = None
    console = Console(width=120, file=io.StringIO(), record=True)

    print_report(reconcile(books, alone=True), console)

    assert "All books agree." in console.export_text()
