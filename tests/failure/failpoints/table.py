"""The failpoints: every place where a process is killed in the middle of its work, one line each.

A failpoint stands before or after one call of one adapter: a database commit, a publish, an offset commit, a write to
the cache, a call to the provider. `hit` says at which call of its kind the process dies, `while_` what customers do
meanwhile. `linger_s`: the call is held for that long first, so that what else is under way gets out: an answer that
was given too early, the first of two batches.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

# The adapters' methods, as `launch` finds them.
DATABASE_COMMIT = "sqlalchemy.dialects.postgresql.asyncpg:PGDialect_asyncpg.do_commit"  # of a transaction that wrote
OFFSET_COMMIT = "aiokafka:AIOKafkaConsumer.commit"
PUBLISH = "common.kafka.publisher:Publisher.publish"
SEND_BATCH = "aiokafka:AIOKafkaProducer.send_batch"  # the records of one partition
RELAY_BATCH = "common.outbox:OutboxReader.relay_batch"
CACHE_MARK = "common.cache:RedisCache.mark"
CACHE_PUBLISH = "common.cache:RedisCache.publish"
CACHE_FILL = "common.cache:RedisCache.fill"
CLAIM = "gateway.adapters.door_store:RedisDoorStore.admit"
SETTLE = "gateway.adapters.door_store:RedisDoorStore.settle"
AUTHORIZE = "workers.provider:HttpPaymentProvider.authorize"
CAPTURE = "workers.provider:HttpPaymentProvider.capture"
VOID = "workers.provider:HttpPaymentProvider.void"

Scenario = Literal["orders", "declined", "cancelled", "poison", "evicted"]


@dataclass(frozen=True, slots=True)
class Failpoint:
    """`name` is the process and the point."""

    name: str
    when: Literal["before", "after"]
    adapter: str
    hit: int = 1
    while_: Scenario = "orders"
    linger_s: float = 0

    @property
    def process(self) -> str:
        return self.name.partition(".")[0]


def reached_file(armed: Path) -> Path:
    """What the file that arms a failpoint is called once somebody has reached it."""
    return armed.with_name(f"{armed.name}.reached")


FAILPOINTS = (
    # the door: 202 only after the ack
    Failpoint("gateway.after_claim", "after", CLAIM),
    Failpoint("gateway.before_publish", "before", PUBLISH, linger_s=0.2),
    Failpoint("gateway.after_part_of_publish", "before", SEND_BATCH, hit=2, linger_s=0.2),
    Failpoint("gateway.after_ack_before_settle", "after", PUBLISH),
    Failpoint("gateway.after_settle_before_answer", "after", SETTLE),
    # database first, offset second; MARK before, PUB after
    Failpoint("order_writer.before_cache_mark", "before", CACHE_MARK),
    Failpoint("order_writer.after_cache_mark", "after", CACHE_MARK),
    Failpoint("order_writer.before_database_commit", "before", DATABASE_COMMIT),
    Failpoint("order_writer.after_database_commit", "after", DATABASE_COMMIT),
    Failpoint("order_writer.before_cache_publish", "before", CACHE_PUBLISH),
    Failpoint("order_writer.after_cache_publish", "after", CACHE_PUBLISH),
    Failpoint("order_writer.before_offset_commit", "before", OFFSET_COMMIT),
    Failpoint("order_writer.after_offset_commit", "after", OFFSET_COMMIT),
    # a poison record: remembered, buried, acked, and only then behind us
    Failpoint("order_writer.after_dead_order_commit", "after", DATABASE_COMMIT, while_="poison"),
    Failpoint("order_writer.before_dead_letter", "before", PUBLISH, while_="poison"),
    Failpoint("order_writer.after_dead_letter_ack", "after", PUBLISH, while_="poison"),
    # the outbox: published, acked, deleted
    Failpoint("outbox_relay.before_publish", "before", PUBLISH),
    Failpoint("outbox_relay.after_part_of_publish", "before", SEND_BATCH, hit=2, linger_s=0.2),
    Failpoint("outbox_relay.after_ack_before_mark_sent", "after", PUBLISH, hit=2),
    Failpoint("outbox_relay.after_mark_sent", "after", RELAY_BATCH),
    # the saga
    Failpoint("saga_runner.after_cache_mark", "after", CACHE_MARK, hit=2),
    Failpoint("saga_runner.before_database_commit", "before", DATABASE_COMMIT, hit=2),
    Failpoint("saga_runner.after_database_commit", "after", DATABASE_COMMIT),
    Failpoint("saga_runner.before_cache_publish", "before", CACHE_PUBLISH, hit=3),
    Failpoint("saga_runner.after_cache_publish", "after", CACHE_PUBLISH, hit=2),
    Failpoint("saga_runner.before_offset_commit", "before", OFFSET_COMMIT, hit=2),
    Failpoint("saga_runner.after_offset_commit", "after", OFFSET_COMMIT),
    Failpoint("saga_runner.before_compensation_commit", "before", DATABASE_COMMIT, hit=3, while_="declined"),
    Failpoint("saga_runner.after_compensation_commit", "after", DATABASE_COMMIT, hit=3, while_="declined"),
    # stock
    Failpoint("inventory.before_database_commit", "before", DATABASE_COMMIT),
    Failpoint("inventory.after_database_commit", "after", DATABASE_COMMIT),
    Failpoint("inventory.before_offset_commit", "before", OFFSET_COMMIT),
    Failpoint("inventory.after_offset_commit", "after", OFFSET_COMMIT),
    Failpoint("inventory.before_release_commit", "before", DATABASE_COMMIT, hit=2, while_="declined"),
    Failpoint("inventory.after_release_commit", "after", DATABASE_COMMIT, hit=2, while_="declined"),
    # money: ask first, write after
    Failpoint("payments.before_authorize", "before", AUTHORIZE),
    Failpoint("payments.after_authorize_before_commit", "after", AUTHORIZE, hit=2),
    Failpoint("payments.before_capture", "before", CAPTURE),
    Failpoint("payments.after_charge_before_commit", "after", CAPTURE),
    Failpoint("payments.before_void", "before", VOID, while_="cancelled"),
    Failpoint("payments.after_void_before_commit", "after", VOID, while_="cancelled"),
    Failpoint("payments.before_database_commit", "before", DATABASE_COMMIT),
    Failpoint("payments.after_database_commit", "after", DATABASE_COMMIT, hit=2),
    Failpoint("payments.before_offset_commit", "before", OFFSET_COMMIT),
    Failpoint("payments.after_offset_commit", "after", OFFSET_COMMIT),
    # who fills the cache
    Failpoint("orders.before_cache_fill", "before", CACHE_FILL, while_="evicted"),
    Failpoint("orders.after_cache_fill", "after", CACHE_FILL, while_="evicted"),
)
