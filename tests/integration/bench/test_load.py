"""The load client, against a server that does what the test says."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

from bench.load import Requests, closed_loop, open_loop

Answer = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]
GET = b"GET /orders HTTP/1.1\r\n\r\n"


@asynccontextmanager
async def server(answer: Answer) -> AsyncGenerator[int]:
    """On a free port; `answer` gets each request."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while not reader.at_eof():
                await answer(await reader.readuntil(b"\r\n\r\n"), writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has what it wanted
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        yield listening.sockets[0].getsockname()[1]


def ok(status: int = 200, body: bytes = b"{}") -> bytes:
    return b"HTTP/1.1 %d OK\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body)


async def test_each_request_has_its_own_number_and_each_status_is_counted() -> None:
    seen: list[bytes] = []

    async def answer(request: bytes, writer: asyncio.StreamWriter) -> None:
        seen.append(request)
        writer.write(ok(429 if len(seen) % 10 == 0 else 202))

    async with server(answer) as port:
        requests = Requests([b"GET /a/", b"GET /b/"], b" HTTP/1.1\r\n\r\n")
        answers = await asyncio.to_thread(closed_loop, port, requests, 1_000, 4, 0.3)

    assert sorted(seen)[0].startswith(b"GET /a/1000 ")
    assert len(set(seen)) == len(seen) == answers.statuses.total() == len(answers.latencies)
    assert answers.statuses[429] == len(seen) // 10
    assert set(answers.statuses) == {202, 429}


async def test_an_answer_in_pieces_is_one_answer() -> None:
    async def answer(request: bytes, writer: asyncio.StreamWriter) -> None:
        whole = ok(body=b"\r\n\r\nHTTP/1.1 500 ")
        for end in range(0, len(whole), 9):
            writer.write(whole[end : end + 9])
            await writer.drain()
            await asyncio.sleep(0)

    async with server(answer) as port:
        answers = await asyncio.to_thread(open_loop, port, [GET], 200, 2, 0.2)

    assert answers.statuses == Counter({200: 40})


async def test_a_connection_that_is_closed_counts_as_no_answer() -> None:
    async def answer(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with server(answer) as port:
        answers = await asyncio.to_thread(closed_loop, port, Requests([b"GET /"], b" HTTP/1.1\r\n\r\n"), 0, 3, 0.2)

    assert answers.statuses == Counter({0: 3})


async def test_a_stall_is_seen_by_every_request_that_was_due_meanwhile() -> None:
    stalls_until = time.monotonic() + 0.5

    async def answer(request: bytes, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(stalls_until - time.monotonic())
        writer.write(ok())

    async with server(answer) as port:
        answers = await asyncio.to_thread(open_loop, port, [GET], 100, 1, 1.0)

    assert answers.statuses == Counter({200: 100})
    assert sum(latency > 0.1 for latency in answers.latencies) >= 20  # a closed loop would have seen one
