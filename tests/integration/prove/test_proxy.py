"""The proxy does to a connection what it says, and nothing else."""

import asyncio
import struct
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest

from common.contracts.topics import Topic
from common.errors import InfrastructureError
from common.kafka.progress import GroupProgress
from local_stack.network import HOST, free_ports
from local_stack.servers import Addresses
from tests.prove.proxy import Proxy, Trouble
from tests.prove.schedule import Kind

SOON_S = 0.3
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Echo(asyncio.Protocol):
    """Says everything again. `ended`: somebody has hung up."""

    def __init__(self, ended: asyncio.Event) -> None:
        self._ended = ended

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended.set()


@dataclass
class Door:
    """A proxy before an echo, and connections to it that are closed in the end."""

    proxy: Proxy
    ended: asyncio.Event
    clients: list[asyncio.StreamWriter] = field(default_factory=list[asyncio.StreamWriter])

    async def connect(self) -> Streams:
        reader, writer = await asyncio.open_connection(HOST, self.proxy.port)
        self.clients.append(writer)
        return reader, writer


@asynccontextmanager
async def door_to(upstream: int, ended: asyncio.Event, *, kafka: bool = False) -> AsyncGenerator[Door]:
    async with Proxy.before(upstream, next(free_ports()), kafka=kafka) as proxy:
        door = Door(proxy, ended)
        try:
            yield door
        finally:
            for writer in door.clients:
                writer.transport.abort()
                with suppress(OSError):
                    await writer.wait_closed()


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    ended = asyncio.Event()
    server = await asyncio.get_running_loop().create_server(lambda: Echo(ended), HOST, 0)
    async with server, door_to(server.sockets[0].getsockname()[1], ended) as door:
        yield door


async def echoed(streams: Streams, said: bytes) -> bytes:
    reader, writer = streams
    writer.write(said)
    return await asyncio.wait_for(reader.readexactly(len(said)), 5)


async def silent(streams: Streams) -> bool:
    try:
        await asyncio.wait_for(streams[0].read(1), SOON_S)
    except TimeoutError:
        return True
    return False


async def test_without_trouble_every_byte_passes_both_ways(door: Door) -> None:
    said = bytes(range(256)) * 8_192  # 2 MB: more than any buffer on the way
    reader, writer = await door.connect()

    writer.write(said)
    heard = await asyncio.wait_for(reader.readexactly(len(said)), 10)

    assert heard == said


async def test_a_cut_holds_everything_back_and_then_lets_it_through(door: Door) -> None:
    old = await door.connect()
    assert await echoed(old, b"before") == b"before"

    with door.proxy.trouble(Trouble(Kind.CUT)):
        new = await door.connect()  # the kernel takes it; nobody answers
        for streams in (old, new):
            streams[1].write(b"during")
            assert await silent(streams)

    for streams in (old, new):
        assert await asyncio.wait_for(streams[0].readexactly(6), 5) == b"during"


async def test_during_a_cut_nobody_learns_that_the_other_side_has_gone(door: Door) -> None:
    streams = await door.connect()
    assert await echoed(streams, b"before") == b"before"

    with door.proxy.trouble(Trouble(Kind.CUT)):
        streams[1].close()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(door.ended.wait(), SOON_S)

    await asyncio.wait_for(door.ended.wait(), 5)


async def test_a_reset_breaks_what_is_there_and_refuses_what_comes(door: Door) -> None:
    old = await door.connect()
    assert await echoed(old, b"before") == b"before"

    with door.proxy.trouble(Trouble(Kind.RESET)):
        for streams in (old, await door.connect()):
            with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                await echoed(streams, b"during")

    assert await echoed(await door.connect(), b"after") == b"after"


async def test_a_slow_link_is_late_and_loses_nothing(door: Door) -> None:
    streams = await door.connect()
    assert await echoed(streams, b"before") == b"before"

    with door.proxy.trouble(Trouble(Kind.SLOW, delay_s=0.2)):
        started = time.monotonic()
        assert await echoed(streams, b"during") == b"during"

    assert time.monotonic() - started >= 2 * 0.1  # each way at least half of the delay


async def test_the_address_that_a_broker_names_becomes_the_proxys_also_when_it_comes_in_pieces() -> None:
    def advertised(port: int) -> bytes:
        return b"\x00\x00\x00\x07\x00\x09" + HOST.encode() + struct.pack(">i", port) + b"rest"

    async def broker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answer = advertised(writer.get_extra_info("sockname")[1])
        for piece in (struct.pack(">i", len(answer)), answer[:12], answer[12:], b"\x00\x00\x00\x03end"):
            await reader.read(1)  # one piece for each byte that it hears
            writer.write(piece)
        writer.close()

    server = await asyncio.start_server(broker, HOST, 0)
    async with server, door_to(server.sockets[0].getsockname()[1], asyncio.Event(), kafka=True) as door:
        reader, writer = await door.connect()
        for _ in range(4):
            writer.write(b".")
            await asyncio.sleep(0)
        heard = await asyncio.wait_for(reader.read(), 5)

    ours = advertised(door.proxy.port)
    assert heard == struct.pack(">i", len(ours)) + ours + b"\x00\x00\x00\x03end"


async def test_two_cuts_are_over_when_both_are(door: Door) -> None:
    streams = await door.connect()
    with door.proxy.trouble(Trouble(Kind.CUT)):
        with door.proxy.trouble(Trouble(Kind.CUT)):
            streams[1].write(b"x")
        assert await silent(streams)

    assert await asyncio.wait_for(streams[0].read(1), 5) == b"x"


async def test_where_nobody_listens_the_client_learns_it() -> None:
    async with door_to(next(free_ports()), asyncio.Event()) as door:
        reader, _ = await door.connect()

        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(1), 5)


async def test_who_hangs_up_is_heard_on_the_other_side(door: Door) -> None:
    reader, writer = await door.connect()
    writer.write_eof()

    assert await asyncio.wait_for(reader.read(), 5) == b""
    await asyncio.wait_for(door.ended.wait(), 5)


async def test_a_client_of_a_real_broker_stays_on_its_link(servers: Addresses) -> None:
    upstream = int(servers.kafka_bootstrap_servers.rpartition(":")[2])
    async with Proxy.before(upstream, next(free_ports()), kafka=True) as proxy:
        ours = GroupProgress(f"{HOST}:{proxy.port}", "prove", Topic.ORDERS_COMMANDS)

        assert len(await ours.ends()) == 6  # with connections to who was named as leader
        with proxy.trouble(Trouble(Kind.CUT)), pytest.raises(InfrastructureError):
            await ours.ends()
        assert len(await ours.committed()) == 6  # with a connection to who was named as coordinator
