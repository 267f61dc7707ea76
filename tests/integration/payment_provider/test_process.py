"""The real process: killed, stopped, and started with bad settings."""

import asyncio
import json
import os
import resource
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

TERMS = {"amount_minor": 1_234, "currency": "USD", "customer_id": "customer-1"}
DEADLINE_SECONDS = 10


async def start(settings: dict[str, str], largest_file: int = resource.RLIM_INFINITY) -> asyncio.subprocess.Process:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, resource.RLIM_INFINITY))

    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PROVIDER_")}
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "payment_provider",
        env={**inherited, **settings},
        stdout=pipe,
        stderr=pipe,
        preexec_fn=limit,
    )


@asynccontextmanager
async def provider(
    ledger_file: Path, largest_file: int = resource.RLIM_INFINITY
) -> AsyncGenerator[tuple[asyncio.subprocess.Process, aiohttp.ClientSession]]:
    """A provider on a free port and a client of it; killed at the end if it still runs."""
    process = await start({"PROVIDER_LEDGER_FILE": str(ledger_file), "PROVIDER_PORT": "0"}, largest_file)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(DEADLINE_SECONDS):
            line = (await process.stdout.readline()).decode()
        async with aiohttp.ClientSession(line.split()[-1]) as client:
            yield process, client
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def stop(process: asyncio.subprocess.Process, number: signal.Signals) -> int:
    process.send_signal(number)
    async with asyncio.timeout(5):
        return await process.wait()


async def put(client: aiohttp.ClientSession, reference: str, seconds: float = 5) -> int:
    timeout = aiohttp.ClientTimeout(total=seconds)
    headers = {"Idempotency-Key": reference}
    async with client.put(f"/v1/payments/{reference}", json=TERMS, headers=headers, timeout=timeout) as response:
        return response.status


async def references(client: aiohttp.ClientSession) -> list[str]:
    async with client.get("/v1/ledger") as response:
        return [json.loads(line)["reference"] for line in (await response.text()).splitlines()]


async def charge_until_it_dies(
    client: aiohttp.ClientSession, name: str, answered: list[str], enough: asyncio.Event
) -> None:
    try:
        for number in range(100_000):
            reference = f"{name}-{number}"
            if await put(client, reference) == 201:
                answered.append(reference)
            if len(answered) >= 500:
                enough.set()
    except aiohttp.ClientError:
        return


def write_book(ledger_file: Path, size: int) -> None:
    payment = {**TERMS, "status": "captured"}
    lines = (json.dumps({**payment, "reference": f"o-{n}", "idempotency_key": f"k-{n}"}) for n in range(size))
    ledger_file.parent.mkdir()
    ledger_file.write_text("".join(f"{line}\n" for line in lines))


async def test_killed_under_load_it_forgets_nothing_that_it_answered(ledger_file: Path) -> None:
    answered: list[str] = []
    async with provider(ledger_file) as (process, client):
        enough = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for name in "abcdefgh":
                tasks.create_task(charge_until_it_dies(client, name, answered, enough))
            async with asyncio.timeout(DEADLINE_SECONDS):
                await enough.wait()
            process.kill()

    async with provider(ledger_file) as (_, client):
        kept = await references(client)
        repeated = await put(client, answered[0])

    assert len(answered) >= 500
    assert set(answered) <= set(kept)
    assert len(kept) == len(set(kept))
    assert repeated == 200


async def test_a_book_of_70_000_payments_is_read_at_start_and_streamed_whole(ledger_file: Path) -> None:
    write_book(ledger_file, 70_000)

    async with provider(ledger_file) as (_, client):
        assert await references(client) == [f"o-{number}" for number in range(70_000)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_stopped_it_exits_0(ledger_file: Path, number: signal.Signals) -> None:
    async with provider(ledger_file) as (process, client):
        await put(client, "order-1")

        assert await stop(process, number) == 0


@pytest.mark.parametrize("fault", [{"hang": True}, {"latency_ms": 60_000}])
async def test_stopped_while_requests_wait_in_a_fault_it_still_exits_0(
    ledger_file: Path, fault: dict[str, object]
) -> None:
    async with provider(ledger_file) as (process, client):
        async with client.patch("/switches", json=fault) as response:
            assert response.status == 200
        with pytest.raises(TimeoutError):
            await put(client, "order-1", seconds=0.2)

        assert await stop(process, signal.SIGTERM) == 0


@pytest.mark.parametrize(
    ("settings", "code", "named"),
    [
        ({}, 2, "PROVIDER_LEDGER_FILE"),
        ({"PROVIDER_LEDGER_FILE": "l", "PROVIDER_PORT": "many"}, 2, "PROVIDER_PORT"),
        ({"PROVIDER_LEDGER_FILE": "l", "PROVIDER_DECLINE_PERCENT": "101"}, 2, "PROVIDER_DECLINE_PERCENT"),
        ({"PROVIDER_LEDGER_FILE": "/dev/null/ledger"}, 1, "/dev/null"),
    ],
)
async def test_a_bad_setting_ends_with_one_line_that_names_it(settings: dict[str, str], code: int, named: str) -> None:
    process = await start(settings)
    async with asyncio.timeout(DEADLINE_SECONDS):
        _, errors = await process.communicate()

    assert process.returncode == code
    assert len(errors.splitlines()) == 1
    assert named in errors.decode()


async def test_a_full_disk_is_503_and_leaves_no_half_line(tmp_path: Path) -> None:
    ledger_file = tmp_path / "ledger.jsonl"
    async with provider(ledger_file, largest_file=500) as (_, client):
        statuses = [await put(client, f"order-{number}") for number in range(6)]
        remembered = await references(client)

    accepted = statuses.count(201)
    assert 0 < accepted < 6
    assert statuses == [201] * accepted + [503] * (6 - accepted)
    assert ledger_file.read_bytes().endswith(b"\n")
    async with provider(ledger_file) as (_, client):
        assert await references(client) == remembered == [f"order-{number}" for number in range(accepted)]
