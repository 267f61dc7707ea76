"""What the customers will do follows from the seed, and holds every kind of customer."""

from tests.prove.load import customers, plan

ORDERS, LOAD_S = 1_000, 100.0


def test_a_seed_gives_the_same_plans_and_another_seed_others() -> None:
    assert plan(1, ORDERS, LOAD_S) == plan(1, ORDERS, LOAD_S)
    assert plan(1, ORDERS, LOAD_S) != plan(2, ORDERS, LOAD_S)


def test_every_order_is_due_within_the_load_and_is_an_order_of_its_own() -> None:
    plans = plan(1, ORDERS, LOAD_S)

    assert [each.due for each in plans] == sorted(each.due for each in plans)
    assert 0 <= plans[0].due < plans[-1].due <= LOAD_S
    assert len({each.order_id for each in plans}) == ORDERS
    assert len(customers(plans)) > 100


def test_every_kind_of_customer_is_among_them() -> None:
    plans = plan(1, ORDERS, LOAD_S)

    assert {each.copies for each in plans} == {1, 2, 3}
    for does in ("again_after", "other_body_after", "cancel_after"):
        assert 10 < sum(getattr(each, does) is not None for each in plans) < ORDERS / 4, does
    assert sum(each.reads > 0 for each in plans) > ORDERS / 3
    assert any(each.waits for each in plans)


def test_two_runs_on_one_stack_would_be_different_orders() -> None:
    assert not {each.order_id for each in plan(1, 100, 10)} & {each.order_id for each in plan(2, 100, 10)}
