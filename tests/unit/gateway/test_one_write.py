"""Header and body of an answer reach the socket in one write, and a close loses nothing."""

import asyncio
from collections.abc import AsyncGenerator

import uvicorn
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.types import ASGIApp
from uvicorn.server import ServerState

from gateway.one_write import OneWriteProtocol


class RecordingTransport(asyncio.Transport):
    """Keeps what was written; `closed` says how many writes there were before the close."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.writes: list[bytes] = []
        self.closed: int | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert self.closed is None
        self.writes.append(bytes(data))

    def close(self) -> None:
        self.closed = len(self.writes)

    def is_closing(self) -> bool:
        return self.closed is not None

    def resume_reading(self) -> None: ...

    def pause_reading(self) -> None: ...


async def answers(app: ASGIApp, *headers: str) -> RecordingTransport:
    config = uvicorn.Config(app, http=OneWriteProtocol, ws="none", lifespan="off", log_config=None)
    config.load()
    state = ServerState()
    protocol = OneWriteProtocol(config, state, {}, asyncio.get_running_loop())
    transport = RecordingTransport()
    protocol.connection_made(transport)
    protocol.data_received("\r\n".join(["GET / HTTP/1.1", "Host: here", *headers, "", ""]).encode())
    await asyncio.gather(*state.tasks)
    await asyncio.sleep(0)  # the end of the turn
    protocol.connection_lost(None)
    return transport


async def test_header_and_body_leave_in_one_write() -> None:
    transport = await answers(PlainTextResponse("the body"))

    assert len(transport.writes) == 1
    assert transport.writes[0].startswith(b"HTTP/1.1 200 OK\r\n")
    assert transport.writes[0].endswith(b"\r\n\r\nthe body")


async def test_what_was_written_leaves_before_the_connection_is_closed() -> None:
    transport = await answers(PlainTextResponse("the body"), "Connection: close")

    assert transport.closed == 1
    assert transport.writes[0].endswith(b"the body")


async def test_a_stream_sends_each_part_when_it_has_it() -> None:
    async def parts() -> AsyncGenerator[str]:
        for part in ("one", "two", "three"):
            yield part
            await asyncio.sleep(0)

    transport = await answers(StreamingResponse(parts()))

    assert [sum(part in written for written in transport.writes) for part in (b"one", b"two", b"three")] == [1, 1, 1]
    assert len(transport.writes) >= 3
    assert transport.writes[-1].endswith(b"0\r\n\r\n")
