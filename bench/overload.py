"""`make bench-overload`: what one gateway does when more is offered than it can accept.

Rule: first the capacity, in a closed loop; then 1.5 and 3 times as much in an open loop, for a minute each. Accepted
per second (goodput) must not fall with the load, who is accepted must not wait long, who is refused must know at once;
and when it is over, it must be over.
"""

import asyncio
import os
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from statistics import median
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from bench import machine
from bench.accept import CUSTOMERS, cpu_s_of, order_requests
from bench.flood import Flood, flood
from bench.load import Answers, closed_loop
from bench.servers import Bench, BenchError, running_door
from local_stack.supervisor import StackFailedError

OVERLOAD_S = float(os.environ.get("OVERLOAD_S", "60"))
CAPACITY_S, ROUNDS, CAPACITY_CONNECTIONS = 8.0, 3, 256
CONNECTIONS = 2_000  # more than wait at any time, or the client would be what holds back the flood
GOODPUT = {1.5: 0.9, 3.0: 0.5}  # times the capacity: at least this share of it is accepted
AT_REST = 0.5  # of the capacity: before, and again afterwards
ACCEPTED_P99_MS, REFUSED_P50_MS, NORMAL_WITHIN_S, GROWTH_MB = 1_000, 50, 10, 100


@dataclass(frozen=True, slots=True)
class Overload:
    """One overload. `normal_after_s`: from its end to the first second that is as good as one before it."""

    times: float
    offered_per_s: float
    goodput_per_s: float
    share: float
    accepted_p50_ms: float
    accepted_p99_ms: float
    refused_per_s: float
    refused_p50_ms: float
    refused_p99_ms: float
    refused_without_retry_after: int
    not_202_or_503: int
    rss_before_mb: float
    rss_peak_mb: float
    rss_after_mb: float
    normal_after_s: float
    gateway_cores: float
    client_cores: float
    client_late_p99_ms: float
    client_queued: int


class Door:
    """The gateway under test, and the load on it from a process of its own."""

    def __init__(self, bench: Bench, pool: ProcessPoolExecutor) -> None:
        self._bench, self._pool, self._sent = bench, pool, 0
        self._requests = order_requests(bench)
        self.process = psutil.Process(bench.pid("gateway"))

    async def saturate(self, seconds: float) -> tuple[Answers, float]:
        """Closed loop; also the microseconds of the gateway's CPU for each answer."""
        used = cpu_s_of(self.process.pid)
        answers: Answers = await self._run(closed_loop, CAPACITY_CONNECTIONS, seconds)
        self._sent += answers.statuses.total() + CAPACITY_CONNECTIONS
        return answers, 1e6 * (cpu_s_of(self.process.pid) - used) / answers.statuses.total()

    async def flood(self, rate: float, seconds: float) -> Flood:
        done: Flood = await self._run(flood, rate, CONNECTIONS, seconds)
        self._sent += int(rate * seconds)
        return done

    async def warm_up(self) -> None:
        """Until the token of each customer was seen."""
        while self._sent < CUSTOMERS:
            await self.saturate(2)

    async def _run(self, load: Callable[..., Any], *arguments: float) -> Any:
        self._bench.pid("gateway")  # raises when it died
        work = (load, self._bench.gateway_port, self._requests, self._sent, *arguments)
        return await asyncio.get_running_loop().run_in_executor(self._pool, *work)


async def measure() -> dict[str, Any]:
    results = machine.here() | {"overload_s": OVERLOAD_S, "connections": CONNECTIONS, "customers": CUSTOMERS}
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        async with running_door() as bench:
            door = Door(bench, pool)
            await door.warm_up()
            rounds = [await door.saturate(CAPACITY_S) for _ in range(ROUNDS)]
            if set().union(*(answers.statuses for answers, _ in rounds)) != {202}:
                raise BenchError(f"not only 202 below the capacity: {[dict(a.statuses) for a, _ in rounds]}")
            capacity = median(answers.statuses[202] / answers.seconds for answers, _ in rounds)
            rest = await door.flood(AT_REST * capacity, 10)
            overloads = [await _overload(door, times, capacity, _p99_ms(rest, 202)) for times in GOODPUT]
        async with running_door(GATEWAY_SHED_LAG_S="0.001") as bench:  # nobody writes the orders: it sheds all
            refused_us = await _cost_of_a_refusal(Door(bench, pool))
    return results | {
        "capacity_per_s": round(capacity, 1),
        "at_rest_p99_ms": round(_p99_ms(rest, 202), 2),
        "accepted_cpu_us": round(median(us for _, us in rounds), 1),
        "refused_cpu_us": round(refused_us, 1),
        "overloads": [asdict(overload) for overload in overloads],
        "goals": [goal for overload in overloads for goal in _goals(overload)],
    }


async def _overload(door: Door, times: float, capacity: float, at_rest_p99_ms: float) -> Overload:
    before, used = _rss_mb(door.process), cpu_s_of(door.process.pid)
    async with _peak_rss_mb(door.process) as peak:
        done = await door.flood(times * capacity, OVERLOAD_S)
    used = cpu_s_of(door.process.pid) - used
    afterwards = await door.flood(AT_REST * capacity, NORMAL_WITHIN_S + 5)
    accepted = sum(due + took <= OVERLOAD_S for due, took in done.of(202))
    statuses = Counter(done.status)
    return Overload(
        times=times,
        offered_per_s=round(done.rate, 1),
        goodput_per_s=round(accepted / OVERLOAD_S, 1),
        share=round(accepted / OVERLOAD_S / capacity, 3),
        accepted_p50_ms=_ms(done, 202, 50),
        accepted_p99_ms=_ms(done, 202, 99),
        refused_per_s=round(statuses[503] / OVERLOAD_S, 1),
        refused_p50_ms=_ms(done, 503, 50),
        refused_p99_ms=_ms(done, 503, 99),
        refused_without_retry_after=done.refused_without_retry_after,
        not_202_or_503=done.unanswered + statuses.total() - statuses[202] - statuses[503],
        rss_before_mb=before,
        rss_peak_mb=peak[0],
        rss_after_mb=_rss_mb(door.process),
        normal_after_s=_normal_after_s(afterwards, worst_ms=max(100, 3 * at_rest_p99_ms)),
        gateway_cores=round(used / OVERLOAD_S, 2),
        client_cores=round(done.cpu_s / OVERLOAD_S, 2),
        client_late_p99_ms=round(1_000 * _percentile(done.late, 99), 1),
        client_queued=done.queued,
    )


def _normal_after_s(afterwards: Flood, *, worst_ms: float) -> float:
    """The end of the last second in which anything was not accepted, or 1 of 100 took longer than `worst_ms`."""
    bad = 0.0
    for second in range(int(afterwards.seconds)):
        answers = [
            (took, status)
            for due, took, status in zip(afterwards.due, afterwards.took, afterwards.status, strict=True)
            if int(due) == second
        ]
        slow = not answers or 1_000 * _percentile([took for took, _ in answers], 99) > worst_ms
        if slow or {status for _, status in answers} != {202}:
            bad = second + 1.0
    return bad


async def _cost_of_a_refusal(door: Door) -> float:
    """Microseconds of the gateway's CPU, measured while it does nothing else."""
    for _ in range(10):
        answers, cpu_us = await door.saturate(3)
        if set(answers.statuses) == {503}:
            return cpu_us
    raise BenchError("the gateway did not begin to shed by lag")


def _goals(overload: Overload) -> list[dict[str, Any]]:
    growth = overload.rss_peak_mb - overload.rss_before_mb
    at_most = {
        "accepted_p99_ms": (overload.accepted_p99_ms, ACCEPTED_P99_MS),
        "refused_p50_ms": (overload.refused_p50_ms, REFUSED_P50_MS),
        "refused_without_retry_after": (overload.refused_without_retry_after, 0),
        "not_202_or_503": (overload.not_202_or_503, 0),
        "rss_growth_mb": (round(growth, 1), GROWTH_MB),
        "normal_after_s": (overload.normal_after_s, NORMAL_WITHIN_S),
    }
    wanted = GOODPUT[overload.times]
    share = {"figure": "share", "is": overload.share, "at_least": wanted, "met": overload.share >= wanted}
    return [
        {"times": overload.times, **share},
        *(
            {"times": overload.times, "figure": figure, "is": value, "at_most": most, "met": value <= most}
            for figure, (value, most) in at_most.items()
        ),
    ]


@asynccontextmanager
async def _peak_rss_mb(process: psutil.Process) -> AsyncGenerator[list[float]]:
    """Of the block, in a list of one."""
    peak = [0.0]

    async def watch() -> None:
        while True:
            peak[0] = max(peak[0], _rss_mb(process))
            await asyncio.sleep(0.25)

    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(watch())
        yield peak
        watching.cancel()


def _rss_mb(process: psutil.Process) -> float:
    return round(process.memory_info().rss / 2**20, 1)


def _p99_ms(done: Flood, status: int) -> float:
    return _ms(done, status, 99)


def _ms(done: Flood, status: int, percent: float) -> float:
    return round(1_000 * _percentile([took for _, took in done.of(status)], percent), 2)


def _percentile(values: Any, percent: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else 0.0


_SHOWN = [name for name in Overload.__slots__ if name != "times"]


def show(results: dict[str, Any]) -> None:
    console = Console()
    print(
        f"capacity {results['capacity_per_s']:,.0f} orders/s; CPU of the gateway: {results['accepted_cpu_us']:.0f} µs"
        f" for an order, {results['refused_cpu_us']:.0f} µs for a refusal"
    )
    table = Table("", *(f"{row['times']} x" for row in results["overloads"]))
    for name in _SHOWN:
        table.add_row(name, *(f"{row[name]:,}" for row in results["overloads"]))
    console.print(table)
    for goal in results["goals"]:
        bound = f"at least {goal['at_least']}" if "at_least" in goal else f"at most {goal['at_most']}"
        print(f"{goal['times']} x: {goal['figure']} {goal['is']}; wanted {bound}: {'met' if goal['met'] else 'MISSED'}")


def main() -> None:
    try:
        results = asyncio.run(measure())
    except (BenchError, StackFailedError) as error:
        sys.exit(str(error))
    machine.save("overload", results)
    show(results)


if __name__ == "__main__":
    main()
