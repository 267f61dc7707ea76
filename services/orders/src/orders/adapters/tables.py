"""The tables of the schema `orders`. Alembic migrates to exactly this; a test compares."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    Uuid,
    func,
)

from common.inbox import inbox_table
from common.outbox import outbox_table
from orders.domain.order import OrderStatus
from orders.domain.saga import SagaState

SCHEMA = "orders"
metadata = MetaData(schema=SCHEMA)

_STATUSES = ", ".join(f"'{s}'" for s in OrderStatus)
_SAGA_STATES = ", ".join(f"'{s}'" for s in SagaState)

orders = Table(
    "orders",
    metadata,
    Column("order_id", Uuid, primary_key=True),
    Column("customer_id", String(200), nullable=False),
    Column("currency", String(3), nullable=False),
    Column("total_minor", BigInteger, nullable=False),
    Column("client_reference", Text),
    Column("accepted_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    Column("status", String(20), nullable=False),
    Column("reason", String(40)),
    Column("version", Integer, nullable=False),
    CheckConstraint("total_minor >= 0", name="total_not_negative"),
    CheckConstraint("version >= 1", name="version_positive"),
    CheckConstraint(f"status IN ({_STATUSES})", name="status_known"),
    Index("orders_of_customer", "customer_id", "accepted_at", "order_id"),
)

order_lines = Table(
    "order_lines",
    metadata,
    Column("order_id", Uuid, ForeignKey(f"{SCHEMA}.orders.order_id"), primary_key=True),
    Column("line_no", SmallInteger, primary_key=True),
    Column("sku", String(64), nullable=False),
    Column("name", String(200), nullable=False),
    Column("quantity", Integer, nullable=False),
    Column("unit_price_minor", BigInteger, nullable=False),
    CheckConstraint("quantity > 0", name="quantity_positive"),
    CheckConstraint("unit_price_minor >= 0", name="price_not_negative"),
)

sagas = Table(
    "sagas",
    metadata,
    Column("order_id", Uuid, ForeignKey(f"{SCHEMA}.orders.order_id"), primary_key=True),
    Column("state", String(20), nullable=False),
    Column("reason", String(40)),
    Column("attempts", Integer, nullable=False),
    Column("deadline", DateTime(timezone=True)),
    Column("traceparent", String(64)),
    CheckConstraint(f"state IN ({_SAGA_STATES})", name="state_known"),
    Index("sagas_deadline", "deadline", postgresql_where="deadline IS NOT NULL"),
)

# Ids of PlaceOrder records that ended in the dead letter topic. All that is known of some of them is the record's key.
dead_orders = Table(
    "dead_orders",
    metadata,
    Column("order_id", Uuid, primary_key=True),
    Column("died_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)

# No primary key and no foreign key: each would cost every order something, and rows are only written with their order.
timeline = Table(
    "timeline",
    metadata,
    Column("order_id", Uuid, nullable=False),
    Column("handled_at", DateTime(timezone=True), nullable=False),
    Column("logged_at", DateTime(timezone=True)),
    Column("offset", BigInteger),
    Column("version", Integer),
    Column("attempt", Integer, nullable=False),
    Column("partition", SmallInteger),
    Column("what", String(40), nullable=False),
    Column("status", String(20)),
    Column("topic", String(64)),
    Column("trace_id", String(32)),
    Column("note", String(200)),
    Index("timeline_of_order", "order_id"),
)

inbox = inbox_table(metadata, SCHEMA)
outbox = outbox_table(metadata, SCHEMA)
