"""Valkey for one test: alone, or as a cluster of three."""

# pyright: reportUnknownMemberType=false
# (redis-py types some commands loosely)

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

from redis.asyncio import Redis

from common.redis_client import CLUSTER
from eventually import eventually
from local_stack.network import HOST, free_ports
from local_stack.process import Spec
from local_stack.servers import redis_url, valkey
from local_stack.supervisor import supervised

SLOTS = [(0, 5460), (5461, 10922), (10923, 16383)]
Running = Callable[[Path], AbstractAsyncContextManager[str]]


@asynccontextmanager
async def running_valkey(run_dir: Path) -> AsyncGenerator[str]:
    """Yields its address."""
    port = next(free_ports())
    async with supervised(run_dir, [[valkey(port)]]):
        yield redis_url(port)


@asynccontextmanager
async def running_cluster(run_dir: Path) -> AsyncGenerator[str]:
    """Three nodes that share the slots; yields the address for our client."""
    found = free_ports()
    ports, buses = [next(found) for _ in SLOTS], [next(found) for _ in SLOTS]
    nodes = [_node(n, port, bus, run_dir) for n, (port, bus) in enumerate(zip(ports, buses, strict=True))]
    async with supervised(run_dir, [nodes]):
        clients = [Redis(host=HOST, port=port) for port in ports]
        try:
            await _join(clients, ports, buses)
        finally:
            for client in clients:
                await client.aclose()
        yield f"{CLUSTER}{HOST}:{ports[0]}"


def _node(number: int, port: int, bus: int, run_dir: Path) -> Spec:
    alone = valkey(port)
    options = [
        "--cluster-enabled",
        "yes",
        "--cluster-port",
        str(bus),
        "--cluster-config-file",
        f"{run_dir}/{port}.conf",
    ]
    return replace(alone, name=f"valkey-{number}", argv=[*alone.argv, *options])


async def _join(clients: list[Redis], ports: list[int], buses: list[int]) -> None:
    for client, slots in zip(clients, SLOTS, strict=True):
        await client.execute_command("CLUSTER", "ADDSLOTSRANGE", *slots)
    for port, bus in list(zip(ports, buses, strict=True))[1:]:
        await clients[0].execute_command("CLUSTER", "MEET", HOST, port, bus)

    async def whole() -> bool:
        said: list[str] = [str(cast(object, await c.execute_command("CLUSTER", "INFO"))) for c in clients]
        return all("cluster_state:ok" in info and "cluster_known_nodes:3" in info for info in said)

    await eventually(whole, within=20)
