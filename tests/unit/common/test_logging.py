"""A log line of a process, as it leaves it."""

import json
import subprocess
import sys

SCRIPT = """
import structlog
from common.telemetry.logging import configure_logging
configure_logging("order_writer", "{log_format}")
with structlog.contextvars.bound_contextvars(trace_id="abc", order_id="o-1"):
    structlog.get_logger().info("order_confirmed", amount_minor=5)
structlog.get_logger().debug("not_shown")
"""


def lines_of(log_format: str) -> list[str]:
    script = SCRIPT.replace("{log_format}", log_format)
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30
    ).stdout.splitlines()


def test_a_json_line_carries_event_time_level_service_and_what_was_bound() -> None:
    (line,) = lines_of("json")

    entry = json.loads(line)
    assert entry.pop("timestamp").endswith("Z")
    assert entry == {
        "event": "order_confirmed",
        "amount_minor": 5,
        "level": "info",
        "service": "order_writer",
        "trace_id": "abc",
        "order_id": "o-1",
    }


def test_the_console_form_is_for_people() -> None:
    (line,) = lines_of("console")

    assert "order_confirmed" in line
    assert not line.startswith("{")
