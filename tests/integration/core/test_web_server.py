"""How the gateway's web server leaves, seen by clients that keep their connections."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from eventually import eventually
from gateway.web_server import LAST_REQUEST_S, WebServer
from local_stack.network import HOST, free_ports

REQUEST = b"GET /%s HTTP/1.1\r\nHost: door\r\n\r\n"
QUICK, SLOW = REQUEST % b"quick", REQUEST % b"slow"


class Door:
    """A server in the test's own loop. `GET /slow` is answered when the test says so."""

    def __init__(self, drain_s: float) -> None:
        self.port = next(free_ports())
        self.server = WebServer(self._app, host=HOST, port=self.port, drain_s=drain_s)
        self.arrived, self.answer = asyncio.Event(), asyncio.Event()

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/slow":
            self.arrived.set()
            await self.answer.wait()
        await PlainTextResponse("done")(scope, receive, send)

    def listens(self) -> bool:
        return any(listener.is_serving() for listener in self.server.servers)


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    def send(self, request: bytes) -> None:
        self._writer.write(request)

    async def answer(self) -> str:
        """Raises IncompleteReadError when the connection is closed instead."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
        assert await self._reader.readexactly(4) == b"done"
        return head

    async def is_closed(self) -> bool:
        return await self._reader.read(1) == b""


@asynccontextmanager
async def connected(door: Door) -> AsyncGenerator[Client]:
    reader, writer = await asyncio.open_connection(HOST, door.port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def open_door(drain_s: float) -> AsyncGenerator[Door]:
    door = Door(drain_s)
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        tasks.create_task(door.server.serve())
        await eventually(lambda: door.server.started, within=5)
        yield door
        door.server.should_exit = True


async def test_from_the_first_moment_every_answer_says_close_and_whoever_comes_is_served() -> None:
    async with (
        open_door(drain_s=30) as door,
        connected(door) as kept,
        connected(door) as busy,
        asyncio.TaskGroup() as tasks,
    ):
        kept.send(QUICK)
        before = await kept.answer()
        leaving = tasks.create_task(door.server.leave())
        await asyncio.sleep(0)
        kept.send(QUICK)
        busy.send(QUICK)

        answers = [before, await kept.answer(), await busy.answer()]

        async with connected(door) as new:
            new.send(QUICK)
            answers.append(await new.answer())
        assert await kept.is_closed()
        leaving.cancel()

    assert ["connection: close" in answer for answer in answers] == [False, True, True, True]


async def test_idle_connections_may_bring_a_last_request_after_the_door_is_closed() -> None:
    async with open_door(drain_s=0) as door, connected(door) as kept, connected(door) as silent_so_far:
        kept.send(QUICK)
        await kept.answer()
        await eventually(lambda: len(door.server.server_state.connections) == 2, within=5)
        await door.server.leave()
        await eventually(lambda: not door.listens(), within=5)

        kept.send(QUICK)
        silent_so_far.send(QUICK)

        assert "connection: close" in await kept.answer()
        assert "connection: close" in await silent_so_far.answer()


async def test_a_request_under_way_gets_its_answer_and_whoever_stays_silent_is_closed() -> None:
    async with open_door(drain_s=0) as door, connected(door) as waiting, connected(door) as silent:
        waiting.send(SLOW)
        await door.arrived.wait()
        await door.server.leave()

        async with asyncio.timeout(LAST_REQUEST_S + 5):
            assert await silent.is_closed()
        door.answer.set()

        assert "200 OK" in await waiting.answer()
        assert await waiting.is_closed()
