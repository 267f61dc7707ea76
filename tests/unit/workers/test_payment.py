"""The rules of a payment: one table for what a command begins, one for what the provider's word settles."""

from itertools import product
from typing import Any

import pytest

from builders import NOW, a_payment, authorize_payment
from common.contracts import commands, events
from common.errors import PoisonError
from workers.payment import COMMAND_OF, OPEN, SETTLES, PaymentState, answer_to, begin

S = PaymentState
A, C, V = commands.AuthorizePayment, commands.CapturePayment, commands.VoidPayment

EVERY_AUTHORIZE: dict[tuple[PaymentState | None, type[Any]], PaymentState | None] = {(state, A): state for state in S}

# (state before, command): state after; None before: never heard of; None after: refused as poison
BEGINS: dict[tuple[PaymentState | None, type[Any]], PaymentState | None] = {
    (None, A): S.AUTHORIZING,
    (None, C): None,
    (None, V): S.VOIDING,
    (S.AUTHORIZING, C): None,
    (S.AUTHORIZING, V): S.VOIDING,
    (S.AUTHORIZED, C): S.CAPTURING,
    (S.AUTHORIZED, V): S.VOIDING,
    (S.DECLINED, C): None,
    (S.DECLINED, V): S.VOIDED,
    (S.CAPTURING, C): S.CAPTURING,
    (S.CAPTURING, V): None,
    (S.CAPTURED, C): S.CAPTURED,
    (S.CAPTURED, V): None,
    (S.VOIDING, C): None,
    (S.VOIDING, V): S.VOIDING,
    (S.VOIDED, C): None,
    (S.VOIDED, V): S.VOIDED,
    **EVERY_AUTHORIZE,
}
STATUSES = ["authorized", "declined", "captured", "voided", "unknown", None]


def a_command(kind: type[Any], order_id: Any) -> Any:
    return authorize_payment(order_id) if kind is A else kind(order_id=order_id)


def test_the_table_covers_every_state_and_command() -> None:
    assert set(BEGINS) == set(product([None, *S], [A, C, V]))


@pytest.mark.parametrize(("state", "kind"), BEGINS)
def test_what_a_command_begins(state: PaymentState | None, kind: type[Any]) -> None:
    order_id = authorize_payment().order_id
    payment = None if state is None else a_payment(state, order_id)
    expected = BEGINS[state, kind]

    if expected is None:
        with pytest.raises(PoisonError):
            begin(a_command(kind, order_id), payment, None)
        assert payment is None or payment.state is state
    else:
        after = begin(a_command(kind, order_id), payment, "trace")
        assert (after.order_id, after.state) == (order_id, expected)
        assert after.traceparent == ("trace" if state is None else None)


@pytest.mark.parametrize(("state", "status"), list(product(S, STATUSES)))
def test_what_the_providers_word_settles(state: PaymentState, status: str | None) -> None:
    payment = a_payment(state, attempts=3, next_attempt_at=NOW)
    settled = SETTLES.get((state, status or ""))

    assert payment.settle(status) is (settled is not None)

    assert payment.state is (settled or state)
    assert (payment.attempts, payment.next_attempt_at) == ((0, None) if settled else (3, NOW))


def test_only_open_states_can_be_settled_and_each_names_its_command() -> None:
    assert {state for state, _ in SETTLES} == OPEN == set(COMMAND_OF)


ANSWERS = {
    (A, S.AUTHORIZED): events.PaymentAuthorized,
    (A, S.DECLINED): events.PaymentDeclined,
    (C, S.CAPTURED): events.PaymentCaptured,
    (V, S.VOIDED): events.PaymentVoided,
}


@pytest.mark.parametrize(("kind", "state"), list(product([A, C, V], S)))
def test_a_command_is_answered_by_a_settled_payment_and_by_none_else(kind: type[Any], state: PaymentState) -> None:
    payment = a_payment(state)

    answer = answer_to(kind, payment)

    assert type(answer) is ANSWERS.get((kind, state), type(None))
    assert answer is None or answer.order_id == payment.order_id


def test_an_order_of_nothing_is_free_and_a_tombstone_is_not() -> None:
    tombstone = begin(V(order_id=authorize_payment().order_id), None, None)

    assert a_payment(S.AUTHORIZING, amount_minor=0).is_free
    assert not a_payment(S.AUTHORIZING).is_free
    assert not tombstone.is_free
