"""Runs every console block of the README, as a reader would, and compares what it shows.

`…` stands for anything within a line; a line with nothing else stands for any number of lines.
"""

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TIMEOUT_S = 600
# not a part of the make that runs this test, and no colours
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")} | {"NO_COLOR": "1"}


@dataclass(frozen=True, slots=True)
class Command:
    text: str
    shown: list[str]


def blocks() -> Iterator[list[Command]]:
    for block in re.findall(r"^```console\n(.*?)^```", README, re.DOTALL | re.MULTILINE):
        commands: list[Command] = []
        for line in block.splitlines():
            if line.startswith("$ "):
                commands.append(Command(line[2:], []))
            else:
                commands[-1].shown.append(line)
        yield commands


@pytest.mark.timeout(4 * TIMEOUT_S)
@pytest.mark.parametrize("commands", list(blocks()), ids=lambda commands: commands[0].text)
def test_a_block_prints_what_the_readme_shows(commands: list[Command], tmp_path: Path) -> None:
    for number, command in enumerate(commands):
        # variables live on from command to command, as in a shell
        before = f"set -a; [ ! -e {tmp_path}/env ] || . {tmp_path}/env"
        after = f"code=$?; declare -p TOKEN GATEWAY_URL > {tmp_path}/env 2>/dev/null; exit $code"
        ran = subprocess.run(
            ["bash", "-c", f"{before}; {command.text}\n{after}"],
            cwd=ROOT,
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert ran.returncode == 0, f"command {number}: {command.text}\n{ran.stdout}"
        assert pattern(command.shown).fullmatch(ran.stdout), f"{command.text} printed:\n{ran.stdout}"


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))

    assert set(re.findall(r"`make ([a-z-]+)", README)) <= targets


def pattern(shown: list[str]) -> re.Pattern[str]:
    lines = ["(?:.*\n)*" if line == "…" else re.escape(line.rstrip()).replace("…", ".*") + "[ ]*\n?" for line in shown]
    return re.compile("".join(lines))
