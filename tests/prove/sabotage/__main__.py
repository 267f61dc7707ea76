"""`python -m tests.prove.sabotage NAME|all`: put a known bug into a copy of this checkout, and see the proof fail.

Exit code 0: for every patch that was asked for, the proof failed and named the guarantee that the patch breaks. 1: a
bug got through. With `--without` the bugs are left out; then 0 means that every proof held.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.prove.sabotage.patches import PATCHES, apply, copy_checkout, read_sabotage, source_path

PROOF_S = 240


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.prove.sabotage", description=__doc__)
    parser.add_argument(
        "names", nargs="+", choices=[*PATCHES, "all"], metavar="NAME", help=f"all, {', '.join(PATCHES)}"
    )
    parser.add_argument("--without", action="store_true", help="the same proofs, without the bugs")
    options = parser.parse_args(arguments)
    names = list(PATCHES) if "all" in options.names else options.names
    good = [_held(name) if options.without else _caught(name) for name in names]
    print(f"{sum(good)} of {len(good)} {'held' if options.without else 'caught'}")
    return 0 if all(good) else 1


def _caught(name: str) -> bool:
    code, output = _prove(name, patched=True)
    return _told(name, output, code == 1 and f"\nBROKEN {read_sabotage(name).breaks}:" in output, "caught")


def _held(name: str) -> bool:
    code, output = _prove(name, patched=False)
    return _told(name, output, code == 0, "held")


def _prove(name: str, *, patched: bool) -> tuple[int, str]:
    """The exit code and all that was said."""
    with TemporaryDirectory() as folder:
        copy = Path(folder)
        copy_checkout(copy)
        if patched:
            apply(name, copy)
        ended = subprocess.run(
            [sys.executable, "-m", "tests.prove", *read_sabotage(name).proof],
            cwd=copy,
            env=os.environ | {"PYTHONPATH": source_path(copy), "HEADRACE_RUN_DIR": str(copy / ".run")},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PROOF_S,
            check=False,
        )
    return ended.returncode, ended.stdout


def _told(name: str, output: str, good: bool, word: str) -> bool:
    if not good:
        print(output)
    broken = [line[:200] for line in output.splitlines() if line.startswith("BROKEN ")]
    print(f"{name}: {word if good else f'NOT {word.upper()}'}", *broken, sep="\n  ", flush=True)
    return good


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
