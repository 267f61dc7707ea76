"""The first tables: payments, inbox and outbox."""

from common.migrations import execute_all

revision = "0001"
down_revision = None

STATEMENTS = [
    """
    CREATE TABLE payments.inbox (
        consumer VARCHAR(64) NOT NULL,
        message_id UUID NOT NULL,
        received_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        PRIMARY KEY (consumer, message_id)
    )
    """,
    """
    CREATE TABLE payments.outbox (
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
    CREATE TABLE payments.payments (
        order_id UUID NOT NULL,
        customer_id VARCHAR(200) NOT NULL,
        currency VARCHAR(3) NOT NULL,
        amount_minor BIGINT NOT NULL,
        state VARCHAR(20) NOT NULL,
        version INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        next_attempt_at TIMESTAMP WITH TIME ZONE,
        traceparent VARCHAR(64),
        PRIMARY KEY (order_id),
        CONSTRAINT amount_not_negative CHECK (amount_minor >= 0),
        CONSTRAINT state_known CHECK (state IN (
            'authorizing', 'authorized', 'declined', 'capturing', 'captured', 'voiding', 'voided'))
    )
    """,
    """
    CREATE INDEX payments_due ON payments.payments (next_attempt_at) WHERE next_attempt_at IS NOT NULL
    """,
]


def upgrade() -> None:
    execute_all(STATEMENTS)
