"""The real servers, each asked to do its work."""

import os
import signal
from pathlib import Path

import asyncpg  # pyright: ignore[reportMissingTypeStubs]
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer  # pyright: ignore[reportMissingTypeStubs]

from eventually import eventually
from local_stack import servers
from local_stack.network import first_line, free_ports
from local_stack.process import State
from local_stack.servers import embedded_servers
from local_stack.supervisor import supervised


async def test_all_three_servers_are_ready_to_work(tmp_path: Path) -> None:
    async with embedded_servers(tmp_path) as addresses:
        assert await query(addresses.database_url, "SELECT current_database()") == "headrace"
        assert await first_line(int(addresses.redis_url.rpartition(":")[2][:-2]), "PING\r\n") == "+PONG"
        assert await round_trip(addresses.kafka_bootstrap_servers, b"an order") == b"an order"


async def test_a_killed_postgres_comes_back_with_what_was_committed(tmp_path: Path) -> None:
    port = next(free_ports())
    url = servers.database_url(port)
    stages = [servers.initdb(tmp_path), [servers.postgres(tmp_path, port)]]
    async with supervised(tmp_path, stages) as supervisor:
        postgres = supervisor.processes["postgres"]
        await query(url, "CREATE TABLE kept AS SELECT 42 AS answer")

        os.kill(postgres.pid or 0, signal.SIGKILL)

        await eventually(lambda: postgres.restarts > 0 and postgres.state is State.RUNNING, within=15)
        assert await query(url, "SELECT answer FROM kept") == 42


@pytest.mark.skipif(os.geteuid() != 0, reason="only root must give way to another user")
async def test_as_root_postgres_can_reach_a_folder_below_a_private_one(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)

    async with supervised(private, [servers.initdb(private)]):
        assert (private / "postgres" / "PG_VERSION").exists()
        assert private.stat().st_mode & 0o777 == 0o701


async def query(url: str, sql: str) -> object:
    connection = await asyncpg.connect(url, timeout=5)  # pyright: ignore
    try:
        return await connection.fetchval(sql)  # pyright: ignore
    finally:
        await connection.close(timeout=5)  # pyright: ignore


async def round_trip(bootstrap_servers: str, value: bytes) -> bytes | None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap_servers, acks="all") as producer:
        await producer.send_and_wait("probe", value)  # pyright: ignore[reportUnknownMemberType]
    async with AIOKafkaConsumer(
        "probe", bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest", fetch_max_wait_ms=10
    ) as consumer:
        return (await consumer.getone()).value  # pyright: ignore
