"""A whole stack for the tests of a module, started as a user would, with too little stock of some skus."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import pytest

from demo.catalog import write_catalog

ORDERS_FILE = Path(__file__).parents[2] / "deploy/demo/data/cdnow.csv"
ORDERS = 5_000
LIVING = ("starting", "running")


@dataclass(frozen=True, slots=True)
class RunningStack:
    run_dir: Path
    env: dict[str, str]

    def pids(self) -> dict[str, int]:
        """The process id of each process that runs, ready or not yet."""
        rows = json.loads(self._run("status", "--json").stdout)
        return {row["name"]: row["identity"]["pid"] for row in rows if row["state"] in LIVING}

    def _run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return local_stack(self.run_dir, *arguments)


def local_stack(run_dir: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "local_stack", *arguments]
    environment = os.environ | {"HEADRACE_RUN_DIR": str(run_dir)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def stack() -> Iterator[RunningStack]:
    with TemporaryDirectory() as folder:
        run_dir = Path(folder)
        write_catalog(ORDERS_FILE, run_dir / "catalog.csv", limit=ORDERS, shortage=True)
        up = local_stack(run_dir, "up", "--catalog", str(run_dir / "catalog.csv"), "--gateways", "2")
        assert up.returncode == 0, up.stdout + up.stderr
        lines = (run_dir / "stack.env").read_text().splitlines()
        yield RunningStack(run_dir, dict(line.split("=", 1) for line in lines))
        down = local_stack(run_dir, "down")
        assert down.returncode == 0, down.stdout + down.stderr


@asynccontextmanager
async def provider(stack: RunningStack, **faults: float) -> AsyncGenerator[None]:
    """The payment provider with these faults switched on."""
    async with aiohttp.ClientSession(stack.env["PAYMENT_PROVIDER_URL"], raise_for_status=True) as session:
        await session.patch("/switches", json=faults)
        yield
        await session.patch("/switches", json=dict.fromkeys(faults, 0))
