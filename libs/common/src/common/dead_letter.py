"""Dead letter: a record that nobody could read or apply, kept whole, with its cause and where it came from.

Rule: it is acked by the broker before the offset of the original is committed.
Guarantees: key, bytes and headers are those of the original, null and repeated headers included, so that the original
can be sent again. Our own headers stand behind them; their names begin with `dlq-`.
Limits: the original's time is not kept; nothing here relies on it.
Source: Dead Letter Channel, Hohpe and Woolf, *Enterprise Integration Patterns*.
"""

from datetime import datetime

from common.contracts.topics import dead_letter_topic
from common.records import OutgoingRecord, Record

PREFIX = "dlq-"
CAUSE = "dlq-cause"
CONSUMER = "dlq-consumer"
ORIGIN = "dlq-origin"
DIED_AT = "dlq-died-at"
MAX_CAUSE_CHARACTERS = 1_000


def dead_letter(record: Record, cause: BaseException, consumer: str, died_at: datetime) -> OutgoingRecord:
    """The record as it was, plus why, who gave up, when, and `topic/partition/offset`."""
    text = f"{type(cause).__name__}: {cause}"[:MAX_CAUSE_CHARACTERS]
    headers = [
        *original_headers(record),
        (CAUSE, text.encode("utf-8", "replace")),
        (CONSUMER, consumer.encode()),
        (ORIGIN, f"{record.topic}/{record.partition}/{record.offset}".encode()),
        (DIED_AT, died_at.isoformat(timespec="milliseconds").encode()),
    ]
    return OutgoingRecord(dead_letter_topic(record.topic), record.key, record.value, headers)


def original_headers(letter: Record) -> list[tuple[str, bytes | None]]:
    """The headers without ours."""
    return [(name, value) for name, value in letter.headers if not name.startswith(PREFIX)]
