"""The compose stack, empty, under a project of its own: Apache Kafka, nginx in front, and faults made by Docker.

A container is killed and started again, paused, or taken off its network: then nothing reaches it and nobody is told.
Docker cannot kill what is paused, so faults on one container wait for each other.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from demo.settings import add_stack_file
from tests.compose.stack import ROOT, Compose, docker
from tests.eventually import eventually
from tests.prove.provider import switched
from tests.prove.schedule import Fault, Kind, Menu
from tests.prove.stack import DECLINE_PERCENT, Addresses

SERVICES = ("gateway-1", "gateway-2", "orders-1", "workers-1", "workers-2")
SERVERS = ("kafka-1", "postgres-1", "redis-1", "payment-provider-1")
MENU: Menu = {
    Kind.KILL: (*SERVICES, "nginx-1", "kafka-1", "postgres-1", "payment-provider-1"),
    Kind.FREEZE: (*SERVICES, *SERVERS),
    Kind.CUT: (*SERVICES, *SERVERS),
    Kind.EMPTY: ("redis-1",),
    Kind.HANG: ("payment-provider-1",),
    Kind.FAIL: ("payment-provider-1",),
    Kind.LOSE_REPLIES: ("payment-provider-1",),
}
DOWN_S = 2.0  # an outage, not a blink
COMES_BACK_S = 90


class ComposeStack:
    menu: Menu = MENU

    def __init__(self, where: Addresses, containers: dict[str, str]) -> None:
        self.where = where
        self._containers = containers
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def turn(self, fault: Fault) -> asyncio.Lock:
        return self._turns[fault.target]

    async def strike(self, fault: Fault) -> None:
        container = self._containers[fault.target]
        match fault.kind:
            case Kind.KILL | Kind.EMPTY:
                await asyncio.to_thread(docker, "kill", container)
                await asyncio.sleep(DOWN_S)
                await asyncio.to_thread(docker, "start", container)
                await eventually(lambda: _healthy(container), within=COMES_BACK_S)
            case Kind.FREEZE:
                await asyncio.to_thread(docker, "pause", container)
                await asyncio.sleep(fault.duration)
                await asyncio.to_thread(docker, "unpause", container)
            case Kind.CUT:
                async with _off_the_network(container):
                    await asyncio.sleep(fault.duration)
            case _:
                async with switched(self.where.payment_provider_url, fault):
                    await asyncio.sleep(fault.duration)

    async def not_ready(self) -> list[str]:
        healthy = await asyncio.gather(*map(_healthy, self._containers.values()))
        return [name for name, ready in zip(self._containers, healthy, strict=True) if not ready]


@asynccontextmanager
async def compose_stack(catalog: Path) -> AsyncGenerator[ComposeStack]:
    """All of it, empty and healthy. Raises AssertionError with what Docker said."""
    compose = Compose(
        {
            "COMPOSE_FILE": "docker-compose.yml:tests/prove/compose.yml",
            "PROVE_CATALOG": str(catalog.parent.resolve()),
            "PROVE_DECLINE_PERCENT": DECLINE_PERCENT,
        }
    )
    try:
        await asyncio.to_thread(compose.run, "up", "--detach", "--build", "--wait", "--wait-timeout", "240")
        names = {*MENU[Kind.KILL], *MENU[Kind.FREEZE]}
        containers = {name: await asyncio.to_thread(_id_of, compose, name) for name in sorted(names)}
        env: dict[str, str] = {}
        add_stack_file(env, ROOT / "deploy/compose/stack.env")
        yield ComposeStack(Addresses.of(env), containers)
    finally:
        await asyncio.to_thread(compose.run, "down", "--volumes", "--timeout", "30")


def _id_of(compose: Compose, name: str) -> str:
    service, _, number = name.rpartition("-")
    found = [c for c in compose.containers(service) if _label(c, "com.docker.compose.container-number") == number]
    assert found, f"there is no container {name}"
    return found[0]


def _label(container: str, label: str) -> str:
    return docker("inspect", "--format", f'{{{{index .Config.Labels "{label}"}}}}', container).strip()


async def _healthy(container: str) -> bool:
    state = await asyncio.to_thread(docker, "inspect", "--format", "{{.State.Health.Status}}", container)
    return state.strip() == "healthy"


class _Endpoint(msgspec.Struct, rename="pascal"):
    """The names of a container on a network."""

    aliases: list[str] | None = None


@asynccontextmanager
async def _off_the_network(container: str) -> AsyncGenerator[None]:
    """Off every network of its own, and back under the same names."""
    said = await asyncio.to_thread(docker, "inspect", "--format", "{{json .NetworkSettings.Networks}}", container)
    networks = msgspec.json.decode(said, type=dict[str, _Endpoint])
    for network in networks:
        await asyncio.to_thread(docker, "network", "disconnect", network, container)
    try:
        yield
    finally:
        for network, endpoint in networks.items():
            names = [word for alias in endpoint.aliases or () for word in ("--alias", alias)]
            await asyncio.to_thread(docker, "network", "connect", *names, network, container)
