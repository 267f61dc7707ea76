"""Members of the group of order_writer, each a process of its own."""

import asyncio
import os
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from builders import worker_environment
from eventually import eventually
from local_stack.network import HOST, free_ports
from local_stack.servers import Addresses


class Members:
    def __init__(self, servers: Addresses, log: Path) -> None:
        self._servers, self._log = servers, log
        self._living: list[Process] = []

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._living]

    async def join(self) -> None:
        """Returns once the new member is in the group."""
        port = next(free_ports())
        environment = os.environ | worker_environment(self._servers, port)
        with self._log.open("a") as log:
            command = [sys.executable, "-m", "workers.main", "order_writer"]
            self._living.append(await asyncio.create_subprocess_exec(*command, env=environment, stdout=log, stderr=log))
        await eventually(lambda: is_ready(port), within=45)

    async def leave(self) -> None:
        """The oldest is told to, and must do it well."""
        process = self._living.pop(0)
        process.terminate()
        assert await process.wait() == 0, self._log.read_text()[-2_000:]

    async def kill(self) -> None:
        process = self._living.pop(0)
        process.kill()
        await process.wait()

    async def kill_all(self) -> None:
        while self._living:
            await self.kill()


@asynccontextmanager
async def order_writers(servers: Addresses, folder: Path, count: int) -> AsyncGenerator[Members]:
    members = Members(servers, folder / "members.log")
    try:
        async with asyncio.TaskGroup() as joins:
            for _ in range(count):
                joins.create_task(members.join())
        yield members
    finally:
        await members.kill_all()


async def is_ready(admin_port: int) -> bool:
    try:
        async with aiohttp.ClientSession() as client, client.get(f"http://{HOST}:{admin_port}/readyz") as answer:
            return answer.status == 200
    except aiohttp.ClientConnectionError:
        return False
