"""Which orders ended in the dead letter topic, so that they show as `needs_attention`."""

from common.migrations import execute_all

revision = "0002"
down_revision = "0001"

STATEMENTS = [
    """
    CREATE TABLE orders.dead_orders (
        order_id UUID NOT NULL,
        died_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        PRIMARY KEY (order_id)
    )
    """,
]


def upgrade() -> None:
    execute_all(STATEMENTS)
