"""The compose stack, up once per module, under a project name and with volumes of its own; gone at the end.

A module may define ENVIRONMENT: what `docker compose` gets in addition, such as COMPOSE_PROFILES.
"""

import os
import time
from collections.abc import Iterator

import pytest

from compose.stack import ROOT, Compose
from demo.settings import add_stack_file


@pytest.fixture(scope="module")
def compose(request: pytest.FixtureRequest) -> Iterator[Compose]:
    environment: dict[str, str] = getattr(request.module, "ENVIRONMENT", {})  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
    compose = Compose(environment)
    compose.run("build")
    started = time.monotonic()
    try:
        compose.run("up", "--detach", "--wait", "--wait-timeout", "180")
        add_stack_file(os.environ, ROOT / "deploy/compose/stack.env")
        yield Compose(environment, time.monotonic() - started)
    finally:
        compose.run("down", "--volumes", "--timeout", "30")
