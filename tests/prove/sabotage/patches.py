"""The patches of this folder: each puts one known bug into the code, and says in its first lines which.

Bug: what it does. Known: where others met it. Breaks: the guarantee that is then broken, by its id in guarantees.py.
Prove: the arguments of `python -m tests.prove` with which that shows each time, and which are green without the patch.
"""

import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
PATCHES = {file.stem: file for file in sorted(Path(__file__).parent.glob("*.patch"))}


class GitError(Exception):
    """git refused; says what it said."""


@dataclass(frozen=True, slots=True)
class Sabotage:
    name: str
    bug: str
    known: str
    breaks: str
    proof: list[str]
    changes: list[Path]  # the files, seen from the root


def read_sabotage(name: str) -> Sabotage:
    """Raises KeyError when one of the first lines is missing."""
    head, *files = PATCHES[name].read_text(encoding="utf-8").split("\ndiff --git a/")
    said = dict(line.split(": ", 1) for line in head.splitlines() if ": " in line)
    changes = [Path(file.split(" ", 1)[0]) for file in files]
    return Sabotage(name, said["Bug"], said["Known"], said["Breaks"], shlex.split(said["Prove"]), changes)


def copy_checkout(folder: Path) -> None:
    """What git knows, and what it would know if it were added: the working tree as it is."""
    for name in _git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0"):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)


def apply(name: str, folder: Path) -> None:
    """Raises GitError when the code has moved away under the patch."""
    _git(folder, "apply", "-C1", str(PATCHES[name]))  # one line of context must still be there


def source_path(folder: Path) -> str:
    """A PYTHONPATH that puts the packages of the copy before those of this checkout, in the same environment."""
    return os.pathsep.join(str(src) for area in ("libs", "services", "deploy") for src in folder.glob(f"{area}/*/src"))


def _git(folder: Path, *arguments: str) -> str:
    outside = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}  # set in its hooks
    environment = outside | {"GIT_CEILING_DIRECTORIES": str(folder.resolve().parent)}  # in no checkout around it
    ended = subprocess.run(
        ["git", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if ended.returncode:
        raise GitError(f"git {' '.join(arguments)}: {ended.stderr}")
    return ended.stdout
