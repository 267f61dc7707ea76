"""Dead letter: a record that nobody could read or apply, kept whole, with its cause and where it came from.

Rule: it is acked by the broker before the offset of the original is committed.
Source: Dead Letter Channel, Hohpe and Woolf, *Enterprise Integration Patterns*.
"""

from common.contracts.topics import dead_letter_topic
from common.records import OutgoingRecord, Record

CAUSE = "dlq-cause"
CONSUMER = "dlq-consumer"
ORIGIN = "dlq-origin"
MAX_CAUSE_CHARACTERS = 1_000


def dead_letter(record: Record, cause: BaseException, consumer: str) -> OutgoingRecord:
    """The record as it was (key, bytes, headers), plus why, who gave up, and `topic/partition/offset`."""
    text = f"{type(cause).__name__}: {cause}"[:MAX_CAUSE_CHARACTERS]
    headers = [*record.headers.items()]
    headers += [
        (CAUSE, text.encode("utf-8", "replace")),
        (CONSUMER, consumer.encode()),
        (ORIGIN, f"{record.topic}/{record.partition}/{record.offset}".encode()),
    ]
    return OutgoingRecord(dead_letter_topic(record.topic), record.key, record.value, headers)
