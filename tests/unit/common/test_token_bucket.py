"""The bound of the token bucket, for any way to ask."""

from hypothesis import given
from hypothesis import strategies as st

from common.resilience.token_bucket import Limit, LocalBuckets

PAUSES = st.lists(st.one_of(st.just(0.0), st.floats(0, 2)), min_size=1, max_size=200)


@given(capacity=st.integers(1, 20), rate=st.floats(0.1, 1_000), pauses=PAUSES)
def test_in_any_window_at_most_capacity_plus_rate_times_its_length_pass(
    capacity: int, rate: float, pauses: list[float]
) -> None:
    now = 1_000.0
    buckets = LocalBuckets(Limit(capacity, rate), clock=lambda: now)
    passed: list[float] = []
    for pause in pauses:
        now += pause
        if buckets.take("alice") == 0:
            passed.append(now)

    for first, start in enumerate(passed):
        for last in range(first, len(passed)):
            # 2 microseconds: the clock is read in whole ones
            assert last - first + 1 <= capacity + rate * (passed[last] - start + 2e-6) + 1e-6


@given(capacity=st.integers(1, 20), rate=st.floats(0.1, 1_000))
def test_after_the_wait_that_it_names_a_token_is_there(capacity: int, rate: float) -> None:
    now = 1_000.0
    buckets = LocalBuckets(Limit(capacity, rate), clock=lambda: now)
    assert [buckets.take("alice") for _ in range(capacity)] == [0] * capacity

    wait_us = buckets.take("alice")
    now += (wait_us + 2) / 1e6

    assert wait_us > 0
    assert buckets.take("alice") == 0


def test_each_key_has_a_bucket_of_its_own() -> None:
    buckets = LocalBuckets(Limit(1, 1), clock=lambda: 0.0)

    assert [buckets.take("alice"), buckets.take("bob")] == [0, 0]
    assert buckets.take("alice") > 0


def test_full_buckets_are_forgotten_before_the_memory_grows() -> None:
    now = 0.0
    buckets = LocalBuckets(Limit(1, 1), clock=lambda: now, remembered=2)
    buckets.take("a")
    now = 10.0
    buckets.take("b")
    buckets.take("c")

    assert buckets.take("b") > 0


def test_the_shares_of_all_replicas_are_the_limit() -> None:
    assert Limit(50, 100).share(2) == Limit(25, 50)
    assert Limit(1, 1).share(4) == Limit(1, 0.25)
