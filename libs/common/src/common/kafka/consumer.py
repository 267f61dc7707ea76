"""Batch consumer: database first, offset second.

Rule: commit `offset + 1` of a partition only after the records before it are applied (in Postgres) or are in the dead
letter topic, acked.
Guarantees: at least once, in order per key. Effects happen once because `apply` remembers message ids (inbox.py).
Limits: a bad record that nobody names (only the database refuses it) costs its batch about 2 log2(n) more transactions;
it does not block the partition. Missing infrastructure does block it, on purpose: nothing is skipped and order is kept.
Source: aiokafka docs/consumer.rst. The defaults of aiokafka lose data, so all of them are set here.
"""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportPrivateUsage=false
# (aiokafka carries no types; we hand out our own Record)

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.errors import IllegalStateError, KafkaError

from common.contracts.codec import Message, decode
from common.dead_letter import dead_letter
from common.errors import InfrastructureError
from common.kafka.closing import close
from common.kafka.lag import Lag, Standstill
from common.kafka.publisher import Outcome, Publisher
from common.records import Record
from common.resilience.backoff import full_jitter
from common.telemetry import metrics
from common.telemetry.tracing import batch_span

log = structlog.get_logger()

COMMIT_TIMEOUT_S = 5
LEAVE_S = 3
LONGEST_FETCH_S = 5
LONGEST_WAIT_FOR_BATCH_S = 5  # of a rebalance, for the batch that is under way
# What waits in memory, whatever the backlog: for each partition one fetch at most, and a batch of records at its end.
MAX_FETCH_BYTES = 1_048_576

Apply = Callable[[Sequence[Message]], Awaitable[None]]
OnPoison = Callable[[Sequence[Record]], Awaitable[None]]
Poison = list[tuple[Record, Exception]]  # each with its cause


class BatchConsumer(ConsumerRebalanceListener):
    """Fetch a batch, apply it, bury what is poison, commit the offsets.

    `apply` must be one database transaction that is safe to repeat. It raises InfrastructureError when something is
    away: then nothing is committed and the partitions wait, with backoff. Any other error means that a record in the
    batch is bad and goes to the dead letter topic: those that a PoisonError names; otherwise the batch is halved until
    they are found.
    `on_poison` hears of such records before they go there, and again if that has to be repeated.
    """

    def __init__(
        self,
        *,
        bootstrap_servers: str,
        group: str,
        topics: Sequence[str],
        apply: Apply,
        publisher: Publisher,
        fetch_max_wait_ms: int,
        max_records: int = 1_000,
        on_poison: OnPoison | None = None,
        standstill_s: float = 60,
    ) -> None:
        self._group, self._topics, self._apply, self._publisher = group, list(topics), apply, publisher
        self._max_records, self._on_poison = max_records, on_poison
        self._bootstrap_servers, self._fetch_max_wait_ms = bootstrap_servers, fetch_max_wait_ms
        self._standstill_s = standstill_s
        self._consumer: Any = None
        self._lag = Lag(group)
        self._epochs: dict[Any, int] = defaultdict(int)  # grows when a partition is taken from us
        self._resume_at: dict[Any, float] = {}
        self._failures = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._turned_at = time.monotonic()
        self._joined = False

    def alive(self) -> bool:
        """The loop turned within 30 s. It asks no dependency, so a restart is the right answer when it is False."""
        return time.monotonic() - self._turned_at < 30

    def ready(self) -> bool:
        """It has joined its group (with or without a share: six partitions feed at most six members)."""
        return self._joined

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until `stop` is set; then finish the batch, commit, leave the group.

        Raises InfrastructureError when the broker is away at the start.
        """
        rebuilt = metrics.CONSUMERS_REBUILT.labels(self._group)
        while not stop.is_set():
            self._consumer = self._new_consumer()
            try:
                await self._start()
                await self._consume(stop)
            finally:
                await close(self._consumer, self._consumer._client, within_s=LEAVE_S)
                self._take_away(set(self._epochs))
            if not stop.is_set():
                rebuilt.inc()
                log.warning("consumer_rebuilt", group=self._group, why="records wait, and none came")

    def _new_consumer(self) -> Any:
        consumer: Any = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap_servers,
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            request_timeout_ms=10_000,
            session_timeout_ms=6_000,  # how long a killed member keeps its partitions
            heartbeat_interval_ms=1_000,
            max_poll_interval_ms=60_000,
            fetch_max_wait_ms=self._fetch_max_wait_ms,
            max_partition_fetch_bytes=MAX_FETCH_BYTES,
            fetch_max_bytes=MAX_FETCH_BYTES,  # all that the embedded broker looks at
        )
        consumer.subscribe(self._topics, listener=self)
        return consumer

    async def _start(self) -> None:
        try:
            await self._consumer.start()
        except KafkaError as error:
            raise InfrastructureError(f"cannot join group {self._group}: {error}") from error

    async def on_partitions_assigned(self, assigned: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        self._joined = True
        log.info("partitions_assigned", group=self._group, partitions=len(assigned))
        if not assigned:
            most = sum(len(self._consumer.partitions_for_topic(topic) or ()) for topic in self._topics)
            log.warning("idle", group=self._group, why=f"{most} partitions feed at most {most} members of this group")

    async def on_partitions_revoked(self, revoked: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Let the running batch end, within a limit; then whatever is still under way may no longer commit."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LONGEST_WAIT_FOR_BATCH_S):
                await self._idle.wait()
        self._take_away(revoked)

    def _take_away(self, partitions: Iterable[Any]) -> None:
        for partition in partitions:
            self._epochs[partition] += 1
            self._resume_at.pop(partition, None)
        self._lag.forget(partitions)

    async def _consume(self, stop: asyncio.Event) -> None:
        """Until `stop`, or until this consumer stands still."""
        standstill = Standstill(self._standstill_s)
        while not stop.is_set():
            fetched = await self._fetch()
            self._turned_at = time.monotonic()
            self._resume_due_partitions()
            if fetched:
                await self._handle(fetched)
            full = sum(map(len, fetched.values())) == self._max_records
            if await standstill.stands_still(self._consumer, fetched, full=full):
                return

    async def _fetch(self) -> dict[Any, list[Any]]:
        """In every turn, also while all is paused: it is what keeps a member in its group."""
        with suppress(TimeoutError):  # a rebalance may last, and a broker that is away is no reason to stand still
            async with asyncio.timeout(LONGEST_FETCH_S):
                return await self._consumer.getmany(timeout_ms=200, max_records=self._max_records)
        return {}

    async def _handle(self, fetched: dict[Any, list[Any]]) -> None:
        self._idle.clear()  # with no await since the fetch, or a rebalance in between would go unnoticed
        self._lag.fetched(fetched)
        epochs = {partition: self._epochs[partition] for partition in fetched}
        try:
            started = time.perf_counter()
            await self._apply_or_bury([to_our_record(raw) for batch in fetched.values() for raw in batch])
            await self._commit(fetched, epochs)
            self._failures = 0
            metrics.observe_batch(self._group, sum(map(len, fetched.values())), time.perf_counter() - started)
            self._lag.applied(fetched, self._consumer)
        except InfrastructureError as error:
            self._back_off({p: b for p, b in fetched.items() if self._epochs[p] == epochs[p]}, error)
        finally:
            self._idle.set()

    async def _apply_or_bury(self, records: Sequence[Record]) -> None:
        good: list[Message] = []
        poison: Poison = []
        for record in records:
            try:
                good.append(decode(record))
            except Exception as error:  # noqa: BLE001 - the process edge: bad bytes become a dead letter
                poison.append((record, error))
        if good:
            with batch_span(self._group, ((message.record.topic, message.traceparent) for message in good)):
                await self._bisect(good, poison)
        if poison:
            await self._bury(poison)

    async def _bisect(self, messages: Sequence[Message], poison: Poison) -> None:
        self._turned_at = time.monotonic()  # a long bisection is work, not standing still
        try:
            await self._apply(messages)
        except InfrastructureError:
            raise
        except Exception as error:  # noqa: BLE001 - the process edge: what cannot be applied becomes a dead letter
            named = {id(message) for message in getattr(error, "guilty", ())}
            guilty = messages if len(messages) == 1 else [m for m in messages if id(m) in named]
            poison += [(message.record, error) for message in guilty]
            for part in _rest(messages, guilty):
                await self._bisect(part, poison)

    async def _bury(self, poison: Poison) -> None:
        self._turned_at = time.monotonic()
        poison.sort(key=lambda each: (each[0].topic, each[0].partition, each[0].offset))
        if self._on_poison is not None:
            await self._on_poison([record for record, _ in poison])
        now = datetime.now(UTC)
        letters = [dead_letter(record, cause, self._group, now) for record, cause in poison]
        outcomes = await self._publisher.publish(letters)
        if any(outcome is not Outcome.ACKED for outcome in outcomes):
            raise InfrastructureError("a dead letter was not acked")
        for letter, (record, cause) in zip(letters, poison, strict=True):
            metrics.DEAD_LETTERS.labels(letter.topic).inc()
            where = {"partition": record.partition, "offset": record.offset}
            log.error("dead_letter", topic=record.topic, **where, group=self._group, cause=repr(cause)[:1_000])

    async def _commit(self, fetched: dict[Any, list[Any]], epochs: dict[Any, int]) -> None:
        done = {p: batch[-1].offset + 1 for p, batch in fetched.items() if self._epochs[p] == epochs[p]}
        try:
            if done:
                async with asyncio.timeout(COMMIT_TIMEOUT_S):  # aiokafka itself would try for ever
                    await self._consumer.commit(done)
        except (KafkaError, IllegalStateError, TimeoutError) as error:
            # A rebalance while we worked, or no broker. Whoever reads these records again has an inbox that drops them.
            log.warning("offset_commit_failed", group=self._group, error=repr(error))

    def _back_off(self, fetched: dict[Any, list[Any]], error: InfrastructureError) -> None:
        delay = full_jitter(self._failures, base_s=0.2, cap_s=10)
        self._failures += 1
        log.warning("consumer_blocked", group=self._group, error=str(error), retry_in_s=round(delay, 2))
        for partition, batch in fetched.items():
            with suppress(IllegalStateError):  # no longer ours
                self._consumer.seek(partition, batch[0].offset)
                self._consumer.pause(partition)
                self._resume_at[partition] = time.monotonic() + delay

    def _resume_due_partitions(self) -> None:
        for partition, moment in list(self._resume_at.items()):
            if moment <= time.monotonic():
                del self._resume_at[partition]
                with suppress(IllegalStateError):
                    self._consumer.resume(partition)


def _rest(messages: Sequence[Message], guilty: Sequence[Message]) -> list[Sequence[Message]]:
    """What to try next: all but the guilty; the two halves as long as nobody knows who they are."""
    if guilty:
        ids = {id(message) for message in guilty}
        innocent = [message for message in messages if id(message) not in ids]
        return [innocent] if innocent else []
    middle = len(messages) // 2
    return [messages[:middle], messages[middle:]]


def to_our_record(raw: Any) -> Record:
    return Record(raw.topic, raw.partition, raw.offset, raw.timestamp, raw.key, raw.value, raw.headers)
