"""What the benchmark stands on: one real Kafka broker in Docker, Valkey, one gateway and the textbook app."""

import os
import shutil
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from uuid_utils.compat import uuid7

from bench import textbook
from common.contracts.codec import to_record
from common.contracts.events import CatalogItem
from common.contracts.topics import TopicSpec, all_topics
from common.kafka.admin import create_topics
from common.kafka.publisher import Outcome, Publisher
from local_stack import keys, servers
from local_stack.network import HOST, free_ports
from local_stack.process import Process, Spec
from local_stack.readiness import broker_ready, http_ready
from local_stack.supervisor import supervised

IMAGE = "apache/kafka:4.1.1"
SKUS = 4_000
NOBODY_WRITES = {"GATEWAY_SHED_LAG_S": "86400"}  # no worker runs here, and that is no reason to shed


class BenchError(Exception):
    """The benchmark cannot be run, or broke; the message says why."""


@dataclass(frozen=True, slots=True)
class Bench:
    """Everything runs. `pid` by name: gateway, valkey, and textbook and kafka, or broker."""

    run_dir: Path
    kafka: str
    redis_url: str
    gateway_port: int
    processes: Mapping[str, Process]
    textbook_port: int = 0

    def pid(self, name: str) -> int:
        """Of a process that runs; raises BenchError for one that does not."""
        if name == "kafka":
            return int(_docker("inspect", "--format", "{{.State.Pid}}", _container(self.run_dir)))
        process = self.processes[name]
        if process.pid is None or process.restarts:
            raise BenchError(f"{name} died:\n{process.last_lines()}")
        return process.pid


@asynccontextmanager
async def running_bench() -> AsyncGenerator[Bench]:
    """Start all, empty, on free ports; when the block ends nothing of it runs any more."""
    _need_docker()
    with TemporaryDirectory(prefix="headrace-bench-") as folder:
        run_dir = Path(folder)
        keys.ensure_keys(run_dir)
        ports = free_ports()
        kafka, controller, redis, gateway, admin, app = (next(ports) for _ in range(6))
        address, redis_url = f"{HOST}:{kafka}", servers.redis_url(redis)
        stage = [_kafka(run_dir, kafka, controller), servers.valkey(redis)]
        async with supervised(run_dir, [stage]) as below:
            await _fill(address, idempotence=True)
            env = {**os.environ, **NOBODY_WRITES, "KAFKA_BOOTSTRAP_SERVERS": address, "REDIS_URL": redis_url}
            stage = [_gateway(run_dir, env, gateway, admin), _textbook(env, app)]
            async with supervised(run_dir / "apps", [stage]) as above:
                yield Bench(run_dir, address, redis_url, gateway, {**below.processes, **above.processes}, app)


@asynccontextmanager
async def running_door(**settings: str) -> AsyncGenerator[Bench]:
    """One gateway with these settings, on Valkey and the embedded broker: no Docker."""
    with TemporaryDirectory(prefix="headrace-bench-") as folder:
        run_dir = Path(folder)
        keys.ensure_keys(run_dir)
        ports = free_ports()
        broker, redis, gateway, admin = (next(ports) for _ in range(4))
        address, redis_url = f"{HOST}:{broker}", servers.redis_url(redis)
        async with supervised(run_dir, [[servers.broker(broker), servers.valkey(redis)]]) as below:
            await _fill(address, idempotence=False)
            env = {**os.environ, **NOBODY_WRITES, "KAFKA_BOOTSTRAP_SERVERS": address, "REDIS_URL": redis_url}
            stage = [_gateway(run_dir, env | settings, gateway, admin, idempotence=False)]
            async with supervised(run_dir / "apps", [stage]) as above:
                yield Bench(run_dir, address, redis_url, gateway, {**below.processes, **above.processes})


def _need_docker() -> None:
    if shutil.which("docker") is None:
        raise BenchError("make bench-accept needs a real Kafka broker, and so Docker; there is no `docker` here.")
    _docker("version", "--format", "{{.Server.Version}}")
    if not _docker("images", "--quiet", IMAGE):
        _docker("pull", "--quiet", IMAGE)


def _docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"Docker does not do `docker {arguments[0]}`: {done.stderr.strip()}")
    return done.stdout.strip()


def _container(run_dir: Path) -> str:
    return run_dir.name


def _kafka(run_dir: Path, port: int, controller: int) -> Spec:
    """On the host's network: Docker's proxy of a published port would cost CPU that is measured here."""
    settings = {
        "NODE_ID": "1",
        "PROCESS_ROLES": "broker,controller",
        "LISTENERS": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller}",
        "ADVERTISED_LISTENERS": f"PLAINTEXT://{HOST}:{port}",
        "LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "CONTROLLER_QUORUM_VOTERS": f"1@{HOST}:{controller}",
        "OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "AUTO_CREATE_TOPICS_ENABLE": "false",
        "LOG_DIRS": "/var/lib/kafka/data",
        "HEAP_OPTS": "-Xms256m -Xmx512m",
    }
    argv = ["docker", "run", "--rm", "--name", _container(run_dir), "--network", "host"]
    argv += ["--tmpfs", "/opt/kafka/config:uid=1000,gid=1000", "--tmpfs", "/opt/kafka/logs:uid=1000,gid=1000"]
    argv += [word for name, value in settings.items() for word in ("--env", f"KAFKA_{name}={value}")]
    return Spec(name="kafka", argv=[*argv, IMAGE], env=os.environ, check=broker_ready(port), restarts=False)


def _gateway(run_dir: Path, env: dict[str, str], port: int, admin: int, *, idempotence: bool = True) -> Spec:
    own = {
        "GATEWAY_PORT": str(port),
        "ADMIN_PORT": str(admin),
        "GATEWAY_ORDERS_GRPC_TARGET": f"{HOST}:1",  # nobody reads an order here
        "GATEWAY_JWT_PUBLIC_KEY_FILE": str(keys.public_key_file(run_dir)),
        "KAFKA_ENABLE_IDEMPOTENCE": str(idempotence).lower(),
    }
    check = http_ready(f"http://{HOST}:{port}/readyz")
    return Spec(name="gateway", argv=[sys.executable, "-m", "gateway.main"], env=env | own, check=check)


def _textbook(env: dict[str, str], port: int) -> Spec:
    check = http_ready(f"http://{HOST}:{port}/readyz")
    argv = [sys.executable, "-m", "bench.textbook"]
    return Spec(name="textbook", argv=argv, env=env | {"PORT": str(port)}, check=check)


async def _fill(kafka: str, *, idempotence: bool) -> None:
    """Every topic, and the catalog."""
    partitions = max(spec.partitions for spec in all_topics())
    retention = next(spec.retention for spec in all_topics() if spec.retention)
    await create_topics(kafka, [*all_topics(), TopicSpec(textbook.TOPIC, partitions, retention)])
    publisher = Publisher(kafka, idempotence=idempotence)
    await publisher.start()
    try:
        outcomes = await publisher.publish([to_record(item, uuid7(), None) for item in catalog()])
    finally:
        await publisher.stop()
    if set(outcomes) != {Outcome.ACKED}:
        raise BenchError("the catalog could not be published")


def catalog() -> list[CatalogItem]:
    return [
        CatalogItem(sku=f"cd-{number}", name=f"{number} CDs", currency="USD", price_minor=1177 + number)
        for number in range(SKUS)
    ]
