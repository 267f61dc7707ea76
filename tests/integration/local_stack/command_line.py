"""The command line as a user calls it, with fake services in the place of ours: the real table, the real servers."""

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from local_stack import record

BY_ADDRESS = {
    "KAFKA_BOOTSTRAP_SERVERS": "kafka.example:9092",
    "DATABASE_URL": "postgresql://u:p@postgres.example:5432/orders",
    "REDIS_URL": "redis://redis.example:6379/0",
}


@dataclass
class CommandLine:
    """`python -m local_stack …` in a run directory of its own."""

    run_dir: Path
    env: dict[str, str]
    started: list[psutil.Popen] = field(default_factory=list[psutil.Popen])

    def __call__(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._argv(arguments), env=self.env | env, capture_output=True, text=True, timeout=50, check=False
        )

    def in_background(self, *arguments: str, **env: str) -> psutil.Popen:
        with (self.run_dir.parent / "output").open("w") as output:
            self.started.append(psutil.Popen(self._argv(arguments), env=self.env | env, stdout=output, stderr=output))
        return self.started[-1]

    def stop(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.terminate()
                process.wait(timeout=30)
        if (found := record.read(self.run_dir)) and found.alive():
            self("down")
        record.stop_leftovers(self.run_dir)

    def output(self) -> str:
        return (self.run_dir.parent / "output").read_text()

    def is_up(self) -> bool:
        return (self.run_dir / "stack.env").exists()

    def stack_env(self) -> dict[str, str]:
        return dict(line.split("=", 1) for line in (self.run_dir / "stack.env").read_text().splitlines())

    def on_record(self) -> record.Record:
        found = record.read(self.run_dir)
        assert found
        return found

    def rows(self) -> dict[str, record.Row]:
        return {row.name: row for row in self.on_record().rows}

    def family(self) -> list[psutil.Process]:
        """The supervisor and everything below it."""
        supervisor = psutil.Process(self.on_record().supervisor.pid)
        return [supervisor, *supervisor.children(recursive=True)]

    def _argv(self, arguments: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-m", "local_stack", *arguments]


def still_running(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
