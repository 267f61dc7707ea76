"""Postgres refuses to run as root, so where we are root (in containers) its programs run as `nobody`."""

from __future__ import annotations

import logging
import os
import shutil
import stat
from pathlib import Path

log = logging.getLogger("local_stack")

UNPRIVILEGED = "nobody"


def unprivileged_user(folder: Path, program: Path) -> str | None:
    """The user to run as; None for "as we are". Gives that user the folder, and a way to it and to the program."""
    if os.geteuid() != 0:
        return None
    shutil.chown(folder, UNPRIVILEGED)
    for path in (folder, program):
        for parent in path.resolve().parents:
            _let_pass(parent)
    return UNPRIVILEGED


def _let_pass(directory: Path) -> None:
    """Others may go through, not look inside: o+x, and only where it is missing (`mktemp -d` makes 0700)."""
    mode = stat.S_IMODE(directory.stat().st_mode)
    if not mode & stat.S_IXOTH:
        directory.chmod(mode | stat.S_IXOTH)
        log.warning(
            "running as root: chmod o+x %s, so that Postgres (as %s) can reach its files", directory, UNPRIVILEGED
        )
