"""`python -m local_stack`: start, watch and stop the stack on this machine."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Column, Table

from local_stack import record
from local_stack.process import State
from local_stack.signals import cancel_on_signal
from local_stack.supervisor import StackFailedError
from local_stack.wheels import NoWheelError

STOPS_WITHIN_S = 120  # the supervisor's own deadlines, stage by stage, add up to less


def main(arguments: Sequence[str]) -> int:
    """Exit code: 0 done, 1 failed, 2 cannot work on this platform."""
    options = _parser().parse_args(arguments)
    run_dir = Path(os.environ.get("HEADRACE_RUN_DIR", ".run")).resolve()
    try:
        match options.command:
            case "run":
                return asyncio.run(run(run_dir, options.catalog, options.gateways))
            case "up":
                return up(run_dir, list(arguments))
            case "down":
                return down(run_dir)
            case "status":
                return status(run_dir, as_json=options.json)
            case "token":
                return token(run_dir, options.customer)
            case _:
                return follow_logs(run_dir, options.names)
    except (StackFailedError, record.AlreadyRunningError) as error:
        print(f"headrace: {error}", file=sys.stderr)
        return 1
    except NoWheelError as error:
        print(f"headrace: {error}", file=sys.stderr)
        return 2


async def run(run_dir: Path, catalog: Path | None, gateways: int) -> int:
    """In the foreground, until Ctrl-C, SIGTERM or the end of the terminal."""
    from local_stack.stack import running_stack  # here, so that `status` and `down` load no Kafka client

    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("local_stack").setLevel(logging.INFO)
    cancel_on_signal()
    with suppress(asyncio.CancelledError):
        async with running_stack(run_dir, catalog=catalog, gateways=gateways):
            with suppress(OSError):  # nobody may be reading
                _print_addresses(run_dir)
            await asyncio.Event().wait()
    return 0


def up(run_dir: Path, arguments: list[str]) -> int:
    """The same in the background; returns when all is ready, or with the exit code of what failed."""
    if (found := record.read(run_dir)) and found.alive() and found.phase == "running":
        print("The stack is already up.")
        _print_addresses(run_dir)
        return 0
    log = run_dir / "logs" / "supervisor.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as output:
        supervisor = subprocess.Popen(
            [sys.executable, "-m", "local_stack", "run", *arguments[1:]],
            env={**os.environ, "HEADRACE_RUN_DIR": str(run_dir)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        with log.open() as progress:
            while supervisor.poll() is None and not _runs(run_dir, supervisor.pid):
                sys.stderr.write(progress.read())
                time.sleep(0.05)
            sys.stderr.write(progress.read() if supervisor.poll() is not None else "")
    except KeyboardInterrupt:
        return down(run_dir) or 130
    if supervisor.poll() is None:
        _print_addresses(run_dir)
    return supervisor.returncode or 0


def down(run_dir: Path) -> int:
    """Stop the stack, or what is left of one whose supervisor was killed."""
    found = record.read(run_dir)
    if found is None:
        print("Nothing runs.")
        return 0
    if found.alive():
        os.kill(found.supervisor.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOPS_WITHIN_S
        while found.supervisor.alive() and time.monotonic() < deadline:
            time.sleep(0.05)
        if found.supervisor.alive():
            os.kill(found.supervisor.pid, signal.SIGKILL)
    if leftovers := record.stop_leftovers(run_dir):
        print(f"Stopped what a killed supervisor had left: {', '.join(leftovers)}.")
    print("The stack is down.")
    return 0


def status(run_dir: Path, *, as_json: bool) -> int:
    """Exit code 0 only if every process runs."""
    found = record.read(run_dir)
    if found is None:
        print("[]" if as_json else "Nothing runs.")
        return 1
    rows = [_true_state(row) for row in found.rows]
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
    else:
        _print_table(rows, run_dir / "logs")
        if not found.alive():
            print(found.message or "Its supervisor does not run.")
    return 0 if found.alive() and all(row.state in (State.RUNNING, State.DONE) for row in rows) else 1


def token(run_dir: Path, customer: str) -> int:
    from local_stack import keys

    if not keys.private_key_file(run_dir).exists():
        print("There is no key to sign with yet: `up` makes it.", file=sys.stderr)
        return 1
    print(keys.token(run_dir, customer))
    return 0


def follow_logs(run_dir: Path, names: Sequence[str]) -> int:
    logs = [run_dir / "logs" / f"{name}.log" for name in names] or sorted((run_dir / "logs").glob("*.log"))
    if not logs:
        print("There are no logs: nothing has run here yet.")
        return 1
    with suppress(KeyboardInterrupt):
        return subprocess.run(["tail", "-n", "20", "-F", *map(str, logs)], check=False).returncode
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m local_stack", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (("up", "start in the background"), ("run", "start in the foreground")):
        command = commands.add_parser(name, help=text)
        command.add_argument("--catalog", type=Path, help="CSV of sku,name,price_minor,currency,stock to import first")
        command.add_argument("--gateways", type=int, default=1, help="how many share the public port")
    commands.add_parser("down", help="stop")
    commands.add_parser("status", help="what runs").add_argument("--json", action="store_true")
    commands.add_parser("token", help="a token for a customer").add_argument("customer")
    commands.add_parser("logs", help="follow the logs").add_argument("names", nargs="*", metavar="process")
    return parser


def _runs(run_dir: Path, supervisor: int) -> bool:
    found = record.read(run_dir)
    return bool(found and found.supervisor.pid == supervisor and (run_dir / "stack.env").exists())


def _true_state(row: record.Row) -> record.Row:
    """The record of a supervisor that was killed says what ran then."""
    if row.state in (State.STARTING, State.RUNNING) and not (row.identity and row.identity.alive()):
        return record.Row(row.name, row.identity, "dead", row.restarts, row.since, row.address, row.log)
    return row


def _print_table(rows: Sequence[record.Row], logs: Path) -> None:
    table = Table("process", "pid", "state", "restarts", "for", Column("address", overflow="fold"), box=SIMPLE)
    for row in rows:
        pid = str(row.identity.pid) if row.identity and row.state in (State.STARTING, State.RUNNING) else ""
        age = f"{time.time() - row.since:.0f} s"
        table.add_row(row.name, pid, row.state, str(row.restarts), age, row.address)
    Console().print(table)
    print(f"Logs: {logs}/PROCESS.log")


def _print_addresses(run_dir: Path) -> None:
    for line in (run_dir / "stack.env").read_text().splitlines():
        key, _, value = line.partition("=")
        print(f"  {key:<26} {value}")
    sys.stdout.flush()
