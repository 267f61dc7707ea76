"""The whole system on real servers, each of our processes under the launcher of the failpoints, and none supervised:
who dies stays dead until the test starts it again.
"""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from builders import broker_settings, migrate_settings
from common.contracts.values import order_id_for
from common.postgres import create_engine
from demo.books import Attempt, InputBook
from demo.cdnow import Purchase
from demo.client import Answer, OrdersClient
from demo.database import Database, connect
from demo.read_books import read_books
from demo.reconcile import Report, reconcile
from demo.settings import BooksSettings
from demo.tokens import Tokens, load_private_key
from eventually import eventually
from local_stack import keys
from local_stack.network import HOST, NotReadyError, free_ports, listen
from local_stack.process import Process, Spec
from local_stack.readiness import http_ready
from local_stack.servers import Addresses, embedded_servers
from local_stack.stack import WORKERS
from tests.failure.failpoints.table import Failpoint, reached_file
from workers.catalog import import_catalog
from workers.migrate import migrate

ROOT = Path(__file__).parents[3]
VICTIMS = ("orders", *WORKERS, "gateway")
CD, FREE, SOLD_OUT = (1, 1177), (1, 0), (9, 9999)  # quantity and amount stand for a sku
STOCK = {CD: 100_000, FREE: 100_000, SOLD_OUT: 0}
READ_BY_THE_BOOKS = ("KAFKA_BOOTSTRAP_SERVERS", "KAFKA_FETCH_MAX_WAIT_MS", "DATABASE_URL", "PAYMENT_PROVIDER_URL")


@dataclass(slots=True)
class System:
    run_dir: Path
    env: dict[str, str]
    processes: dict[str, Process]
    client: OrdersClient
    tokens: Tokens
    database: Database
    attempts: dict[str, Attempt] = field(default_factory=dict[str, Attempt])
    _rows: Iterator[int] = field(default_factory=lambda: iter(range(1, 1_000_000)))

    async def start(self, *names: str) -> None:
        """Start these processes; returns when all are ready."""
        for name in names:
            await self.processes[name].spawn()
        for name in names:
            await eventually(lambda name=name: self._ready(name), within=30)

    def arm(self, point: Failpoint) -> None:
        self._file(point).touch()

    async def died(self, point: Failpoint) -> None:
        """Returns once the process died at this very point, and by SIGKILL."""
        async with asyncio.timeout(30):
            how = await self.processes[point.process].ended()
        assert (how, reached_file(self._file(point)).exists()) == ("signal SIGKILL", True)

    async def place(self, customer: str, item: tuple[int, int] = CD, *, times: int = 1) -> str:
        """Order one piece, several times at once under the same key, each until it is accepted; answers its id."""
        row = next(self._rows)
        purchase = Purchase(row, customer, "1997-01-01", *item)
        answers = [Answer() for _ in range(times)]
        order_id = str(order_id_for(customer, str(row)))
        async with asyncio.TaskGroup() as tries:
            for answer in answers:
                tries.create_task(self.client.place(purchase, answer))
        for answer in answers:
            assert answer.order_id == order_id, answer
            self.attempts[order_id] = Attempt(customer, purchase.amount_minor, answer.result)
        return order_id

    def request(self, customer: str) -> aiohttp.ClientSession:
        """The public API as this customer."""
        headers = {"Authorization": self.tokens.bearer(customer)}
        return aiohttp.ClientSession(self.env["GATEWAY_URL"], headers=headers, timeout=aiohttp.ClientTimeout(10))

    async def switch_provider(self, **switches: float) -> None:
        async with (
            aiohttp.ClientSession(self.env["PAYMENT_PROVIDER_URL"], raise_for_status=True) as session,
            session.patch("/switches", json=switches),
        ):
            pass

    async def books(self) -> Report:
        settings = BooksSettings.model_validate({name: self.env[name] for name in READ_BY_THE_BOOKS})
        books = await read_books(settings, self.run_dir / "no journal")
        books.input = InputBook(dict(self.attempts))
        return reconcile(books, alone=True)

    def _file(self, point: Failpoint) -> Path:
        return Path(self.env["FAILPOINTS_DIR"]) / point.name

    async def _ready(self, name: str) -> bool:
        process = self.processes[name]
        assert process.alive, f"{name} ended:\n{process.last_lines()}"
        assert process.spec.check is not None
        try:
            await process.spec.check()
        except NotReadyError as error:
            raise AssertionError(f"{name}: {error}") from error
        return True


@asynccontextmanager
async def running_system(run_dir: Path) -> AsyncGenerator[System]:
    """Everything runs and is ready inside the block."""
    (run_dir / "failpoints").mkdir()
    keys.ensure_keys(run_dir)
    tokens = Tokens(load_private_key(keys.private_key_file(run_dir)), issuer=keys.ISSUER, audience=keys.AUDIENCE)
    ports = free_ports()
    async with embedded_servers(run_dir) as servers:
        await migrate(migrate_settings(servers))
        await _stock_up(servers)
        env = _environment(run_dir, servers, lambda: f"{HOST}:{next(ports)}")
        with ExitStack() as stack:
            door = stack.enter_context(listen(int(env["GATEWAY_URL"].rpartition(":")[2])))
            processes = {name: _process(name, run_dir, env, next(ports), door) for name in VICTIMS}
            processes["payment_provider"] = _provider(run_dir, env)
            async with (
                OrdersClient(env["GATEWAY_URL"], tokens, connections=32) as client,
                connect(servers.database_url) as database,
            ):
                system = System(run_dir, env, processes, client, tokens, database)
                try:
                    await system.start(*processes)
                    yield system
                finally:
                    for process in processes.values():
                        process.kill()
                        await process.ended()


async def _stock_up(servers: Addresses) -> None:
    engine = create_engine(servers.database_url, application_name="test")
    rows = [
        {
            "sku": Purchase(0, "", "", *item).sku,
            "name": "A record",
            "price_minor": str(item[1]),
            "currency": "USD",
            "stock": str(stock),
        }
        for item, stock in STOCK.items()
    ]
    await import_catalog(engine, rows)
    await engine.dispose()


def _environment(run_dir: Path, servers: Addresses, address: Callable[[], str]) -> dict[str, str]:
    grpc, provider = address(), f"http://{address()}"
    return {
        **os.environ,
        **broker_settings(servers),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        "FAILPOINTS_DIR": str(run_dir / "failpoints"),
        "DEAD_AFTER_MS": "1000",
        "DATABASE_URL": servers.database_url,
        "REDIS_URL": servers.redis_url,
        "GATEWAY_URL": f"http://{address()}",
        "GATEWAY_RATE_BURST": "1000",
        "GATEWAY_RATE_PER_S": "1000",
        "GATEWAY_ORDERS_GRPC_TARGET": grpc,
        "GATEWAY_JWT_PUBLIC_KEY_FILE": str(keys.public_key_file(run_dir)),
        "ORDERS_GRPC_LISTEN": grpc,
        "PAYMENT_PROVIDER_URL": provider,
        "WORKERS_PAYMENT_PROVIDER_URL": provider,
        "PROVIDER_PORT": provider.rpartition(":")[2],
        "PROVIDER_LEDGER_FILE": str(run_dir / "ledger.jsonl"),
    }


def _process(name: str, run_dir: Path, env: dict[str, str], admin_port: int, door: socket.socket) -> Process:
    """One that may be killed."""
    command = ["workers.main", name] if name in WORKERS else [f"{name}.main"]
    own = {"ADMIN_PORT": str(admin_port)} | ({"GATEWAY_LISTEN_FD": str(door.fileno())} if name == "gateway" else {})
    spec = Spec(
        name=name,
        argv=[sys.executable, "-m", "tests.failure.failpoints.launch", *command],
        env=env | own,
        check=http_ready(f"http://{HOST}:{admin_port}/readyz"),
        inherits=(door.fileno(),) if name == "gateway" else (),
    )
    return Process(spec, run_dir / f"{name}.log")


def _provider(run_dir: Path, env: dict[str, str]) -> Process:
    check = http_ready(f"{env['PAYMENT_PROVIDER_URL']}/readyz")
    argv = [sys.executable, "-m", "payment_provider"]
    return Process(Spec(name="payment_provider", argv=argv, env=env, check=check), run_dir / "provider.log")
