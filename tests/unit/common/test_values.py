"""How an order gets its id, the topics it travels on, the wait between two tries."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.contracts.topics import Topic, all_topics, dead_letter_topic
from common.contracts.values import order_id_for
from common.resilience.backoff import full_jitter

text = st.text(min_size=1, max_size=30)


@given(customer=text, key=text)
def test_the_same_key_of_the_same_customer_is_the_same_order(customer: str, key: str) -> None:
    assert order_id_for(customer, key) == order_id_for(customer, key)
    assert order_id_for(customer, key).version == 5


@given(first=st.tuples(text, text), second=st.tuples(text, text))
def test_another_customer_or_key_is_another_order(first: tuple[str, str], second: tuple[str, str]) -> None:
    assert (order_id_for(*first) == order_id_for(*second)) is (first == second)


def test_a_colon_in_a_name_does_not_make_two_customers_one() -> None:
    assert order_id_for("a:b", "c") != order_id_for("a", "b:c")


def test_the_id_of_a_key_never_changes_between_releases() -> None:
    assert order_id_for("customer-1", "key-1") == UUID("2ead88f4-3b49-59f1-9137-ed704b7284ef")


def test_every_topic_has_its_dead_letter_topic_with_as_many_partitions() -> None:
    specs = {spec.name: spec for spec in all_topics()}

    assert len(specs) == 2 * len(Topic)
    for topic in Topic:
        assert specs[dead_letter_topic(topic)].partitions == specs[topic].partitions
        assert specs[dead_letter_topic(topic)].retention is not None


def test_only_the_catalog_is_compacted_and_it_is_one_partition() -> None:
    compacted = [spec for spec in all_topics() if spec.retention is None]

    assert [(spec.name, spec.partitions) for spec in compacted] == [("catalog.items", 1)]


@pytest.mark.parametrize("failures", [0, 1, 5, 40, 10_000])
def test_the_wait_is_random_below_a_bound_that_doubles_up_to_the_cap(failures: int) -> None:
    bound = min(10, 0.2 * 2 ** min(failures, 32))

    waits = [full_jitter(failures, base_s=0.2, cap_s=10) for _ in range(200)]

    assert all(0 <= wait <= bound for wait in waits)
    assert max(waits) > bound / 2 > min(waits)
