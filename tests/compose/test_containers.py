"""What the containers are allowed to do, as inspected while they run."""

import json
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

from compose.stack import CANARY, ROOT, SECRETS, Compose, docker, holds
from demo.tokens import Tokens, load_private_key
from eventually import eventually

pytestmark = pytest.mark.timeout(400)
ENVIRONMENT = {"HEADRACE_SECRETS": str(SECRETS)}


def inspected(compose: Compose) -> list[dict[str, Any]]:
    return json.loads(docker("inspect", *compose.containers()))


def test_the_core_is_healthy_within_90_seconds_in_at_most_10_containers(compose: Compose) -> None:
    health = [container["State"]["Health"]["Status"] for container in inspected(compose)]

    assert set(health) == {"healthy"}
    assert len(health) <= 10
    assert compose.seconds_to_healthy <= 90


def test_no_container_is_root_or_can_become_it_or_writes_to_its_image(compose: Compose) -> None:
    for container in inspected(compose):
        name, host = container["Name"], container["HostConfig"]
        assert container["Config"]["User"].split(":")[0] not in ("", "0", "root"), name
        assert docker("exec", container["Id"], "id", "-u").strip() != "0", name
        assert host["ReadonlyRootfs"], name
        assert host["CapDrop"] == ["ALL"], name
        assert not host["CapAdd"], name
        assert "no-new-privileges:true" in host["SecurityOpt"], name


def test_every_container_has_limits_and_listens_on_the_loopback_only(compose: Compose) -> None:
    for container in inspected(compose):
        name, host = container["Name"], container["HostConfig"]
        assert host["Memory"] > 0, name
        assert host["NanoCpus"] > 0, name
        ports: dict[str, list[dict[str, str]]] = host["PortBindings"] or {}
        assert {binding["HostIp"] for bindings in ports.values() for binding in bindings} <= {"127.0.0.1"}, name


def test_no_secret_is_in_an_image(compose: Compose) -> None:
    images = {container["Config"]["Image"] for container in inspected(compose)}
    ours = {image for image in images if image.startswith("headrace/")}
    of_development = (ROOT / "deploy/compose/development/database_url").read_text(encoding="utf-8").strip()

    assert len(ours) == 4
    for image in ours:
        assert holds(image, "opt/venv/bin/python"), "the search does not look into layers"
        assert not holds(image, CANARY, of_development), image  # the second one was in reach of the build
        assert CANARY not in docker("history", "--no-trunc", image) + docker("image", "inspect", image)


async def test_no_secret_is_in_an_error_answer_a_log_or_what_docker_shows(compose: Compose) -> None:
    """With the database away, because that is when its address is on everybody's lips."""
    (postgres,) = compose.containers("postgres")
    compose.kill(postgres)
    try:
        answers = await bad_answers()
        await eventually(lambda: "consumer_blocked" in compose.run("logs", "workers"), within=30)
    finally:
        compose.start(postgres)
    await eventually(lambda: compose.count_confirmed() >= 1, within=60)

    assert {400, 401, 404, 422, 503} <= answers.keys()
    assert CANARY not in str(answers)
    assert CANARY not in json.dumps(inspected(compose))
    assert CANARY not in compose.run("logs", "--no-color")


async def bad_answers() -> dict[int, str]:
    """What a client gets for what is wrong in turn with its request and with us, by status."""
    key = load_private_key(ROOT / "deploy/compose/keys/private.pem")
    headers = {"Authorization": Tokens(key, issuer="headrace-dev", audience="headrace").bearer("curious")}
    order = '{"currency": "USD", "lines": [{"sku": "cd-1-1177", "quantity": 1}]}'
    answers: dict[int, str] = {}
    async with aiohttp.ClientSession("http://127.0.0.1:8000", headers={"Content-Type": "application/json"}) as session:

        async def ask(method: str, path: str, body: str = "", **more: str) -> None:
            async with session.request(method, path, data=body, headers=more) as answer:
                answers[answer.status] = answers.get(answer.status, "") + await answer.text() + str(answer.headers)

        await ask("POST", "/v1/orders", order)
        await ask("POST", "/v1/orders", "no order", **headers)
        await ask("POST", "/v1/orders", '{"currency": "EUR", "lines": []}', **headers)
        await ask("POST", "/v1/orders", order, **headers)
        await ask("GET", f"/v1/orders/{uuid4()}", **headers)
        await ask("GET", "/nowhere", **headers)
        await ask("GET", "/metrics", **headers)
    return answers


def test_our_images_hold_no_tool_to_build_with(compose: Compose) -> None:
    look = "for tool in pip pip3 uv gcc cc make git strip; do command -v $tool && exit 1; done; exit 0"
    for service in ("gateway", "orders", "workers", "payment-provider"):
        (container, *_) = compose.containers(service)
        docker("exec", container, "sh", "-c", look)


def test_every_process_exits_0_after_sigterm(compose: Compose) -> None:
    for service in ("gateway", "orders", "workers", "payment-provider"):
        (container, *_) = compose.containers(service)
        docker("stop", "--time", "30", container)
        code = compose.exit_code(container)
        docker("start", container)
        assert code == 0, service
    compose.run("up", "--detach", "--wait")  # again: migrating twice is harmless
