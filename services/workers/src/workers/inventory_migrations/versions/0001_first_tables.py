"""The first tables: items, reservations, inbox and outbox."""

from common.migrations import execute_all

revision = "0001"
down_revision = None

STATEMENTS = [
    """
    CREATE TABLE inventory.inbox (
        consumer VARCHAR(64) NOT NULL,
        message_id UUID NOT NULL,
        received_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        PRIMARY KEY (consumer, message_id)
    )
    """,
    """
    CREATE TABLE inventory.items (
        sku VARCHAR(64) NOT NULL,
        name VARCHAR(200) NOT NULL,
        currency VARCHAR(3) NOT NULL,
        price_minor BIGINT NOT NULL,
        initial INTEGER NOT NULL,
        available INTEGER NOT NULL,
        PRIMARY KEY (sku),
        CONSTRAINT price_not_negative CHECK (price_minor >= 0),
        CONSTRAINT stock_conserved CHECK (available >= 0 AND available <= initial)
    )
    """,
    """
    CREATE TABLE inventory.outbox (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        shard SMALLINT NOT NULL,
        topic VARCHAR(64) NOT NULL,
        key VARCHAR(64) NOT NULL,
        message_id UUID NOT NULL,
        traceparent VARCHAR(64),
        payload BYTEA NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        PRIMARY KEY (id)
    )
    """,
    """
    CREATE TABLE inventory.reservations (
        order_id UUID NOT NULL,
        state VARCHAR(20) NOT NULL,
        lines JSONB NOT NULL,
        short_sku VARCHAR(64),
        PRIMARY KEY (order_id),
        CONSTRAINT state_known CHECK (state IN (
            'reserved', 'refused', 'released'))
    )
    """,
]


def upgrade() -> None:
    execute_all(STATEMENTS)
