"""`make test-kafka`: these tests are about Apache Kafka itself."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def _on_kafka(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--broker") != "kafka":
        pytest.fail("tests/kafka needs --broker kafka: make test-kafka", pytrace=False)
