"""Loopback only: free ports, one listening socket to hand down, and a way to ask a server for one line."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

HOST = "127.0.0.1"

# Below the ports that the kernel gives to outgoing connections (from 32768 on Linux, 49152 on macOS). Otherwise a
# client that retries while a server restarts may take the server's port as its own, and even connect to itself.
PORTS = range(20_000, 32_000)


Check = Callable[[], Awaitable[None]]
"""Asks a process whether it can work now; raises `NotReadyError` if not. Must have a deadline of its own."""


class NotReadyError(Exception):
    """The process runs but cannot work yet; the message says what it answered."""


def free_ports() -> Iterator[int]:
    """Ports on which nobody listens now, each once, in random order so that two stacks rarely pick the same."""
    for port in random.SystemRandom().sample(PORTS, len(PORTS)):
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        yield port


def listen(port: int) -> socket.socket:
    """A listening socket that several processes may inherit; while it is open, clients of a restarting process wait."""
    return socket.create_server((HOST, port), backlog=2048)


async def first_line(port: int, request: str) -> str:
    """The first line of the answer to a request on loopback; raises `NotReadyError`."""
    async with _connected(port) as (reader, writer):
        writer.write(request.encode())
        return (await reader.readline()).decode(errors="replace").strip()


async def port_open(port: int) -> None:
    """Raises `NotReadyError` while nobody listens."""
    async with _connected(port):
        pass


@asynccontextmanager
async def _connected(port: int) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                yield reader, writer
            finally:
                writer.close()
    except (OSError, ValueError) as error:
        raise NotReadyError(f"{HOST}:{port}: {error or 'no answer within 2 s'}") from error
