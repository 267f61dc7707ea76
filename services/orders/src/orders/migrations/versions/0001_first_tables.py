"""The first tables: orders, their sagas, inbox and outbox."""

from common.migrations import execute_all

revision = "0001"
down_revision = None

STATEMENTS = [
    """
    CREATE TABLE orders.inbox (
        consumer VARCHAR(64) NOT NULL,
        message_id UUID NOT NULL,
        received_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        PRIMARY KEY (consumer, message_id)
    )
    """,
    """
    CREATE TABLE orders.orders (
        order_id UUID NOT NULL,
        customer_id VARCHAR(200) NOT NULL,
        currency VARCHAR(3) NOT NULL,
        total_minor BIGINT NOT NULL,
        client_reference TEXT,
        accepted_at TIMESTAMP WITH TIME ZONE NOT NULL,
        updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
        status VARCHAR(20) NOT NULL,
        reason VARCHAR(40),
        version INTEGER NOT NULL,
        PRIMARY KEY (order_id),
        CONSTRAINT total_not_negative CHECK (total_minor >= 0),
        CONSTRAINT version_positive CHECK (version >= 1),
        CONSTRAINT status_known CHECK (status IN (
            'placed', 'reserved', 'authorized', 'confirmed', 'rejected', 'cancelled', 'needs_attention'))
    )
    """,
    """
    CREATE INDEX orders_of_customer ON orders.orders (customer_id, accepted_at, order_id)
    """,
    """
    CREATE TABLE orders.outbox (
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
    CREATE TABLE orders.order_lines (
        order_id UUID NOT NULL,
        line_no SMALLINT NOT NULL,
        sku VARCHAR(64) NOT NULL,
        name VARCHAR(200) NOT NULL,
        quantity INTEGER NOT NULL,
        unit_price_minor BIGINT NOT NULL,
        PRIMARY KEY (order_id, line_no),
        CONSTRAINT quantity_positive CHECK (quantity > 0),
        CONSTRAINT price_not_negative CHECK (unit_price_minor >= 0),
        FOREIGN KEY(order_id) REFERENCES orders.orders (order_id)
    )
    """,
    """
    CREATE TABLE orders.sagas (
        order_id UUID NOT NULL,
        state VARCHAR(20) NOT NULL,
        reason VARCHAR(40),
        attempts INTEGER NOT NULL,
        deadline TIMESTAMP WITH TIME ZONE,
        traceparent VARCHAR(64),
        PRIMARY KEY (order_id),
        CONSTRAINT state_known CHECK (state IN (
            'reserving', 'authorizing', 'capturing', 'voiding', 'releasing', 'ended')),
        FOREIGN KEY(order_id) REFERENCES orders.orders (order_id)
    )
    """,
    """
    CREATE INDEX sagas_deadline ON orders.sagas (deadline) WHERE deadline IS NOT NULL
    """,
]


def upgrade() -> None:
    execute_all(STATEMENTS)
