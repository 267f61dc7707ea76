"""All workers as a real process, beside a payment provider. Joining the groups takes seconds: start them once."""

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from builders import broker_settings
from local_stack.network import free_ports
from local_stack.servers import Addresses
from workers.main import WORKERS


@contextmanager
def all_workers(servers: Addresses, folder: Path) -> Generator[None]:
    """Ready inside the block; at its end they must leave with 0."""
    port = next(free_ports())
    with _provider(folder) as provider_url, (folder / "log").open("w") as log:
        environment = broker_settings(servers) | {
            "DATABASE_URL": servers.database_url,
            "ADMIN_PORT": str(port),
            "REDIS_URL": servers.redis_url,
            "WORKERS_PAYMENT_PROVIDER_URL": provider_url,
        }
        command = [sys.executable, "-m", "workers.main", *WORKERS]
        with subprocess.Popen(command, env=os.environ | environment, stdout=log) as process:
            try:
                _wait_until_ready(f"http://127.0.0.1:{port}/readyz")
                yield
            finally:
                process.terminate()
    assert process.returncode == 0, (folder / "log").read_text()[-2_000:]


@contextmanager
def _provider(folder: Path) -> Generator[str]:
    own = {"PROVIDER_LEDGER_FILE": str(folder / "ledger.jsonl"), "PROVIDER_PORT": "0"}
    command = [sys.executable, "-m", "payment_provider"]
    with subprocess.Popen(command, env=os.environ | own, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()[-1]
        finally:
            process.terminate()


def _wait_until_ready(url: str) -> None:
    until = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            assert time.monotonic() < until, "the workers are not ready"
            time.sleep(0.1)
