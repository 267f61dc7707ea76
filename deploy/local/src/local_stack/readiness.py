# asyncpg and aiokafka carry no types (no py.typed); this file is where we touch them.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
"""When is a server ready? When it has done its real work once, not when its port is open (trap 33)."""

from __future__ import annotations

from urllib.parse import urlsplit

import asyncpg
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from local_stack.network import HOST, Check, NotReadyError, first_line, port_open


def http_ready(url: str) -> Check:
    """Ready when a GET of the url is answered with 200."""
    parts = urlsplit(url)
    request = f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n"

    async def check() -> None:
        status = await first_line(parts.port or 80, request)
        if status.split(" ")[1:2] != ["200"]:
            raise NotReadyError(f"GET {url} answered {status!r}")

    return check


def postgres_ready(port: int, user: str, database: str) -> Check:
    async def check() -> None:
        """One query; the first one that works also makes our database."""
        try:
            connection = await asyncpg.connect(
                host=HOST, port=port, user=user, database="postgres", ssl=False, timeout=2, command_timeout=5
            )
            try:
                if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", database):
                    await connection.execute(f"CREATE DATABASE {database}")
            finally:
                await connection.close(timeout=2)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise NotReadyError(f"SELECT: {error}") from error

    return check


def valkey_ready(port: int) -> Check:
    async def check() -> None:
        answer = await first_line(port, "PING\r\n")
        if answer != "+PONG":
            raise NotReadyError(f"PING answered {answer!r}")

    return check


def broker_ready(port: int) -> Check:
    async def check() -> None:
        await port_open(port)  # quiet while nobody listens: aiokafka would log an error each time
        client = AIOKafkaClient(bootstrap_servers=f"{HOST}:{port}", request_timeout_ms=2000)
        try:
            await client.bootstrap()  # asks for the metadata
        except KafkaError as error:
            raise NotReadyError(f"metadata request: {error}") from error
        finally:
            await client.close()

    return check
