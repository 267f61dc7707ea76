"""`docker` and `docker compose` for the tests, under a project name of their own."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = "headrace-test"


@dataclass(frozen=True, slots=True)
class Compose:
    """`docker compose` on the project of the tests."""

    seconds_to_healthy: float = 0.0

    def run(self, *arguments: str) -> str:
        command = ["docker", "compose", "--project-name", PROJECT, *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode != 0:
            logs = subprocess.run([*command[:4], "logs", "--tail", "5"], cwd=ROOT, capture_output=True, text=True)
            raise AssertionError(f"{' '.join(command)}: {done.stderr}{logs.stdout}")
        return done.stdout

    def containers(self, *arguments: str) -> list[str]:
        """Their ids; of one service, if it is named."""
        return self.run("ps", "--quiet", *arguments).split()

    def kill(self, container: str) -> None:
        docker("kill", container)

    def start(self, container: str) -> None:
        docker("start", container)


def docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr}"
    return done.stdout
