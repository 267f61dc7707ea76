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


ORDER_WRITER = "order_writer"  # the group that writes orders.commands to Postgres
MAX_MESSAGE_BYTES = 1_048_588  # the default of every Kafka broker


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """How a topic is created. `retention` None means compacted: the newest record of each key is kept.

    `max_message_bytes`: the largest batch that the broker takes.
    """

    name: str
    partitions: int
    retention: timedelta | None
    max_message_bytes: int = MAX_MESSAGE_BYTES


DEAD_LETTER_RETENTION = timedelta(days=30)
DEAD_LETTER_MAX_BYTES = 2 * 1_048_576  # the largest record of any topic must fit, with its cause
DEAD_LETTER_SUFFIX = ".dlq"


def dead_letter_topic(topic: str) -> str:
    """Where a record of `topic` goes that nobody could read or apply."""
    return f"{topic}{DEAD_LETTER_SUFFIX}"


def max_message_bytes(topic: str) -> int:
    """How large a batch of one record may be."""
    return DEAD_LETTER_MAX_BYTES if topic.endswith(DEAD_LETTER_SUFFIX) else MAX_MESSAGE_BYTES


def all_topics() -> list[TopicSpec]:
    """Every topic of the system, its dead letter topics included."""
    specs = [
        TopicSpec(topic, 1, None) if topic is Topic.CATALOG_ITEMS else TopicSpec(topic, 6, timedelta(days=7))
        for topic in Topic
    ]
    return specs + [
        TopicSpec(dead_letter_topic(s.name), s.partitions, DEAD_LETTER_RETENTION, DEAD_LETTER_MAX_BYTES) for s in specs
    ]
