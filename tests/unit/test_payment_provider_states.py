"""The provider's state machine: the whole table, and authorize on every state."""

from itertools import product

import pytest
from msgspec.structs import replace

from payment_provider.faults import Faults, Switches
from payment_provider.ledger import Action, ConflictError, Payment, Status, tombstone

A, D, C, V = Status.AUTHORIZED, Status.DECLINED, Status.CAPTURED, Status.VOIDED
GRANTED = {
    (A, Action.CAPTURE): C,
    (C, Action.CAPTURE): C,
    (A, Action.VOID): V,
    (V, Action.VOID): V,
    (D, Action.VOID): D,
}


def payment(status: Status = A) -> Payment:
    return Payment("order-1", status, 1_234, "USD", "customer-1", "key-1")


@pytest.mark.parametrize(("status", "action"), list(product(Status, Action)))
def test_every_pair_of_state_and_action_moves_as_the_table_says_or_is_refused(status: Status, action: Action) -> None:
    expected = GRANTED.get((status, action))

    if expected is None:
        with pytest.raises(ConflictError) as refusal:
            payment(status).after(action)
        assert refusal.value.code == f"payment-{status}"
    else:
        assert payment(status).after(action) == payment(expected)


@pytest.mark.parametrize("status", Status)
def test_authorize_again_on_the_same_terms_answers_what_the_payment_already_is(status: Status) -> None:
    assert payment(status).repeated(payment()) == payment(status)


@pytest.mark.parametrize("other", [{"amount_minor": 1_235}, {"currency": "EUR"}, {"customer_id": "customer-2"}])
@pytest.mark.parametrize("status", Status)
def test_authorize_again_on_other_terms_is_refused_in_every_state(status: Status, other: dict[str, object]) -> None:
    with pytest.raises(ConflictError) as refusal:
        payment(status).repeated(replace(payment(), **other))

    assert refusal.value.code == "terms-differ"


def test_a_tombstone_answers_every_late_authorize_with_voided() -> None:
    assert tombstone("order-1").repeated(payment()).status is V


async def test_a_rerun_declines_the_same_references_and_about_the_share_asked_for() -> None:
    references = [f"order-{number}" for number in range(2_000)]

    first = [Faults(Switches(decline_percent=30)).declines(reference) for reference in references]
    second = [Faults(Switches(decline_percent=30)).declines(reference) for reference in references]

    assert first == second
    assert 500 < sum(first) < 700
