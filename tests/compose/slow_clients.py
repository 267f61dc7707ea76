"""Clients that send almost nothing, as a program of its own: `python slow_clients.py COUNT SECONDS`.

A third each: half a header and then silence, one byte of a header per second, nothing at all. Prints "open" once all
are connected; whoever is cut off comes back.
"""

import asyncio
import sys
from contextlib import suppress

ADDRESS = ("127.0.0.1", 8000)
HALF_A_HEADER = b"GET /v1/catalog HTTP/1.1\r\nHost: slow\r\nX-Half: "
SLOW_BODY = (
    b"POST /v1/orders HTTP/1.1\r\nHost: slow\r\nAuthorization: %s\r\nContent-Type: application/json\r\n"
    b"Content-Length: 1000\r\n\r\n"
)


async def seconds_until_closed(first: bytes, *, every_second: bytes, within: float) -> float:
    """Connect, send `first` and then a byte per second (or nothing); how long the other side bears that."""
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection(*ADDRESS)
    started = loop.time()
    writer.write(first)

    async def trickle() -> None:
        while every_second:
            await asyncio.sleep(1)
            writer.write(every_second)

    trickling = asyncio.create_task(trickle())
    try:
        with suppress(ConnectionError):
            async with asyncio.timeout(within):
                await reader.read()
        return loop.time() - started
    finally:
        trickling.cancel()
        writer.close()


async def attack(count: int, seconds: float) -> None:
    kinds = [(HALF_A_HEADER, b""), (HALF_A_HEADER, b"a"), (b"", b"")]

    async def one(number: int) -> None:
        first, every_second = kinds[number % len(kinds)]
        while True:
            with suppress(OSError, TimeoutError):
                await seconds_until_closed(first, every_second=every_second, within=30)

    async with asyncio.TaskGroup() as tasks:
        clients = [tasks.create_task(one(number)) for number in range(count)]
        await asyncio.sleep(1)
        print("open", flush=True)
        await asyncio.sleep(seconds)
        for client in clients:
            client.cancel()


if __name__ == "__main__":
    asyncio.run(attack(int(sys.argv[1]), float(sys.argv[2])))
