"""The real table of the stack and the real servers, with fake services in the place of ours."""

import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from integration.local_stack.command_line import BY_ADDRESS, CommandLine

HERE = Path(__file__).parent
MODULES = {
    "workers/migrate": "once()",
    "workers/catalog": "once()",
    "workers/main": "serve('workers')",
    "orders/main": "serve('orders')",
    "gateway/main": "serve('gateway')",
    "payment_provider/__main__": "serve('payment_provider')",
}


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with public_folder() as folder:
        yield folder


@pytest.fixture
def local_stack(tmp_path: Path) -> Iterator[CommandLine]:
    with command_line(tmp_path) as command:
        yield command


@pytest.fixture
def without_servers(local_stack: CommandLine) -> CommandLine:
    """Quicker: the servers are somebody else's."""
    local_stack.env |= BY_ADDRESS
    return local_stack


@pytest.fixture(scope="module")
def shared_stack() -> Iterator[CommandLine]:
    """One that is up, without servers, for tests that leave it so."""
    with public_folder() as folder, command_line(folder) as command:
        command.env |= BY_ADDRESS
        up = command("up")
        assert up.returncode == 0, up.stderr
        yield command


@contextmanager
def command_line(folder: Path) -> Generator[CommandLine]:
    for module, call in MODULES.items():
        file = folder / "fakes" / f"{module}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        (file.parent / "__init__.py").touch()  # a package without it would lose against the installed one
        file.write_text(f"from fake_service import once, serve\n\n{call}\n")
    python_path = os.pathsep.join([str(folder / "fakes"), str(HERE)])
    command = CommandLine(
        folder / "run", {**os.environ, "PYTHONPATH": python_path, "HEADRACE_RUN_DIR": str(folder / "run")}
    )
    try:
        yield command
    finally:
        command.stop()


@contextmanager
def public_folder() -> Generator[Path]:
    """Not pytest's tmp_path: as root, the next pytest that starts closes the folder above to Postgres (as nobody)."""
    with TemporaryDirectory(prefix="headrace-") as folder:
        yield Path(folder)
