"""The web server refuses orders by itself, and its connections go on as if nothing had happened."""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import uvicorn
from prometheus_client import REGISTRY
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from eventually import eventually
from gateway.early_refusal import protocol_that_sheds
from gateway.shedding import Shed, Shedding
from gateway.web_server import CLOSE
from local_stack.network import HOST

GET = b"GET /livez HTTP/1.1\r\nHost: door\r\n\r\n"
BODY = b'{"an": "order"}'


def post(body: bytes = BODY, *headers: str, path: str = "/v1/orders", version: str = "1.1") -> bytes:
    head = [f"POST {path} HTTP/{version}", "Host: door", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(head).encode() + body


@dataclass
class World:
    """A server whose app answers 202 with the body that it got, once `gate` is open. `full`: it sheds. `room`: for how
    many more that come in one turn of the event loop."""

    reader: StreamReader
    writer: StreamWriter
    full: bool = True
    room: int = 1_000
    state: ServerState = field(default_factory=ServerState)
    seen: list[str] = field(default_factory=list[str])
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        self.seen.append(f"{scope['method']} {scope['path']}")
        await self.gate.wait()
        body = await request.body()
        await Response(body, 202 if body else 200)(scope, receive, send)

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """The next answer on the connection: status, headers, body."""
        async with asyncio.timeout(5):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.split(": ", 1) for line in head[1:-2])
            body = await self.reader.readexactly(int(headers["content-length"]))
        return int(head[0].split()[1]), headers, body

    async def status(self) -> int:
        return (await self.answer())[0]


@pytest.fixture
async def world() -> AsyncGenerator[World]:
    async with serving() as world:
        yield world


@asynccontextmanager
async def serving(keep_alive_s: int = 5) -> AsyncGenerator[World]:
    loop = asyncio.get_running_loop()
    worlds: list[World] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await worlds[0].app(scope, receive, send)

    shedding = Shedding(full=lambda more: worlds[0].full or more >= worlds[0].room, lag_s=lambda: 0, max_lag_s=60)
    protocol = protocol_that_sheds(shedding)
    config = uvicorn.Config(
        Shed(app, shedding),
        http=protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        timeout_keep_alive=keep_alive_s,
    )
    config.load()
    state = ServerState()
    state.default_headers = [(b"date", b"today")]
    server = await loop.create_server(
        lambda: protocol(config=config, server_state=state, app_state={}),  # type: ignore[call-arg]
        HOST,
        0,
    )
    async with server:
        reader, writer = await asyncio.open_connection(HOST, server.sockets[0].getsockname()[1])
        worlds.append(World(reader, writer, state=state))
        worlds[0].gate.set()
        try:
            yield worlds[0]
        finally:
            writer.close()


async def test_a_refusal_is_the_problem_that_the_app_would_give(world: World) -> None:
    world.writer.write(post())
    early = await world.answer()
    world.writer.write(post(b"", "Expect: 100-continue"))
    by_the_app = await world.answer()

    assert early[0] == by_the_app[0] == 503
    assert early[2] == by_the_app[2]
    assert early[1].keys() - by_the_app[1].keys() == {"x-content-type-options"}  # of the others Observe says so
    assert early[1]["date"] == "today"
    assert early[1]["content-type"] == "application/problem+json"
    assert early[1]["retry-after"] in ("1", "2", "3")
    assert world.seen == []


async def test_a_refusal_does_not_wait_for_the_body_and_the_connection_goes_on_after_it(world: World) -> None:
    body = b"x" * 50_000
    whole = post(body)
    world.writer.write(whole[:-50_000])
    refused = await world.status()

    for start in range(0, len(body), 1_000):
        world.writer.write(body[start : start + 1_000])
        await world.writer.drain()
    world.writer.write(GET)
    read = await world.status()
    world.full = False
    world.writer.write(post())
    accepted = await world.answer()

    assert (refused, read) == (503, 200)
    assert (accepted[0], accepted[2]) == (202, BODY)
    assert world.seen == ["GET /livez", "POST /v1/orders"]


async def test_a_chunked_body_is_dropped_too(world: World) -> None:
    head = b"POST /v1/orders HTTP/1.1\r\nHost: door\r\nTransfer-Encoding: chunked\r\n\r\n"
    world.writer.write(head + b"5\r\nPOST \r\n" + b"3\r\nabc\r\n0\r\n\r\n" + GET)

    assert [await world.status(), await world.status()] == [503, 200]
    assert world.seen == ["GET /livez"]


async def test_pipelined_requests_are_answered_in_their_order(world: World) -> None:
    world.writer.write(post() + GET + post() + post(path="/v1/orders/1/cancel") + GET)

    assert [await world.status() for _ in range(5)] == [503, 200, 503, 503, 200]
    assert world.seen == ["GET /livez"] * 2


async def test_the_end_of_an_idle_connection_does_not_come_while_the_next_answer_is_due() -> None:
    async with serving(keep_alive_s=0) as world:
        world.gate.clear()
        world.writer.write(post() + GET)
        refused = await world.status()
        await eventually(lambda: world.seen, within=5)
        world.gate.set()

        assert (refused, await world.status()) == (503, 200)


async def test_a_refusal_never_overtakes_an_answer_that_is_still_due(world: World) -> None:
    world.gate.clear()
    world.full = False
    world.writer.write(post(b"first"))
    await eventually(lambda: world.seen, within=5)
    world.full = True
    world.writer.write(post(b"second"))
    await world.writer.drain()
    world.gate.set()

    first, second = await world.answer(), await world.answer()

    assert (first[0], first[2]) == (202, b"first")
    assert second[0] == 503


@pytest.mark.parametrize("request_", [post(BODY, "Connection: close"), post(version="1.0")])
async def test_a_connection_that_shall_end_is_ended(world: World, request_: bytes) -> None:
    world.writer.write(request_)

    assert await world.status() == 503
    async with asyncio.timeout(5):
        assert await world.reader.read() == b""
    assert world.seen == []


async def test_a_gateway_that_leaves_ends_the_connection_after_a_refusal(world: World) -> None:
    world.state.default_headers.append(CLOSE)
    world.writer.write(post())

    assert await world.status() == 503
    async with asyncio.timeout(5):
        assert await world.reader.read() == b""


async def test_a_client_that_never_reads_is_soon_not_read_either(world: World) -> None:
    def refused() -> float:
        return REGISTRY.get_sample_value("headrace_requests_shed_total", {"reason": "full"}) or 0

    async def write_a_million() -> None:
        for _ in range(1_000):
            world.writer.write(batch)
            async with asyncio.timeout(1):
                await world.writer.drain()

    before, batch = refused(), post() * 1_000
    with pytest.raises(TimeoutError):
        await write_a_million()

    assert 0 < refused() - before < 100_000
    world.writer.transport.abort()


async def test_without_shedding_every_request_reaches_the_app(world: World) -> None:
    world.full = False
    world.writer.write(post(b"a") + GET + post(b"b"))

    answers = [await world.answer() for _ in range(3)]

    assert [(status, body) for status, _, body in answers] == [(202, b"a"), (200, b""), (202, b"b")]


async def test_of_many_that_come_at_once_only_as_many_are_let_in_as_there_is_room_for(world: World) -> None:
    world.full, world.room = False, 3
    port = world.writer.get_extra_info("peername")[1]
    others = [World(*(await asyncio.open_connection(HOST, port))) for _ in range(8)]
    for other in others:  # the server reads from each of them
        other.writer.write(GET)
        assert await other.status() == 200

    for other in others:  # all are in the sockets before the server looks again
        other.writer.write(post())
    answers = [await other.status() for other in others]

    for other in others:
        other.writer.close()
    assert Counter(answers) == {202: 3, 503: 5}
    assert world.seen.count("POST /v1/orders") == 3
