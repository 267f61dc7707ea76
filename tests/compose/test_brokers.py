"""Three brokers: one may die, whichever, and orders go on."""

import pytest

from compose.stack import Compose
from eventually import eventually

pytestmark = pytest.mark.timeout(600)
ENVIRONMENT = {"COMPOSE_FILE": "docker-compose.yml:deploy/compose/brokers.yml", "COMPOSE_PROFILES": "customers"}
BROKERS = ("kafka", "kafka-2", "kafka-3")
TOPICS = "/opt/kafka/bin/kafka-topics.sh --bootstrap-server 127.0.0.1:9092 --describe"


def described(compose: Compose, *options: str) -> list[str]:
    return compose.run("exec", "-T", "kafka", *TOPICS.split(), *options).splitlines()


def test_every_record_is_on_three_brokers_and_acked_by_two(compose: Compose) -> None:
    topics = [line for line in described(compose) if "ReplicationFactor" in line]

    assert topics
    for topic in topics:
        assert "ReplicationFactor: 3" in topic
        assert "min.insync.replicas=2" in topic


async def test_orders_go_on_while_any_one_broker_is_dead(compose: Compose) -> None:
    for broker in BROKERS:
        (container,) = compose.containers(broker)

        compose.kill(container)

        before = compose.count_confirmed()
        await eventually(lambda before=before: compose.count_confirmed() >= before + 50, within=60)
        compose.start(container)
        await eventually(lambda: described(compose, "--under-replicated-partitions") == [], within=90)
