"""A TCP proxy for the link from one client to one server: it can be cut, slowed down and reset.

Rule: bytes are never dropped or reordered on a connection that lives. A cut link holds everything back, also the news
that the other end has closed, and lets it through when the cut is over: as IP without packets, TCP with patience. A
reset breaks the connections with RST, and every new one at once. Bytes are never changed either, but for Kafka's
advertised address: a broker tells its clients where to connect to, so it must tell them the way through here.
Limits: a slow link delays each chunk (64 KiB) one after the other, so it is narrow too.
Source: the toxics of Toxiproxy: timeout, latency, reset_peer.
"""

import asyncio
import random
import socket
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field

from local_stack.network import HOST
from tests.prove.schedule import Kind

CHUNK = 64 * 1024
AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s: close sends RST


@dataclass(eq=False)
class Trouble:
    """What is wrong with a link."""

    kind: Kind
    delay_s: float = 0.0
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Proxy:
    """Passes connections to its `port` on to `upstream`, a port too. Use it as `async with Proxy.before(…)`."""

    def __init__(self, upstream: int, port: int, *, kafka: bool) -> None:
        self.upstream, self.port, self._kafka = upstream, port, kafka
        self._troubles: list[Trouble] = []
        self._connections: set[Connection] = set()

    @classmethod
    @asynccontextmanager
    async def before(cls, upstream: int, port: int, *, kafka: bool = False) -> "AsyncGenerator[Proxy]":
        """`kafka`: the server is a broker, whose answers name its address."""
        proxy = cls(upstream, port, kafka=kafka)
        async with asyncio.TaskGroup() as tasks:
            tunnels: set[asyncio.Task[None]] = set()

            def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                tunnels.add(tunnel := tasks.create_task(proxy._tunnel(reader, writer)))
                tunnel.add_done_callback(tunnels.discard)

            server = await asyncio.start_server(accepted, HOST, port, backlog=512)
            try:
                yield proxy
            finally:
                server.close()
                for tunnel in tunnels:
                    tunnel.cancel()

    @contextmanager
    def trouble(self, trouble: Trouble) -> Generator[None]:
        """Make it for as long as the block runs, for the connections of today and those that come."""
        self._troubles.append(trouble)
        if trouble.kind is Kind.RESET:
            for connection in list(self._connections):
                connection.reset()
        try:
            yield
        finally:
            self._troubles.remove(trouble)
            trouble.over.set()

    async def passable(self) -> None:
        """Wait until nothing holds a chunk back."""
        for trouble in list(self._troubles):
            if trouble.kind is Kind.CUT:
                await trouble.over.wait()
            elif trouble.kind is Kind.SLOW and not trouble.over.is_set():
                await asyncio.sleep(trouble.delay_s * random.uniform(0.5, 1.5))

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection([writer])
        self._connections.add(connection)
        try:
            await self.passable()
            if any(trouble.kind is Kind.RESET for trouble in self._troubles):
                raise ConnectionResetError
            await self._join(connection, reader, writer)
            connection.close()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            connection.reset()  # one side is gone, or the server is not there: the other side hears of it
        finally:
            self._connections.discard(connection)

    async def _join(self, connection: "Connection", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(HOST, self.upstream)
        connection.writers.append(server_writer)
        answers = self._answers(server_reader) if self._kafka else _chunks(server_reader)
        await asyncio.gather(self._pump(_chunks(reader), server_writer), self._pump(answers, writer))

    async def _pump(self, source: AsyncIterator[bytes], sink: asyncio.StreamWriter) -> None:
        async for chunk in source:
            await self.passable()
            sink.write(chunk)
            await sink.drain()
        await self.passable()
        if sink.can_write_eof():
            sink.write_eof()

    async def _answers(self, server: asyncio.StreamReader) -> AsyncIterator[bytes]:
        """Whole answers of a broker: its host and port (4 bytes, in metadata and coordinators) become ours."""
        theirs, ours = (HOST.encode() + struct.pack(">i", port) for port in (self.upstream, self.port))
        while length := await server.read(4):
            length += await server.readexactly(4 - len(length))
            yield length + (await server.readexactly(*struct.unpack(">i", length))).replace(theirs, ours)


@dataclass(eq=False)
class Connection:
    """Both ends of one: the client's, and the server's once it is there."""

    writers: list[asyncio.StreamWriter]

    def close(self) -> None:
        """What is still on its way is sent."""
        for writer in self.writers:
            writer.close()

    def reset(self) -> None:
        for writer in self.writers:
            raw: socket.socket | None = writer.get_extra_info("socket")
            if raw is not None:
                with suppress(OSError):  # it has ended by itself
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
            writer.transport.abort()


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while chunk := await reader.read(CHUNK):
        yield chunk
