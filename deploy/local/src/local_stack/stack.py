"""The stack: which processes, in which order, with which environment. `services` is the one table of them.

A server whose address is in the environment (KAFKA_BOOTSTRAP_SERVERS, DATABASE_URL, REDIS_URL) is used, not started.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

from local_stack import keys, record, servers
from local_stack.network import HOST, free_ports, listen
from local_stack.process import Process, Spec
from local_stack.readiness import http_ready
from local_stack.supervisor import Supervisor, supervised

WORKERS = ("order_writer", "saga_runner", "inventory", "payments", "outbox_relay")
_ADDRESSES = "ipv4:"  # gRPC's name for a list of addresses, over which its clients balance

Stages = list[list[Spec]]
Env = dict[str, str]


@dataclass(frozen=True, slots=True)
class Stack:
    """A running stack. `env`: what `stack.env` holds, the addresses for clients."""

    env: Env
    _supervisor: Supervisor

    @property
    def processes(self) -> Mapping[str, Process]:
        return self._supervisor.processes

    def pid(self, name: str) -> int | None:
        """The pid of this moment; None between its death and its next start."""
        return self.processes[name].pid


@asynccontextmanager
async def running_stack(
    run_dir: Path,
    *,
    catalog: Path | None = None,
    gateways: int = 1,
    orders: int = 1,
    extra_env: Mapping[str, str] | None = None,
) -> AsyncGenerator[Stack]:
    """Start everything, empty, in this process; inside the block all of it is ready. `gateways`, `orders`: how many of
    them. `extra_env` goes to every service.

    Raises `AlreadyRunningError`, `NoWheelError`, and `StackFailedError` also in the middle of the block.
    """
    with record.claimed(run_dir) as run_dir:
        stack_file = run_dir / "stack.env"
        wipe(run_dir)
        keys.ensure_keys(run_dir)
        ports = free_ports()
        outside = {**os.environ, **(extra_env or {})}
        stages, server_env = _servers(run_dir, ports, outside)
        env = server_env | client_env(run_dir, ports, orders)
        with closing(listen(int(env["GATEWAY_URL"].rpartition(":")[2]))) as door:
            stages += services(run_dir, ports, {**outside, **env}, catalog, [door.fileno()] * gateways)
            async with supervised(run_dir, stages) as supervisor:
                record.write_atomically(stack_file, "".join(f"{key}={value}\n" for key, value in env.items()))
                try:
                    yield Stack(env, supervisor)
                finally:
                    stack_file.unlink(missing_ok=True)


def services(run_dir: Path, ports: Iterator[int], env: Env, catalog: Path | None, doors: list[int]) -> Stages:
    """The table. One `door` (an inherited listening socket) for each gateway; all are the same socket."""
    orders_target, provider_url = env["ORDERS_GRPC_TARGET"], env["PAYMENT_PROVIDER_URL"]
    orders = orders_target.removeprefix(_ADDRESSES).split(",")
    provider_port = int(provider_url.rpartition(":")[2])
    provider_env = {
        "PROVIDER_HOST": HOST,
        "PROVIDER_PORT": str(provider_port),
        "PROVIDER_LEDGER_FILE": str(run_dir / "provider" / "ledger.jsonl"),
    }
    worker_env = {"WORKERS_PAYMENT_PROVIDER_URL": provider_url}
    gateway_env = {
        "GATEWAY_ORDERS_GRPC_TARGET": orders_target,
        "GATEWAY_JWT_PUBLIC_KEY_FILE": str(keys.public_key_file(run_dir)),
        "GATEWAY_JWT_ISSUER": keys.ISSUER,
        "GATEWAY_JWT_AUDIENCE": keys.AUDIENCE,
        "GATEWAY_DRAIN_S": "0",  # nobody balances: the gateways share the listening socket
    }
    return [
        [_once("migrate", ["workers.migrate"], env)],
        [_once("catalog", ["workers.catalog", str(catalog.resolve())], env)] if catalog else [],
        [
            _service("payment_provider", ["payment_provider"], env | provider_env, provider_port),
            *(
                _service(name, ["orders.main"], env | {"ORDERS_GRPC_LISTEN": grpc}, next(ports), address=grpc)
                for name, grpc in _numbered("orders", orders)
            ),
            *(_service(name, ["workers.main", name], env | worker_env, next(ports)) for name in WORKERS),
        ],
        [
            _service(f"gateway-{n}", ["gateway.main"], env | gateway_env, next(ports), env["GATEWAY_URL"], door)
            for n, door in enumerate(doors, 1)
        ],
    ]


def _numbered(name: str, each: list[str]) -> Iterator[tuple[str, str]]:
    """The first one has the plain name: there is rarely a second."""
    for number, address in enumerate(each, 1):
        yield name if number == 1 else f"{name}-{number}", address


def _once(name: str, command: list[str], env: Env) -> Spec:
    return Spec(name=name, argv=[sys.executable, "-m", *command], env=env)


def _service(
    name: str, command: list[str], env: Env, admin_port: int, address: str = "", door: int | None = None
) -> Spec:
    """`address`: where its clients find it, if that is not where it says how it is."""
    admin = f"http://{HOST}:{admin_port}"
    own = {"ADMIN_PORT": str(admin_port), "PYTHONUNBUFFERED": "1"}
    return Spec(
        name=name,
        argv=[sys.executable, "-m", *command],
        env=env | own | ({} if door is None else {"GATEWAY_LISTEN_FD": str(door)}),
        check=http_ready(f"{admin}/readyz"),
        address=address or admin,
        inherits=() if door is None else (door,),
    )


def _servers(run_dir: Path, ports: Iterator[int], outside: Mapping[str, str]) -> tuple[Stages, Env]:
    """The servers to start, and how to reach these and the given ones."""
    before: list[Spec] = []
    specs: list[Spec] = []
    if kafka := outside.get("KAFKA_BOOTSTRAP_SERVERS"):
        idempotence = outside.get("KAFKA_ENABLE_IDEMPOTENCE", "true")
        fetch_max_wait_ms = outside.get("KAFKA_FETCH_MAX_WAIT_MS", "500")
    else:
        # The embedded broker knows no idempotent producer, and its fetch does not wake up when a record arrives: a hop
        # takes 8 ms in the median. With 10 it would be 2 ms, and the idle stack would use 40 % of a core, not 12.
        specs.append(servers.broker(port := next(ports)))
        kafka, idempotence, fetch_max_wait_ms = f"{HOST}:{port}", "false", "50"
    if not (database := outside.get("DATABASE_URL")):
        before += servers.initdb(run_dir)
        specs.append(servers.postgres(run_dir, port := next(ports)))
        database = servers.database_url(port)
    if not (redis := outside.get("REDIS_URL")):
        specs.append(servers.valkey(port := next(ports)))
        redis = servers.redis_url(port)
    return [before, specs], {
        "KAFKA_BOOTSTRAP_SERVERS": kafka,
        "KAFKA_ENABLE_IDEMPOTENCE": idempotence,
        "KAFKA_FETCH_MAX_WAIT_MS": fetch_max_wait_ms,
        "DATABASE_URL": database,
        "REDIS_URL": redis,
    }


def client_env(run_dir: Path, ports: Iterator[int], orders: int) -> Env:
    """Where clients find our services, on ports of their own, and the key that signs their tokens."""
    return {
        "GATEWAY_URL": f"http://{HOST}:{next(ports)}",
        "PAYMENT_PROVIDER_URL": f"http://{HOST}:{next(ports)}",
        "ORDERS_GRPC_TARGET": (_ADDRESSES if orders > 1 else "")
        + ",".join(f"{HOST}:{next(ports)}" for _ in range(orders)),
        "JWT_PRIVATE_KEY_FILE": str(keys.private_key_file(run_dir)),
        "JWT_ISSUER": keys.ISSUER,
        "JWT_AUDIENCE": keys.AUDIENCE,
    }


def wipe(run_dir: Path) -> None:
    """Forget the run before: the broker has, so nobody else may remember."""
    shutil.rmtree(run_dir / "provider", ignore_errors=True)
    (run_dir / "provider").mkdir()
    (run_dir / "logs").mkdir(exist_ok=True)
    for log in (run_dir / "logs").glob("*.log"):
        if log.name != "supervisor.log":  # we may be writing it
            log.unlink()
