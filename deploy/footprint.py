"""`make footprint`: what the core of the compose stack takes, against deploy/compose/budget.toml. Exit 1 above it.

It starts the stack under a project name and with volumes of its own, and removes it at the end. Memory is what
`docker stats` shows, without the page cache that can be given back; images must be there already.
"""

import json
import os
import subprocess
import sys
import time
import tomllib
import urllib.request
from pathlib import Path

from local_stack.keys import token

ROOT = Path(__file__).parents[1]
COMPOSE = ["docker", "compose", "--project-name", "headrace-footprint"]
URL = "http://127.0.0.1:8000"
SKU = "cd-1-1177"
UNITS = {"B": 1e-6, "KiB": 1.024e-3, "MiB": 1.048576, "GiB": 1073.741824}
REST_S = 10


def main() -> int:
    budget = tomllib.loads((ROOT / "deploy/compose/budget.toml").read_text(encoding="utf-8"))
    orders = sys.argv[1]
    run(*COMPOSE, "build", "--quiet")
    try:
        figures = measure(orders)
    finally:
        run(*COMPOSE, "down", "--volumes", "--timeout", "30")
    for name, value in figures.items():
        verdict = "" if value <= budget[name] else "  TOO MUCH"
        print(f"{name.replace('_', ' '):28} {value:8.1f}  of {budget[name]:,}{verdict}")
    return 0 if all(value <= budget[name] for name, value in figures.items()) else 1


def measure(orders: str) -> dict[str, float]:
    started = time.monotonic()
    run(*COMPOSE, "up", "--detach", "--wait", "--wait-timeout", "180")
    healthy = time.monotonic() - started
    wait_until_confirmed(place_order())
    confirmed = time.monotonic() - started
    containers = run(*COMPOSE, "ps", "--quiet").split()
    time.sleep(REST_S)  # so that "at rest" is at rest
    at_rest = memory_mb(containers)
    return {
        "containers": len(containers),
        "memory_at_rest_mb": at_rest,
        "memory_under_load_mb": max(at_rest, memory_under_load_mb(containers, orders)),
        "largest_image_mb": largest_image_mb(containers),
        "seconds_to_healthy": healthy,
        "seconds_to_first_confirmed": confirmed,
    }


def place_order() -> str:
    answer = call("POST", "/v1/orders", {"currency": "USD", "lines": [{"sku": SKU, "quantity": 1}]})
    return str(answer["order_id"])


def wait_until_confirmed(order_id: str) -> None:
    deadline = time.monotonic() + 60
    while call("GET", f"/v1/orders/{order_id}")["status"] != "confirmed":
        if time.monotonic() > deadline:
            raise SystemExit("the first order was not confirmed within 60 s")
        time.sleep(0.1)


def call(method: str, path: str, body: dict[str, object] | None = None) -> dict[str, object]:
    bearer = f"Bearer {token(ROOT / 'deploy/compose', 'footprint')}"
    headers = {"Authorization": bearer, "Content-Type": "application/json"}
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(URL + path, data=data, headers=headers, method=method)  # noqa: S310 - our own address
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        return json.load(answer)


def memory_under_load_mb(containers: list[str], orders: str) -> float:
    """The most that was seen while real orders flow through."""
    command = [sys.executable, "-m", "demo", "run", "--stack", "compose", "--orders", orders]
    environment = os.environ | {"HEADRACE_RUN_DIR": ".run/footprint"}
    most = 0.0
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL) as load:
        while load.poll() is None:
            most = max(most, memory_mb(containers))
    if load.returncode != 0:
        raise SystemExit("the orders of the load do not reconcile: make demo STACK=compose")
    return most


def memory_mb(containers: list[str]) -> float:
    used = run("docker", "stats", "--no-stream", "--format", "{{.MemUsage}}", *containers)
    return sum(megabytes(line.split(" / ")[0]) for line in used.splitlines())


def megabytes(text: str) -> float:
    unit = text.lstrip("0123456789.")
    return float(text.removesuffix(unit)) * UNITS[unit]


def largest_image_mb(containers: list[str]) -> float:
    """Of ours."""
    images = run("docker", "inspect", "--format", "{{.Config.Image}}", *containers).split()
    ours = {image for image in images if image.startswith("headrace/")}
    return max(int(size) / 1e6 for size in run("docker", "image", "inspect", "--format", "{{.Size}}", *ours).split())


def run(*command: str) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: {done.stderr}")
    return done.stdout


if __name__ == "__main__":
    raise SystemExit(main())
