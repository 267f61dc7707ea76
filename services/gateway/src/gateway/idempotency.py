"""Idempotency: what a second call with the same key gets, and when a missing marker says nothing.

Problem: a client that saw no answer sends again; it must get the first order, not a second one.
Rule: the order's id follows from customer and key, so a repeated publish is the same message. On top of it a **claim**
per key keeps the fingerprint of the body and what became of the first call, and answers the second one:

| first call | claim | same body | other body |
| --- | --- | --- | --- |
| new | none | publish, 202 | - |
| in flight | 5 s | wait 1 s, then its answer, else 409 | 422 |
| accepted | 24 h | the same 202, `Idempotent-Replayed: true` | 422 |
| unknown | 5 s | 503 while the claim stands, then publish again under the same id | 422 |
| expired or lost | none | publish again, the inbox drops it: 202 | 202 with the first order |

Guarantees: a key is never a second order, whatever becomes of Redis. The claim only decides what is said.
Limits: without Redis every copy is published, and another body under the same key is noticed by order_writer only:
nothing changes, and the conflict stands in the order's timeline.
Source: the Idempotency-Key header, draft-ietf-httpapi-idempotency-key-header.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from hashlib import sha256
from typing import Protocol
from uuid import UUID

from common.kafka.publisher import Outcome
from gateway.schemas import NewOrder

CLAIM_STANDS = timedelta(seconds=5)
ACCEPTED_KEPT = timedelta(hours=24)


class Verdict(Enum):
    """What a call gets. The first five say it before anything was published."""

    LIMITED = "limited"
    IN_FLIGHT = "in_flight"
    UNKNOWN = "unknown"
    REPLAYED = "replayed"
    CONFLICT = "conflict"
    NEW = "new"  # go on and publish it
    ACCEPTED = "accepted"
    REFUSED = "refused"  # surely not written


@dataclass(frozen=True, slots=True)
class Admission:
    verdict: Verdict
    retry_after_s: float = 0  # with LIMITED: when there will be a token


@dataclass(frozen=True, slots=True)
class Marker:
    """Says that an order was accepted, until Postgres can say it."""

    order_id: UUID
    customer_id: str
    accepted_at: datetime
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """One call. Without `key` there is no claim; only an order has a marker; a `free` call takes no token."""

    customer_id: str
    order_id: UUID
    attempt: str
    key: bool = False
    marker: Marker | None = None
    free: bool = False

    @property
    def fingerprint(self) -> str:
        """Empty for a call without a claim."""
        return self.marker.fingerprint if self.key and self.marker else ""


class DoorStore(Protocol):
    """Buckets, claims and markers: best effort and bounded in time. Neither call raises because the store is away."""

    async def admit(self, calls: Sequence[Call]) -> list[Admission]:
        """A token and the claim for each call, in their order. With the store away: NEW, or LIMITED by our share."""
        ...

    async def settle(self, settled: Sequence[tuple[Call, Outcome]]) -> None:
        """Acked: the claim says accepted and the marker stands. Refused: the claim is gone. Unknown: it says so."""
        ...


def fingerprint_of(order: NewOrder) -> str:
    """The client's fields in one form, whatever the spaces, the order of the fields or an explicit null."""
    return sha256(order.model_dump_json().encode()).hexdigest()


def new_attempt() -> str:
    return f"{random.getrandbits(64):016x}"
