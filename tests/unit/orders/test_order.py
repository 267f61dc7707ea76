"""The aggregate: all 64 pairs of statuses."""

from dataclasses import replace
from datetime import timedelta
from itertools import product

import pytest

from builders import NOW, an_order
from common.contracts import events
from orders.domain.errors import IllegalTransitionError
from orders.domain.order import FINAL, TRANSITIONS, OrderStatus

S = OrderStatus
LATER = NOW + timedelta(minutes=1)
EVENT_OF = {
    S.RESERVED: events.OrderReserved,
    S.AUTHORIZED: events.OrderAuthorized,
    S.CONFIRMED: events.OrderConfirmed,
    S.REJECTED: events.OrderRejected,
    S.CANCELLED: events.OrderCancelled,
    S.NEEDS_ATTENTION: events.OrderNeedsAttention,
}
PAIRS = set(product(OrderStatus, OrderStatus))
LEGAL = {(status, following) for status, all_following in TRANSITIONS.items() for following in all_following}


@pytest.mark.parametrize(("status", "following"), sorted(LEGAL))
def test_a_legal_transition_moves_one_version_on_and_answers_its_event(
    status: OrderStatus, following: OrderStatus
) -> None:
    order = an_order(status=status, version=4)

    event = order.move(following, LATER, "because")

    assert (order.status, order.version, order.updated_at, order.reason) == (following, 5, LATER, "because")
    assert type(event) is EVENT_OF[following]
    assert isinstance(event, events.OrderEventBase)
    assert (event.order_id, event.customer_id, event.version, event.occurred_at) == (
        order.order_id,
        order.customer_id,
        5,
        LATER,
    )
    assert getattr(event, "reason", "because") == "because"


@pytest.mark.parametrize(("status", "following"), sorted(PAIRS - LEGAL))
def test_an_illegal_transition_raises_and_changes_nothing(status: OrderStatus, following: OrderStatus) -> None:
    order = an_order(status=status)
    before = replace(order)

    with pytest.raises(IllegalTransitionError, match=str(order.order_id)):
        order.move(following, LATER)

    assert order == before


def test_every_status_has_its_line_in_the_table() -> None:
    assert set(TRANSITIONS) == set(OrderStatus)


def test_final_states_are_confirmed_rejected_and_cancelled() -> None:
    assert {S.CONFIRMED, S.REJECTED, S.CANCELLED} == FINAL


def test_a_new_order_is_version_1_and_its_event_tells_everything_about_it() -> None:
    order = an_order()

    event = order.placed()

    assert (event.version, event.lines, event.total_minor, event.currency) == (1, order.lines, 1_000, "USD")
    assert (event.order_id, event.customer_id, event.occurred_at) == (order.order_id, order.customer_id, NOW)
