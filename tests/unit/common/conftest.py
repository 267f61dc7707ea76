"""A breaker, its clock and its dependency, for every test of what breakers do."""

import pytest

from common.resilience.circuit_breaker import CircuitBreaker
from unit.common.breaking import REST_S, AwayError, Clock, Dependency


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def dependency() -> Dependency:
    return Dependency()


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker("test", failures=(AwayError,), timeout_s=5, rest_s=REST_S, clock=clock)
