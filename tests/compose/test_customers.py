"""The profile `customers`: something to see from the first minute on."""

import pytest

from compose.stack import Compose
from eventually import eventually

pytestmark = pytest.mark.timeout(400)
ENVIRONMENT = {"COMPOSE_PROFILES": "customers"}


async def test_customers_have_confirmed_orders_as_soon_as_the_stack_is_up_and_go_on(compose: Compose) -> None:
    await eventually(lambda: compose.count_confirmed() >= 1, within=2)
    await eventually(lambda: compose.count_confirmed() >= 20, within=20)


def test_a_customer_that_is_told_to_stop_exits_0(compose: Compose) -> None:
    (container,) = compose.containers("customers")

    compose.run("stop", "customers")

    assert compose.exit_code(container) == 0
