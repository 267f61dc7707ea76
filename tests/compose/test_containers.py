"""What the containers are allowed to do, as inspected while they run."""

import json
from typing import Any

import pytest

from compose.stack import Compose, docker

pytestmark = pytest.mark.timeout(400)


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


def test_no_secret_is_in_the_environment_or_in_a_log(compose: Compose) -> None:
    password = "headrace-dev@"  # as it stands in the address of the database

    assert password not in json.dumps(inspected(compose))
    assert password not in compose.run("logs", "--no-color")


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
