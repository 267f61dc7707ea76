"""`docker` and `docker compose` for the tests, under a project name of their own."""

import gzip
import os
import subprocess
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = "headrace-test"
SECRETS = ROOT / "tests/compose/canary"
GZIP = b"\x1f\x8b"
CANARY = (SECRETS / "postgres_password").read_text(encoding="utf-8")  # must not show up anywhere


@dataclass(frozen=True, slots=True)
class Compose:
    """`docker compose` on the project of the tests, with `environment` added to ours."""

    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    seconds_to_healthy: float = 0.0

    def run(self, *arguments: str) -> str:
        command = ["docker", "compose", "--project-name", PROJECT, *arguments]
        done = self._run(command)
        if done.returncode != 0:
            logs = self._run([*command[:4], "logs", "--tail", "5"])
            raise AssertionError(f"{' '.join(command)}: {done.stderr}{logs.stdout}")
        return done.stdout

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=ROOT, env=os.environ | self.environment, capture_output=True, text=True, timeout=300
        )

    def containers(self, *arguments: str) -> list[str]:
        """Their ids; of one service, if it is named."""
        return self.run("ps", "--quiet", *arguments).split()

    def count_confirmed(self) -> int:
        query = "SELECT count(*) FROM orders.orders WHERE status = 'confirmed'"
        return int(self.run("exec", "-T", "postgres", "psql", "-U", "headrace", "-tAc", query))

    def exit_code(self, container: str) -> int:
        return int(docker("inspect", "--format", "{{.State.ExitCode}}", container))

    def kill(self, container: str) -> None:
        docker("kill", container)

    def start(self, container: str) -> None:
        docker("start", container)


def holds(image: str, *needles: str) -> bool:
    """One of them is somewhere in the image: in its history, or in a file of a layer, be it hidden by a later one."""
    found = False
    with (
        subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as saving,
        tarfile.open(fileobj=saving.stdout, mode="r|") as saved,
    ):
        for part in saved:
            content = b"" if (file := saved.extractfile(part)) is None else file.read()
            if content.startswith(GZIP):
                content = gzip.decompress(content)
            found = found or any(needle.encode() in content for needle in needles)
    return found


def docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr}"
    return done.stdout
