"""The embedded stack with a proxy on every link, and with clocks that can be set: nothing in it knows of that.

The processes are those of `make up`, in the same order and with the same settings; only addresses lead through proxies,
and our services start by way of skewed_clock.py. The broker is frozen and cut, never killed: its memory is all it has.
"""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    closing,
    contextmanager,
    nullcontext,
    suppress,
)
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from local_stack import keys, record, servers
from local_stack.network import HOST, free_ports, listen
from local_stack.process import Process, Spec, State
from local_stack.stack import WORKERS, client_env, services, wipe
from local_stack.supervisor import Supervisor, supervised
from tests.eventually import eventually
from tests.failure.failpoints.table import FAILPOINTS, Failpoint, reached_file
from tests.prove.provider import switched
from tests.prove.proxy import Proxy, Trouble
from tests.prove.schedule import Fault, Kind, Menu
from tests.prove.skewed_clock import ON_TIME, set_clock
from tests.prove.stack import DECLINE_PERCENT, Addresses

GATEWAYS = ("gateway-1", "gateway-2")
SERVICES = (*GATEWAYS, "orders", *WORKERS)
SERVERS_OF: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(GATEWAYS, ("kafka", "redis", "orders")),
    "orders": ("postgres", "redis"),
    "order_writer": ("kafka", "postgres", "redis"),
    "saga_runner": ("kafka", "postgres", "redis"),
    "inventory": ("kafka", "postgres"),
    "payments": ("kafka", "postgres", "provider"),
    "outbox_relay": ("kafka", "postgres"),
    "customers": ("gateways",),
}
ADDRESS_OF: Mapping[str, Callable[[int], dict[str, str]]] = {  # the setting of a service, by the port of its proxy
    "kafka": lambda port: {"KAFKA_BOOTSTRAP_SERVERS": f"{HOST}:{port}"},
    "postgres": lambda port: {"DATABASE_URL": servers.database_url(port)},
    "redis": lambda port: {"REDIS_URL": servers.redis_url(port)},
    "provider": lambda port: {"WORKERS_PAYMENT_PROVIDER_URL": f"http://{HOST}:{port}"},
    "orders": lambda port: {"GATEWAY_ORDERS_GRPC_TARGET": f"{HOST}:{port}"},
}
# Not the links of one gateway to Redis: what it could not remember there, the others do not miss (docs/open-points.md).
NO_FAULTS = {f"{gateway}>redis" for gateway in GATEWAYS}
LINKS = (
    *({f"{client}>{server}" for client, its in SERVERS_OF.items() for server in its} - NO_FAULTS),
    *(f"all>{server}" for server in ("kafka", "postgres", "redis")),
)
MENU: Menu = {
    Kind.KILL: (*SERVICES, "postgres", "payment_provider"),
    Kind.FREEZE: (*SERVICES, "broker", "postgres", "valkey", "payment_provider"),
    Kind.CUT: LINKS,
    Kind.SLOW: LINKS,
    Kind.RESET: LINKS,
    Kind.EMPTY: ("valkey",),
    Kind.HANG: ("payment_provider",),
    Kind.FAIL: ("payment_provider",),
    Kind.LOSE_REPLIES: ("payment_provider",),
    Kind.CLOCK: SERVICES,
}
FAILPOINT = {point.name: point for point in FAILPOINTS}
ON_DEMAND: Menu = {Kind.DIE: tuple(FAILPOINT), Kind.STALL: tuple(FAILPOINT)}  # only when they are asked for
COMES_BACK_S = 60


class Embedded:
    menu: Menu = MENU

    def __init__(
        self,
        supervisor: Supervisor,
        proxies: Mapping[str, Proxy],
        where: Addresses,
        clocks: Mapping[str, Path],
        failpoints: Path,
    ) -> None:
        self.where, self._failpoints = where, failpoints
        self._supervisor, self._proxies, self._clocks = supervisor, proxies, clocks

    def turn(self, fault: Fault) -> AbstractAsyncContextManager[Any]:
        return nullcontext()

    async def strike(self, fault: Fault) -> None:
        match fault.kind:
            case Kind.KILL | Kind.EMPTY:
                await self._kill(fault.target)
            case Kind.DIE:
                await self._die(FAILPOINT[fault.target])
            case Kind.STALL:
                await self._stall(FAILPOINT[fault.target], fault.duration)
            case Kind.FREEZE:
                with _frozen(self._family(fault.target)):
                    await asyncio.sleep(fault.duration)
            case Kind.CUT | Kind.SLOW | Kind.RESET:
                await self._trouble(fault)
            case Kind.CLOCK:
                set_clock(self._clocks[fault.target], fault.amount)
                await asyncio.sleep(fault.duration)
                set_clock(self._clocks[fault.target], 0.0)
            case Kind.HANG | Kind.FAIL | Kind.LOSE_REPLIES:
                async with switched(self.where.payment_provider_url, fault):
                    await asyncio.sleep(fault.duration)

    async def not_ready(self) -> list[str]:
        return [p.spec.name for p in self._supervisor.processes.values() if p.state not in (State.RUNNING, State.DONE)]

    async def _kill(self, name: str) -> None:
        process = self._supervisor.processes[name]
        if (pid := process.pid) is not None:
            os.kill(pid, 9)
        await eventually(lambda: process.pid not in (None, pid) and process.state is State.RUNNING, within=COMES_BACK_S)

    async def _die(self, point: Failpoint) -> None:
        """Of several processes of that kind the first to come by."""
        processes = self._passers(point)
        pids = [p.pid for p in processes]

        def one_is_new() -> bool:
            return [p.pid for p in processes] != pids and all(p.state is State.RUNNING for p in processes)

        with self._armed(point):
            await eventually(one_is_new, within=COMES_BACK_S)

    async def _stall(self, point: Failpoint, duration: float) -> None:
        with self._armed(point, "SIGSTOP") as reached:
            await eventually(reached.exists, within=COMES_BACK_S)
            await asyncio.sleep(duration)
            for process in self._passers(point):
                if process.pid is not None:
                    os.kill(process.pid, signal.SIGCONT)

    @contextmanager
    def _armed(self, point: Failpoint, wanted: str = "") -> Generator[Path]:
        """Yields the file that will be there once it is reached."""
        armed = self._failpoints / point.name
        reached_file(armed).unlink(missing_ok=True)
        record.write_atomically(armed, wanted)
        try:
            yield reached_file(armed)
        finally:
            armed.unlink(missing_ok=True)

    def _passers(self, point: Failpoint) -> list[Process]:
        return [p for name, p in self._supervisor.processes.items() if name.partition("-")[0] == point.process]

    async def _trouble(self, fault: Fault) -> None:
        client, _, server = fault.target.partition(">")
        with ExitStack() as links:
            for link, proxy in self._proxies.items():
                if link == fault.target or (client == "all" and link.endswith(f">{server}")):
                    links.enter_context(proxy.trouble(Trouble(fault.kind, fault.amount)))
            await asyncio.sleep(fault.duration)

    def _family(self, name: str) -> list[psutil.Process]:
        """The process and its children: the backends of Postgres."""
        pid = self._supervisor.processes[name].pid
        if pid is None:
            return []
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]


@asynccontextmanager
async def embedded_stack(run_dir: Path, catalog: Path) -> AsyncGenerator[Embedded]:
    """All of it, empty and ready. Raises AlreadyRunningError, NoWheelError, and StackFailedError also in the block."""
    with record.claimed(run_dir) as run_dir:
        wipe(run_dir)
        keys.ensure_keys(run_dir)
        ports = free_ports()
        env = client_env(run_dir, ports, orders=1)
        port_of = {server: next(ports) for server in ("kafka", "postgres", "redis")} | {
            "provider": _port(env["PAYMENT_PROVIDER_URL"]),
            "orders": _port(env["ORDERS_GRPC_TARGET"]),
            "gateways": _port(env["GATEWAY_URL"]),
        }
        failpoints = run_dir / "failpoints"
        shutil.rmtree(failpoints, ignore_errors=True)  # nothing may be armed from before
        failpoints.mkdir()
        env |= {
            "FAILPOINTS_DIR": str(failpoints),
            "KAFKA_BOOTSTRAP_SERVERS": f"{HOST}:{port_of['kafka']}",
            "KAFKA_ENABLE_IDEMPOTENCE": "false",
            "KAFKA_FETCH_MAX_WAIT_MS": "50",
            "DATABASE_URL": servers.database_url(port_of["postgres"]),
            "REDIS_URL": servers.redis_url(port_of["redis"]),
            "PROVIDER_DECLINE_PERCENT": DECLINE_PERCENT,
        }
        clocks = {name: _clock(run_dir, name) for name in SERVICES}
        async with AsyncExitStack() as stack:
            door = stack.enter_context(closing(listen(port_of["gateways"])))
            proxies: dict[str, Proxy] = {}
            for client, its_servers in SERVERS_OF.items():
                for server in its_servers:
                    proxy = Proxy.before(port_of[server], next(ports), kafka=server == "kafka")
                    proxies[f"{client}>{server}"] = await stack.enter_async_context(proxy)
            table = services(run_dir, ports, {**os.environ, **env}, catalog, [door.fileno()] * len(GATEWAYS))
            stages = [
                servers.initdb(run_dir),
                [
                    servers.postgres(run_dir, port_of["postgres"]),
                    servers.valkey(port_of["redis"]),
                    servers.broker(port_of["kafka"]),
                ],
                *([_composed(spec, proxies, clocks) for spec in stage] for stage in table),
            ]
            supervisor = await stack.enter_async_context(supervised(run_dir, stages))
            where = Addresses.of(env | {"GATEWAY_URL": f"http://{HOST}:{proxies['customers>gateways'].port}"})
            yield Embedded(supervisor, proxies, where, clocks, failpoints)


def _composed(spec: Spec, proxies: Mapping[str, Proxy], clocks: Mapping[str, Path]) -> Spec:
    """The same process, with its neighbours behind proxies, a clock that we set, and its failpoints."""
    if spec.name not in clocks:
        return spec
    python, dash_m, *command = spec.argv
    env = {**spec.env, "PROVE_CLOCK_FILE": str(clocks[spec.name])}
    for server in SERVERS_OF[spec.name]:
        env |= ADDRESS_OF[server](proxies[f"{spec.name}>{server}"].port)
    launchers = ["tests.prove.skewed_clock", "tests.failure.failpoints.launch"]
    return replace(spec, argv=[python, dash_m, *launchers, *command], env=env)


def _clock(run_dir: Path, name: str) -> Path:
    file = run_dir / "clocks" / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(ON_TIME)
    return file


@contextmanager
def _frozen(family: list[psutil.Process]) -> Generator[None]:
    for process in family:
        _signalled(process.suspend)
    try:
        yield
    finally:
        for process in family:
            _signalled(process.resume)  # psutil knows when the pid belongs to somebody else by now


def _signalled(signal: Callable[[], None]) -> None:
    with suppress(psutil.NoSuchProcess):  # another fault has killed it
        signal()


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])
