"""A Kafka record as we see it, coming in and going out. No library behind it."""

from collections.abc import Sequence
from dataclasses import dataclass

Headers = Sequence[tuple[str, bytes | None]]  # as on the wire: in order, a name may come twice, a value may be null


@dataclass(frozen=True, slots=True)
class Record:
    """A consumed record: raw bytes, nothing decoded."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers

    def header(self, name: str) -> bytes | None:
        """The last value under this name. A scan: for the two or three headers of a message it beats a dict."""
        for header, value in reversed(self.headers):
            if header == name:
                return value
        return None


@dataclass(frozen=True, slots=True)
class OutgoingRecord:
    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
