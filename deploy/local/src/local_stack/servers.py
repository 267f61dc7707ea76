"""The three real servers of the embedded stack: Postgres, Valkey and Tansu (a broker that speaks Kafka's protocol).

Guarantee: ready means that the server did its real work once: an SQL query, a PING, a Kafka metadata request.
Limits: every start is empty. Valkey keeps nothing on disk (trap 15), Tansu has no disk at all, and the folder of
Postgres is made anew: a database that remembers more than the log would be wrong, not convenient.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import SIGINT

from local_stack.network import HOST, free_ports
from local_stack.process import Spec
from local_stack.readiness import broker_ready, postgres_ready, valkey_ready
from local_stack.root import unprivileged_user
from local_stack.supervisor import supervised
from local_stack.wheels import broker_program, postgres_program, valkey_program

DATABASE = USER = "headrace"
MINIMAL_ENV = {"PATH": os.defpath, "LC_ALL": "C"}  # nothing from the outside changes how a server behaves
SERVER_STOPS_WITHIN_S = 10


@dataclass(frozen=True, slots=True)
class Addresses:
    kafka_bootstrap_servers: str
    kafka_enable_idempotence: bool
    database_url: str
    redis_url: str


@asynccontextmanager
async def embedded_servers(run_dir: Path, kafka: str | None = None) -> AsyncGenerator[Addresses]:
    """All three, empty, on free ports; for tests that need servers and no services. `kafka`: a real one to use instead
    of our broker."""
    ports = free_ports()
    port, database, redis = next(ports), next(ports), next(ports)
    ours = [] if kafka else [broker(port)]
    async with supervised(run_dir, [initdb(run_dir), [postgres(run_dir, database), valkey(redis), *ours]]):
        yield Addresses(kafka or f"{HOST}:{port}", kafka is not None, database_url(database), redis_url(redis))


def database_url(port: int) -> str:
    return f"postgresql://{USER}:{USER}@{HOST}:{port}/{DATABASE}"


def redis_url(port: int) -> str:
    return f"redis://{HOST}:{port}/0"


def initdb(run_dir: Path) -> list[Spec]:
    """A one-shot that makes the empty folder. Nothing in it is worth an fsync: it is thrown away at the next start."""
    program, folder = postgres_program("initdb"), run_dir / "postgres"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    options = ["-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"]
    argv = [str(program), "-D", str(folder), "-U", USER, *options]
    return [Spec(name="initdb", argv=argv, env=MINIMAL_ENV, user=unprivileged_user(folder, program))]


def postgres(run_dir: Path, port: int) -> Spec:
    program, folder = postgres_program("postgres"), run_dir / "postgres"
    settings = {
        "max_connections": "200",
        "shared_buffers": "128MB",
        "max_wal_size": "2GB",  # fewer checkpoints in the middle of a replay
        "wal_level": "minimal",
        "max_wal_senders": "0",
    }
    # -k '': no Unix socket; its path may be too long below a deep folder.
    argv = [str(program), "-D", str(folder), "-h", HOST, "-p", str(port), "-k", ""]
    argv += [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    return Spec(
        name="postgres",
        argv=argv,
        env=MINIMAL_ENV,
        check=postgres_ready(port, USER, DATABASE),
        address=f"{HOST}:{port}",
        user=unprivileged_user(folder, program),
        stop_signal=SIGINT,  # "fast": SIGTERM would wait for every client to leave
        stop_within_s=SERVER_STOPS_WITHIN_S,
    )


def valkey(port: int) -> Spec:
    options = {"bind": HOST, "port": str(port), "save": "", "appendonly": "no", "maxmemory-policy": "noeviction"}
    return Spec(
        name="valkey",
        argv=[str(valkey_program()), *(word for name, value in options.items() for word in (f"--{name}", value))],
        env=MINIMAL_ENV,
        check=valkey_ready(port),
        address=f"{HOST}:{port}",
        stop_within_s=SERVER_STOPS_WITHIN_S,
    )


def broker(port: int) -> Spec:
    url = f"tcp://{HOST}:{port}"
    addresses = ["--listener-url", url, "--advertised-listener-url", url]
    return Spec(
        name="broker",
        argv=[str(broker_program()), "broker", *addresses, "--storage-engine", "memory://tansu/"],
        env=MINIMAL_ENV,
        check=broker_ready(port),
        address=f"{HOST}:{port}",
        stop_within_s=SERVER_STOPS_WITHIN_S,
        restarts=False,
        why_fatal="The embedded broker keeps its records in memory only, so they are gone: start the stack anew.",
    )
