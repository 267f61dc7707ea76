"""The gateway as a process of its own, and what it must be told."""

import asyncio
import os
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from builders import broker_settings
from common.contracts.codec import to_record
from common.contracts.events import CatalogItem
from common.kafka.publisher import Outcome, Publisher
from local_stack.network import HOST, free_ports, listen
from local_stack.servers import Addresses
from unit.gateway.fakes import AUDIENCE, ISSUER, PRIVATE_KEY


def gateway_environment(servers: Addresses, folder: Path) -> dict[str, str]:
    """Its orders service is away."""
    key = folder / "public.pem"
    key.write_bytes(PRIVATE_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    ports = free_ports()
    return {
        **os.environ,
        **broker_settings(servers),
        "REDIS_URL": servers.redis_url,
        "ADMIN_PORT": str(next(ports)),
        "GATEWAY_DRAIN_S": "0",
        "GATEWAY_ORDERS_GRPC_TARGET": f"{HOST}:{next(ports)}",
        "GATEWAY_JWT_PUBLIC_KEY_FILE": str(key),
        "GATEWAY_JWT_ISSUER": ISSUER,
        "GATEWAY_JWT_AUDIENCE": AUDIENCE,
        "GATEWAY_SHED_LAG_S": "3600",  # nobody writes what it accepts
    }


async def offer(publisher: Publisher, sku: str = "cd-1") -> None:
    """Put the sku into every gateway's catalog."""
    item = CatalogItem(sku=sku, name="A record", currency="USD", price_minor=1_177)
    assert await publisher.publish([to_record(item, uuid4(), None)]) == [Outcome.ACKED]


@asynccontextmanager
async def serving(environment: dict[str, str]) -> AsyncGenerator[tuple[Process, str]]:
    """On an inherited socket, which holds requests until the gateway is ready to take them."""
    port = next(free_ports())
    with listen(port) as listener:
        fd = listener.fileno()
        environment = {**environment, "GATEWAY_LISTEN_FD": str(fd)}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway.main", env=environment, pass_fds=[fd]
        )
    try:
        yield process, f"http://{HOST}:{port}"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
