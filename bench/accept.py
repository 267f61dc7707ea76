"""`make bench-accept`: how many orders one gateway accepts, with everything on, beside the textbook app.

Rule: rounds of the two take turns, so that a slow minute of the machine hits both; medians of the rounds are compared.
10,000 customers in turn, every order under a key of its own. Anything but a 202 makes the run worthless.
"""

import asyncio
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from statistics import median
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from bench import machine
from bench.load import Answers, Requests, closed_loop
from bench.servers import Bench, BenchError, running_bench
from bench.steps import Inputs, Step, measure_steps
from demo.tokens import Tokens, load_private_key
from local_stack import keys
from local_stack.supervisor import StackFailedError

CUSTOMERS = 10_000
ROUNDS = int(os.environ.get("ROUNDS", "3"))
ROUND_S = float(os.environ.get("ROUND_S", "5"))
GOALS = {64: 1.0, 256: 1.3}  # connections: at least this many times the 202s of the textbook app
BODY = b'{"currency":"USD","lines":[{"sku":"cd-1177","quantity":2},{"sku":"cd-2940","quantity":1}]}'
PROCESSES = {"ours": ("gateway", "valkey", "kafka"), "textbook": ("textbook", "kafka")}


@dataclass(frozen=True, slots=True)
class Round:
    """`cpu_us`: microseconds of CPU per request, of each process that took part and of the client."""

    target: str
    connections: int
    accepted_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: dict[str, float]


class Rounds:
    def __init__(self, bench: Bench, load: "Callable[..., Any]") -> None:
        self._ports = {"ours": bench.gateway_port, "textbook": bench.textbook_port}
        self._bench, self._load, self._sent = bench, load, 0
        self._requests = order_requests(bench)

    async def run(self, target: str, connections: int) -> Round:
        """One round. Raises BenchError when anything but 202 was answered."""
        pids = {name: self._bench.pid(name) for name in PROCESSES[target]}
        before = {name: cpu_s_of(pid) for name, pid in pids.items()}
        answers: Answers = await self._load(
            closed_loop, self._ports[target], self._requests, self._sent, connections, ROUND_S
        )
        total = answers.statuses.total()
        used = {name: cpu_s_of(pid) - before[name] for name, pid in pids.items()} | {"client": answers.cpu_s}
        self._sent += total + connections
        if set(answers.statuses) != {202}:
            raise BenchError(f"{target} at {connections} connections did not only accept: {dict(answers.statuses)}")
        return Round(
            target,
            connections,
            round(total / answers.seconds, 1),
            round(answers.percentile_ms(50), 2),
            round(answers.percentile_ms(99), 2),
            {name: round(1e6 * seconds / total, 1) for name, seconds in used.items()},
        )

    async def warm_up(self) -> None:
        """Until every customer's token was seen, and the textbook app did as much."""
        for target in PROCESSES:
            start = self._sent
            while self._sent < start + CUSTOMERS:
                await self.run(target, 64)


def bearers(bench: Bench) -> list[str]:
    tokens = Tokens(load_private_key(keys.private_key_file(bench.run_dir)), issuer=keys.ISSUER, audience=keys.AUDIENCE)
    return [tokens.bearer(f"customer-{number}") for number in range(CUSTOMERS)]


def order_requests(bench: Bench) -> Requests:
    heads = [
        f"POST /v1/orders HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {len(BODY)}\r\n"
        f"Authorization: {bearer}\r\nIdempotency-Key: ".encode()
        for bearer in bearers(bench)
    ]
    return Requests(heads, b"\r\n\r\n" + BODY)


def step_inputs(bench: Bench) -> Inputs:
    return Inputs(
        bench.kafka, bench.redis_url, keys.public_key_file(bench.run_dir).read_bytes(), bearers(bench)[:1_000], BODY
    )


async def measure() -> dict[str, Any]:
    """The whole run: rounds, medians, goals, steps."""
    results = machine.here() | {"round_s": ROUND_S, "customers": CUSTOMERS, "lines": 2}
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        loop = asyncio.get_running_loop()
        async with running_bench() as bench:
            rounds = Rounds(bench, lambda *arguments: loop.run_in_executor(pool, *arguments))
            await rounds.warm_up()
            done = [
                await rounds.run(target, connections)
                for _ in range(ROUNDS)
                for connections in GOALS
                for target in PROCESSES
            ]
            steps: list[Step] = await loop.run_in_executor(pool, measure_steps, step_inputs(bench))
    medians = [_median([r for r in done if (r.target, r.connections) == (t, c)]) for c in GOALS for t in PROCESSES]
    return results | {
        "goals": [_goal(connections, medians) for connections in GOALS],
        "medians": [asdict(m) for m in medians],
        "rounds": [asdict(r) for r in done],
        "steps": [asdict(step) for step in [*steps, _server_step(steps, medians)]],
    }


def _median(rounds: list[Round]) -> Round:
    first = rounds[0]
    return Round(
        first.target,
        first.connections,
        median(r.accepted_per_s for r in rounds),
        median(r.p50_ms for r in rounds),
        median(r.p99_ms for r in rounds),
        {name: median(r.cpu_us[name] for r in rounds) for name in first.cpu_us},
    )


def _goal(connections: int, medians: list[Round]) -> dict[str, Any]:
    """`cpu_ratio`: the same of the 202s per second of CPU; on a machine that is busy with others it shows more."""
    pair = {m.target: m for m in medians if m.connections == connections}
    ratio = pair["ours"].accepted_per_s / pair["textbook"].accepted_per_s
    return {
        "connections": connections,
        "at_least": GOALS[connections],
        "ratio": round(ratio, 3),
        "cpu_ratio": round(pair["textbook"].cpu_us["textbook"] / pair["ours"].cpu_us["gateway"], 3),
        "met": ratio >= GOALS[connections],
    }


def _server_step(steps: list[Step], medians: list[Round]) -> Step:
    """What is left of the gateway's CPU: uvicorn, httptools, the sockets, waiting batches."""
    cost = {step.step: step.cpu_us for step in steps}
    known = ("the whole request in the application", "admit, 20 in a batch", "settle, 20 in a batch")
    total = next(m.cpu_us["gateway"] for m in medians if (m.target, m.connections) == ("ours", 64))
    left = total - sum(cost[name] for name in (*known, "publish, 20 in a batch"))
    return Step("the server around it (the rest, at 64 connections)", left, left)


def cpu_s_of(pid: int) -> float:
    """Of the process and what it started."""
    process = psutil.Process(pid)
    times = [p.cpu_times() for p in (process, *process.children(recursive=True))]
    return sum(t.user + t.system for t in times)


def show(results: dict[str, Any]) -> None:
    console = Console()
    table = Table("app", "connections", "202/s", "p50 ms", "p99 ms", "CPU µs per order")
    for row in results["medians"]:
        cpu = "  ".join(f"{name} {us:.0f}" for name, us in row["cpu_us"].items())
        numbers = (f"{row['accepted_per_s']:,.0f}", f"{row['p50_ms']:.1f}", f"{row['p99_ms']:.1f}")
        table.add_row(row["target"], str(row["connections"]), *numbers, cpu)
    console.print(table)
    steps = Table("step of the accept path", "CPU µs", "wall µs")
    for step in results["steps"]:
        steps.add_row(step["step"], f"{step['cpu_us']:.1f}", f"{step['wall_us']:.1f}")
    console.print(steps)
    for goal in results["goals"]:
        verdict = "met" if goal["met"] else "MISSED"
        print(
            f"{goal['connections']} connections: {goal['ratio']:.2f} times the textbook app's 202/s"
            f" ({goal['cpu_ratio']:.2f} times per second of CPU); wanted {goal['at_least']}: {verdict}"
        )


def main() -> None:
    try:
        results = asyncio.run(measure())
    except (BenchError, StackFailedError) as error:
        sys.exit(str(error))
    machine.save("accept", results)
    show(results)


if __name__ == "__main__":
    main()
