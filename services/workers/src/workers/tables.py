"""The tables of the schemas `inventory` and `payments`. Each is owned by its worker; they are never joined."""

from sqlalchemy import BigInteger, CheckConstraint, Column, DateTime, Index, Integer, MetaData, String, Table, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from common.inbox import inbox_table
from common.outbox import outbox_table

INVENTORY, PAYMENTS = "inventory", "payments"
inventory_metadata = MetaData(schema=INVENTORY)
payments_metadata = MetaData(schema=PAYMENTS)

items = Table(
    "items",
    inventory_metadata,
    Column("sku", String(64), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("currency", String(3), nullable=False),
    Column("price_minor", BigInteger, nullable=False),
    Column("initial", Integer, nullable=False),
    Column("available", Integer, nullable=False),
    CheckConstraint("price_minor >= 0", name="price_not_negative"),
    CheckConstraint("available >= 0 AND available <= initial", name="stock_conserved"),
)

reservations = Table(
    "reservations",
    inventory_metadata,
    Column("order_id", Uuid, primary_key=True),
    Column("state", String(20), nullable=False),
    Column("lines", JSONB, nullable=False),
    Column("short_sku", String(64)),
    CheckConstraint("state IN ('reserved', 'refused', 'released')", name="state_known"),
)

payments = Table(
    "payments",
    payments_metadata,
    Column("order_id", Uuid, primary_key=True),
    Column("customer_id", String(200), nullable=False),
    Column("currency", String(3), nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("state", String(20), nullable=False),
    Column("version", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_at", DateTime(timezone=True)),
    Column("traceparent", String(64)),
    CheckConstraint("amount_minor >= 0", name="amount_not_negative"),
    CheckConstraint(
        "state IN ('authorizing', 'authorized', 'declined', 'capturing', 'captured', 'voiding', 'voided')",
        name="state_known",
    ),
    Index("payments_due", "next_attempt_at", postgresql_where="next_attempt_at IS NOT NULL"),
)

inventory_inbox, inventory_outbox = (
    inbox_table(inventory_metadata, INVENTORY),
    outbox_table(inventory_metadata, INVENTORY),
)
payments_inbox, payments_outbox = inbox_table(payments_metadata, PAYMENTS), outbox_table(payments_metadata, PAYMENTS)
