"""The provider in this process, for its API and faults. test_process.py starts the real one."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer
from aiohttp.web import Application, Request

from payment_provider.app import create_app
from payment_provider.faults import Faults, Switches
from payment_provider.ledger import Ledger

Client = TestClient[Request, Application]


@pytest.fixture
def ledger_file(tmp_path: Path) -> Path:
    return tmp_path / "provider" / "ledger.jsonl"


@pytest.fixture
async def client(ledger_file: Path) -> AsyncIterator[Client]:
    with Ledger(ledger_file) as ledger:
        app = create_app(ledger, Faults(Switches()))
        async with TestClient(TestServer(app)) as client:
            yield client
