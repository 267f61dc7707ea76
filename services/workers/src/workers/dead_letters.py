"""Dead letters as redrive handles them: found, edited, sent again.

Rule: what is sent again is the original, byte for byte, under its own message id, to the topic it died on. The inbox of
its consumer takes each id once, so sending it twice is harmless.
Limits: an id that was applied already is dropped, whatever the new body says; then the edited copy needs a new id.
Source: ADR 0013.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import uuid4

import msgspec

from common.contracts.codec import MESSAGE_ID, decode
from common.contracts.topics import DEAD_LETTER_SUFFIX, Topic, dead_letter_topic
from common.dead_letter import original_headers
from common.errors import HeadraceError, InfrastructureError, PoisonError
from common.kafka.publisher import Outcome, Publisher
from common.kafka.reader import TopicReader
from common.records import OutgoingRecord, Record
from workers.settings import RedriveSettings

SCAN_TIMEOUT_S = 60


class RedriveError(HeadraceError):
    """What was asked for cannot be done; says why in one line."""


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """Where a dead letter stands. `topic` is the one it died on; partition and offset are its own."""

    topic: Topic
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{dead_letter_topic(self.topic)}/{self.partition}/{self.offset}"


class EditedCopy(msgspec.Struct, frozen=True):
    """What `edit` writes and `replay --edited` sends. Bytes stand in base64, so that nothing is lost on the way."""

    letter: str  # the address of the dead letter
    topic: Topic
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]

    def record(self) -> OutgoingRecord:
        return OutgoingRecord(self.topic, self.key, self.value, self.headers)

    def poison(self) -> str | None:
        """Why nobody could read it even now; None when it can be read."""
        try:
            decode(Record(self.topic, 0, 0, 0, self.key, self.value, self.headers))
        except PoisonError as error:
            return str(error)
        return None


def parse_topic(text: str) -> Topic:
    """A topic by its own name or that of its dead letter topic. Raises ValueError for any other."""
    return Topic(text.removesuffix(DEAD_LETTER_SUFFIX))


def parse_address(text: str) -> Address:
    """Raises ValueError for what is not TOPIC/PARTITION/OFFSET."""
    topic, partition, offset = text.split("/")
    return Address(parse_topic(topic), int(partition), int(offset))


def address_of(letter: Record) -> Address:
    return Address(parse_topic(letter.topic), letter.partition, letter.offset)


def original_of(letter: Record) -> OutgoingRecord:
    """The record as it was before it died. The topic is known from where it stands: its headers may be anybody's."""
    return OutgoingRecord(parse_topic(letter.topic), letter.key, letter.value, original_headers(letter))


def edited_copy(letter: Record, *, value: bytes | None, key: bytes | None, new_id: bool) -> EditedCopy:
    headers = original_headers(letter)
    if new_id:
        kept = [(name, content) for name, content in headers if name != MESSAGE_ID]
        headers = [(MESSAGE_ID, str(uuid4()).encode()), *kept]
    return EditedCopy(str(address_of(letter)), parse_topic(letter.topic), key, value, headers)


async def scan(settings: RedriveSettings, topic: Topic, handle: Callable[[Sequence[Record]], None]) -> None:
    """Hand every dead letter of `topic` to `handle`, oldest first in each partition.

    Raises InfrastructureError when the broker does not answer in time.
    """
    reader = TopicReader(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        topic=dead_letter_topic(topic),
        handle=handle,
        fetch_max_wait_ms=settings.kafka_fetch_max_wait_ms,
    )
    stop = asyncio.Event()
    try:
        async with asyncio.timeout(SCAN_TIMEOUT_S), asyncio.TaskGroup() as tasks:
            tasks.create_task(reader.run(stop))
            await reader.caught_up.wait()
            stop.set()
    except TimeoutError as error:
        raise InfrastructureError(
            f"{dead_letter_topic(topic)} was not read to its end in {SCAN_TIMEOUT_S} s"
        ) from error


async def find(settings: RedriveSettings, addresses: Sequence[Address]) -> list[Record]:
    """These letters, in this order. Raises RedriveError when one does not exist, or no longer."""
    found: dict[Address, Record] = {}

    def keep(letters: Sequence[Record]) -> None:
        found.update({address: letter for letter in letters if (address := address_of(letter)) in addresses})

    for topic in sorted({address.topic for address in addresses}):
        await scan(settings, topic, keep)
    if missing := [str(address) for address in addresses if address not in found]:
        raise RedriveError(f"no such dead letter: {', '.join(missing)}")
    return [found[address] for address in addresses]


async def find_all(settings: RedriveSettings, topic: Topic) -> list[Record]:
    """Every letter of a topic, each message once: one that died again left a second copy."""
    found: dict[tuple[object, ...], Record] = {}

    def keep(letters: Sequence[Record]) -> None:
        for letter in letters:
            found.setdefault((letter.key, letter.value, *original_headers(letter)), letter)

    await scan(settings, topic, keep)
    return list(found.values())


async def send(settings: RedriveSettings, records: Sequence[OutgoingRecord]) -> None:
    """Publish and await the acks. Raises RedriveError when one is missing; sending all of them again is harmless."""
    publisher = Publisher(settings.kafka_bootstrap_servers, idempotence=settings.kafka_enable_idempotence)
    try:
        await publisher.start()
        outcomes = await publisher.publish(records)
    finally:
        await publisher.stop()
    acked = outcomes.count(Outcome.ACKED)
    if acked < len(outcomes):
        raise RedriveError(f"{acked} of {len(outcomes)} were acked; the same command again is harmless")
