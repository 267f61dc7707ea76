"""Each guarantee can be broken: for each there is a history in which it is, and it alone is named."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from common.contracts.topics import Topic
from common.records import Record
from demo.books import Charge, StoredOrder
from tests.prove.calls import What
from tests.prove.evidence import Evidence, Unproven
from tests.prove.guarantees import GUARANTEES, judge
from unit.prove.history import ANNE, BERT, CARL, PRICE, History, good_history

Break = Callable[[History], Evidence]


def broken(evidence: Evidence) -> set[str]:
    return {verdict.guarantee.id for verdict in judge(evidence) if verdict.broken}


def not_in_the_log(history: History) -> Evidence:
    """The 202 came, the record did not; so nothing of it is stored either."""
    history.entries = [entry for entry in history.entries if entry.order_id != CARL]
    evidence = history.evidence()
    del evidence.orders.orders[CARL]
    return evidence


def in_the_log_and_not_stored(history: History) -> Evidence:
    evidence = history.evidence()
    del evidence.orders.orders[CARL]
    return evidence


def stored_for_nobody(history: History) -> Evidence:
    """An order that no customer sent; somehow it is in the log."""
    history.calls = [each for each in history.calls if each.call.order_id != CARL]
    return history.evidence()


def cancelled_by_nobody(history: History) -> Evidence:
    history.calls = [each for each in history.calls if each.call.what is not What.CANCEL]
    return history.evidence()


def stored_past_the_log(history: History) -> Evidence:
    """As if a record were gone from the log after it was stored: nobody had an answer about it."""
    history.entries = [entry for entry in history.entries if entry.order_id != CARL]
    history.calls = [each for each in history.calls if each.call.order_id != CARL]
    history.call(What.PLACE, CARL, None, at=11, trouble="TimeoutError", media_type=None)
    return history.evidence()


def reserved_twice(history: History) -> Evidence:
    evidence = history.evidence()
    evidence.stock.twice.append(ANNE)
    return evidence


def a_second_order_for_a_key(history: History) -> Evidence:
    history.call(What.PLACE_OTHER, BERT, 202, at=12, order_id="another order")
    return history.evidence()


def charged_for_no_order(history: History) -> Evidence:
    """As by a charge under a key of its own: the order is paid, and the money was taken once more."""
    evidence = history.evidence()
    evidence.ledger.charges[f"{ANNE}-again"] = Charge("captured", PRICE[ANNE], "USD")
    return evidence


def confirmed_and_not_paid(history: History) -> Evidence:
    evidence = history.evidence()
    del evidence.ledger.charges[ANNE]
    return evidence


def money_held_for_a_cancelled_order(history: History) -> Evidence:
    evidence = history.evidence()
    evidence.ledger.charges[BERT] = Charge("authorized", PRICE[BERT], "USD")
    return evidence


def stock_of_a_rejected_order_not_given_back(history: History) -> Evidence:
    evidence = history.evidence()
    evidence.stock.holders.add(CARL)
    return evidence


def more_taken_than_reserved(history: History) -> Evidence:
    evidence = history.evidence()
    evidence.stock.taken["cd"] = 2
    return evidence


def committed_and_not_in_the_inbox(history: History) -> Evidence:
    evidence = history.evidence()
    return replace(evidence, unproven=[Unproven("order_writer", history.entries[0])])


def versions_out_of_order_in_the_log(history: History) -> Evidence:
    events = [entry for entry in history.entries if entry.topic == Topic.ORDERS_EVENTS]
    one, two = (history.entries.index(events[n]) for n in (3, 4))
    history.entries[one], history.entries[two] = history.entries[two], history.entries[one]
    return history.evidence()


def an_event_left_out(history: History) -> Evidence:
    history.entries = [entry for entry in history.entries if entry.kind != "OrderReserved"]
    return history.evidence()


def an_order_on_two_partitions(history: History) -> Evidence:
    history.record(Topic.ORDERS_COMMANDS, "CancelOrder", BERT, partition=2)
    return history.evidence()


def a_good_record_in_the_dead_letter_topic(history: History) -> Evidence:
    letter = Record("orders.commands.dlq", 1, 0, 0, ANNE.encode(), b"", [("dlq-cause", b"PoisonError: why?")])
    return replace(history.evidence(), dead_letters=[letter])


def a_record_without_its_key(history: History) -> Evidence:
    nameless = replace(history.entries[0], offset=99, key="", kind="unreadable", order_id="the record's key differs")
    history.entries.append(nameless)
    return history.evidence()


def a_read_that_goes_backwards(history: History) -> Evidence:
    history.call(What.READ, ANNE, 200, at=13, version=2, state="reserved")
    return history.evidence()


def a_read_that_no_event_tells_of(history: History) -> Evidence:
    history.call(What.READ, CARL, 200, at=13, version=2, state="confirmed")
    return history.evidence()


def a_404_after_the_202(history: History) -> Evidence:
    history.call(What.READ, ANNE, 404, at=13)
    return history.evidence()


def a_500(history: History) -> Evidence:
    history.call(What.LIST, ANNE, 500, at=13, media_type="text/plain")
    return history.evidence()


def a_503_that_does_not_say_when(history: History) -> Evidence:
    history.call(What.PLACE, ANNE, 503, at=13)
    return history.evidence()


def a_good_order_refused(history: History) -> Evidence:
    history.call(What.PLACE, ANNE, 422, at=13)
    return history.evidence()


def asked_for_and_never_accepted(history: History) -> Evidence:
    accepted = next(each for each in history.calls if each.call.order_id == CARL)
    history.calls.remove(accepted)
    history.call(What.PLACE, CARL, 503, at=70, retry_after=True)
    return history.evidence()


def not_final_in_time(history: History) -> Evidence:
    return replace(history.evidence(), not_final={ANNE: "authorized"})


def events_left_in_the_outbox(history: History) -> Evidence:
    return replace(history.evidence(), outbox_rows=3)


def a_process_that_stays_away(history: History) -> Evidence:
    return replace(history.evidence(), not_ready=["payments"])


BREAKS: list[tuple[Break, set[str]]] = [
    (not_in_the_log, {"accepted-is-in-the-log", "nothing-lost"}),
    (in_the_log_and_not_stored, {"nothing-lost"}),
    (stored_for_nobody, {"nothing-invented"}),
    (cancelled_by_nobody, {"nothing-invented"}),
    (stored_past_the_log, {"stored-is-in-the-log", "retries-are-answered"}),
    (asked_for_and_never_accepted, {"retries-are-answered"}),
    (reserved_twice, {"nothing-doubled"}),
    (a_second_order_for_a_key, {"one-key-one-order"}),
    (charged_for_no_order, {"charged-once", "money-conserved"}),
    (confirmed_and_not_paid, {"confirmed-is-paid", "money-conserved"}),
    (money_held_for_a_cancelled_order, {"money-conserved"}),
    (stock_of_a_rejected_order_not_given_back, {"stock-conserved"}),
    (more_taken_than_reserved, {"stock-conserved"}),
    (committed_and_not_in_the_inbox, {"offsets-after-database"}),
    (versions_out_of_order_in_the_log, {"order-per-key"}),
    (an_event_left_out, {"order-per-key"}),
    (an_order_on_two_partitions, {"order-per-key"}),
    (a_good_record_in_the_dead_letter_topic, {"no-good-record-buried"}),
    (a_record_without_its_key, {"no-good-record-buried"}),
    (a_read_that_goes_backwards, {"versions-never-backwards"}),
    (a_read_that_no_event_tells_of, {"reads-are-true"}),
    (a_404_after_the_202, {"accepted-is-found"}),
    (a_500, {"documented-answers"}),
    (a_503_that_does_not_say_when, {"documented-answers"}),
    (a_good_order_refused, {"documented-answers"}),
    (not_final_in_time, {"saga-ends"}),
    (events_left_in_the_outbox, {"saga-ends"}),
    (a_process_that_stays_away, {"processes-come-back"}),
]


def test_a_good_history_breaks_nothing_and_every_guarantee_has_something_to_look_at() -> None:
    verdicts = judge(good_history().evidence())

    assert [verdict.broken for verdict in verdicts if verdict.broken] == []
    assert [verdict.guarantee.id for verdict in verdicts if not verdict.compared] == []


@pytest.mark.parametrize(("make", "named"), BREAKS, ids=[make.__name__ for make, _ in BREAKS])
def test_what_is_broken_is_named_and_nothing_else(make: Break, named: set[str]) -> None:
    assert broken(make(good_history())) == named


def test_there_is_a_history_that_breaks_each_guarantee() -> None:
    assert set().union(*(named for _, named in BREAKS)) == {guarantee.id for guarantee in GUARANTEES}


def test_a_look_on_the_way_leaves_out_what_only_the_end_can_tell() -> None:
    evidence = replace(good_history().evidence(final=False), not_final={ANNE: "placed"}, outbox_rows=7)
    evidence.orders.orders[ANNE] = StoredOrder("anne", PRICE[ANNE], PRICE[ANNE], "authorized", "USD")
    del evidence.orders.orders[CARL]  # in the log, not yet written

    assert broken(evidence) == set()


def test_a_promise_of_after_the_log_was_read_is_not_held_against_it() -> None:
    history = good_history()
    promises = [each for each in history.calls if each.call.order_id != CARL]
    history.entries = [entry for entry in history.entries if entry.order_id != CARL]
    evidence = replace(history.evidence(final=False), promises=promises)
    del evidence.orders.orders[CARL]

    assert broken(evidence) == set()


def test_reads_that_overlap_may_come_in_any_order() -> None:
    history = good_history()
    history.call(What.READ, BERT, 200, at=20.0, version=2, state="cancelled")
    history.call(What.READ, BERT, 200, at=20.05, version=1, state="placed")

    assert broken(history.evidence()) == set()


def test_a_repeated_batch_of_the_relay_is_no_disorder() -> None:
    history = good_history()
    history.record(Topic.ORDERS_EVENTS, "OrderReserved", ANNE, version=2)
    history.record(Topic.ORDERS_EVENTS, "OrderAuthorized", ANNE, version=3)

    assert broken(history.evidence()) == set()
