"""The one list of topics: names, partitions, retention, and what each carries.

Every order topic is keyed by the order id, so that all messages of one order stay in order on one partition.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum


class Topic(StrEnum):
    ORDERS_COMMANDS = "orders.commands"
    ORDERS_EVENTS = "orders.events"
    INVENTORY_COMMANDS = "inventory.commands"
    INVENTORY_EVENTS = "inventory.events"
    PAYMENTS_COMMANDS = "payments.commands"
    PAYMENTS_EVENTS = "payments.events"
    CATALOG_ITEMS = "catalog.items"


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """How a topic is created. `retention` None means compacted: the newest record of each key is kept."""

    name: str
    partitions: int
    retention: timedelta | None


DEAD_LETTER_RETENTION = timedelta(days=30)


def dead_letter_topic(topic: str) -> str:
    """Where a record of `topic` goes that nobody could read or apply."""
    return f"{topic}.dlq"


def all_topics() -> list[TopicSpec]:
    """Every topic of the system, its dead letter topics included."""
    specs = [
        TopicSpec(topic, 1, None) if topic is Topic.CATALOG_ITEMS else TopicSpec(topic, 6, timedelta(days=7))
        for topic in Topic
    ]
    return specs + [TopicSpec(dead_letter_topic(s.name), s.partitions, DEAD_LETTER_RETENTION) for s in specs]
