"""Each line of the saga's table, by hand: what a reader may rely on."""

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from builders import NOW
from common.contracts import commands, events
from orders.domain.order import OrderStatus as O
from orders.domain.saga import (
    ATTEMPTS_BEFORE_ATTENTION,
    CANCELLED_BY_CUSTOMER,
    LONGEST_WAIT,
    NOTHING,
    RULES,
    STEP_OF,
    STEP_TIMEOUT,
    WAITS_FOR,
    Decision,
    Saga,
    SagaState,
    decide,
    time_out,
)

S = SagaState
c, e = commands, events

# (state, message): then, what is sent, the order's new status and its reason
EXPECTED: dict[tuple[SagaState | None, type[Any]], tuple[SagaState, Decision]] = {
    (None, e.OrderPlaced): (S.RESERVING, Decision(c.ReserveStock)),
    (S.RESERVING, e.StockReserved): (S.AUTHORIZING, Decision(c.AuthorizePayment, O.RESERVED)),
    (S.AUTHORIZING, e.PaymentAuthorized): (S.CAPTURING, Decision(c.CapturePayment, O.AUTHORIZED)),
    (S.CAPTURING, e.PaymentCaptured): (S.ENDED, Decision(None, O.CONFIRMED)),
    (S.RESERVING, e.StockRefused): (S.ENDED, Decision(None, O.REJECTED, "out_of_stock")),
    (S.AUTHORIZING, e.PaymentDeclined): (S.RELEASING, Decision(c.ReleaseStock)),
    (S.RESERVING, e.OrderCancelRequested): (S.RELEASING, Decision(c.ReleaseStock)),
    (S.AUTHORIZING, e.OrderCancelRequested): (S.VOIDING, Decision(c.VoidPayment)),
    (S.VOIDING, e.PaymentVoided): (S.RELEASING, Decision(c.ReleaseStock)),
    (S.RELEASING, e.StockReleased): (S.ENDED, Decision(None, O.REJECTED)),
}
HEARD = {message for _, message in EXPECTED}


def a_saga(state: SagaState | None = S.RESERVING, **changes: Any) -> Saga:
    return replace(Saga(uuid4(), state), **changes)


def test_the_table_has_exactly_these_lines() -> None:
    assert set(RULES) == set(EXPECTED)


@pytest.mark.parametrize(("state", "message"), EXPECTED)
def test_each_line_moves_the_saga_and_says_what_follows(state: SagaState | None, message: type[Any]) -> None:
    saga = a_saga(state, attempts=3)

    decision = decide(saga, message, NOW)

    assert (saga.state, decision) == EXPECTED[state, message]
    assert saga.attempts == 0
    assert saga.deadline == (None if saga.state is S.ENDED else NOW + STEP_TIMEOUT)


@pytest.mark.parametrize("message", sorted(HEARD, key=str))
@pytest.mark.parametrize("state", list(SagaState))
def test_what_is_not_in_the_table_changes_nothing_in_a_saga_that_was_never_stopped(
    state: SagaState, message: type[Any]
) -> None:
    if (state, message) in RULES:
        return
    saga = a_saga(state, attempts=3, deadline=NOW)
    before = replace(saga)

    assert decide(saga, message, NOW + timedelta(minutes=1)) == NOTHING
    assert saga == before


@pytest.mark.parametrize(
    ("state", "message", "compensation"),
    [
        (S.ENDED, e.StockReserved, c.ReleaseStock),
        (S.RELEASING, e.PaymentAuthorized, c.VoidPayment),
        (S.ENDED, e.PaymentAuthorized, c.VoidPayment),
    ],
)
def test_a_success_that_comes_after_its_compensation_is_compensated_again(
    state: SagaState, message: type[Any], compensation: type[Any]
) -> None:
    saga = a_saga(state, reason=CANCELLED_BY_CUSTOMER)
    before = replace(saga)

    assert decide(saga, message, NOW) == Decision(compensation)
    assert saga == before


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("payment_declined", Decision(None, O.REJECTED, "payment_declined")),
        ("fraud_suspected", Decision(None, O.REJECTED, "fraud_suspected")),
    ],
)
def test_the_reason_of_a_decline_is_kept_until_the_stock_is_back(reason: str, expected: Decision) -> None:
    saga = a_saga(S.AUTHORIZING)
    decide(saga, e.PaymentDeclined, NOW, reason=reason)

    assert decide(saga, e.StockReleased, NOW) == expected


def test_a_cancelled_order_is_cancelled_only_once_its_stock_is_back() -> None:
    saga = a_saga(S.AUTHORIZING)
    assert decide(saga, e.OrderCancelRequested, NOW).order is None
    assert decide(saga, e.PaymentVoided, NOW).order is None

    assert decide(saga, e.StockReleased, NOW) == Decision(None, O.CANCELLED)


def test_a_cancel_loses_to_a_capture_that_was_asked_for() -> None:
    saga = a_saga(S.CAPTURING)

    assert decide(saga, e.OrderCancelRequested, NOW) == NOTHING
    assert decide(saga, e.PaymentCaptured, NOW).order is O.CONFIRMED


@pytest.mark.parametrize("state", [s for s in SagaState if s is not S.ENDED])
def test_a_time_out_sends_the_step_again_and_waits_longer_each_time(state: SagaState) -> None:
    saga = a_saga(state)

    decisions = [time_out(saga, NOW) for _ in range(ATTEMPTS_BEFORE_ATTENTION + 5)]

    assert {decision.send for decision in decisions} == {STEP_OF[state]}
    asked_a_person = [d for d in decisions if d.order is not None]
    assert asked_a_person == [Decision(STEP_OF[state], O.NEEDS_ATTENTION, WAITS_FOR[state])]
    assert saga.state is state
    assert saga.deadline == NOW + LONGEST_WAIT * STEP_TIMEOUT


def test_the_first_time_out_doubles_the_wait() -> None:
    saga = a_saga()

    time_out(saga, NOW)

    assert saga.deadline == NOW + 2 * STEP_TIMEOUT


def test_the_time_out_is_the_operators_choice_also_for_the_waits_that_follow() -> None:
    saga, step_timeout = a_saga(S.RESERVING), timedelta(seconds=5)

    decide(saga, e.StockReserved, NOW, step_timeout=step_timeout)
    assert saga.deadline == NOW + step_timeout
    for times in (2, 4, LONGEST_WAIT, LONGEST_WAIT):
        time_out(saga, NOW, step_timeout=step_timeout)
        assert saga.deadline == NOW + times * step_timeout


@pytest.mark.parametrize("state", [None, S.ENDED])
def test_a_saga_that_waits_for_nothing_has_no_time_out(state: SagaState | None) -> None:
    saga = a_saga(state)

    assert time_out(saga, NOW) == NOTHING
    assert saga.attempts == 0
