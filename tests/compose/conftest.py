"""The compose stack, up once for all tests, under a project name and with volumes of its own; gone at the end."""

import os
import time
from collections.abc import Iterator

import pytest

from compose.stack import ROOT, Compose
from demo.settings import add_stack_file


@pytest.fixture(scope="session")
def compose() -> Iterator[Compose]:
    compose = Compose()
    compose.run("build")
    started = time.monotonic()
    try:
        compose.run("up", "--detach", "--wait", "--wait-timeout", "180")
        add_stack_file(os.environ, ROOT / "deploy/compose/stack.env")
        yield Compose(time.monotonic() - started)
    finally:
        compose.run("down", "--volumes", "--timeout", "30")
