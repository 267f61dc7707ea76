"""What was done about each order: one row for each record that was handled."""

from common.migrations import execute_all

revision = "0003"
down_revision = "0002"

STATEMENTS = [
    """
    CREATE TABLE orders.timeline (
        order_id UUID NOT NULL,
        handled_at TIMESTAMP WITH TIME ZONE NOT NULL,
        logged_at TIMESTAMP WITH TIME ZONE,
        "offset" BIGINT,
        version INTEGER,
        attempt INTEGER NOT NULL,
        partition SMALLINT,
        what VARCHAR(40) NOT NULL,
        status VARCHAR(20),
        topic VARCHAR(64),
        trace_id VARCHAR(32),
        note VARCHAR(200)
    )
    """,
    """
    CREATE INDEX timeline_of_order ON orders.timeline (order_id)
    """,
]


def upgrade() -> None:
    execute_all(STATEMENTS)
