"""One proof: customers order while faults strike, the guarantees are checked on the way, and in full after healing."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from common.errors import InfrastructureError
from tests.prove.calls import CallLog
from tests.prove.customers import Customers, new_session
from tests.prove.evidence import TOPICS, Entry, Evidence
from tests.prove.gather import Gatherer
from tests.prove.guarantees import Verdict, judge
from tests.prove.load import Plan
from tests.prove.log_tail import LogTail
from tests.prove.schedule import Fault
from tests.prove.stack import Stack

HEALS_WITHIN_S = 60.0
Say = Callable[[str], None]
ENDS = {"OrderConfirmed": "confirmed", "OrderRejected": "rejected", "OrderCancelled": "cancelled"}


@dataclass(frozen=True, slots=True)
class Struck:
    """A fault as it really was, in seconds since the first order was due. `came_back`: what was hit works again."""

    fault: Fault
    began: float
    ended: float
    came_back: bool


@dataclass(slots=True)
class Look:
    """One look at the books during the faults; `skipped` says why there was none."""

    at: float
    verdicts: list[Verdict] = field(default_factory=list[Verdict])
    lag: int = 0
    skipped: str = ""


@dataclass(slots=True)
class Proof:
    """All that is known after a run. `ends`: when the end of each order was in the log. `final_after_s`: None when not
    every order was final in time."""

    evidence: Evidence
    verdicts: list[Verdict]
    looks: list[Look]
    struck: list[Struck]
    ends: list[tuple[float, str, str]]
    healed_at: float
    final_after_s: float | None
    took_s: float = 0.0

    @property
    def broken(self) -> dict[str, list[str]]:
        """What was seen of each broken guarantee, at the end or on the way."""
        seen: dict[str, dict[str, None]] = {}  # in their order, each once
        for verdict in [*self.verdicts, *(v for look in self.looks for v in look.verdicts)]:
            if verdict.broken:
                seen.setdefault(verdict.guarantee.id, {}).update(dict.fromkeys(verdict.broken))
        return {guarantee: list(sentences) for guarantee, sentences in seen.items()}


async def prove(
    stack: Stack,
    plans: Sequence[Plan],
    faults: Sequence[Fault],
    *,
    out: Path,
    check_every_s: float,
    say: Say,
    until_broken: bool = False,
) -> Proof:
    """With `until_broken` nobody is waited for once a guarantee is broken, and what is about the end is not judged.

    Raises InfrastructureError when the books cannot be read even after healing.
    """
    started = time.monotonic()
    ends: list[tuple[float, str, str]] = []

    def note_end(entry: Entry) -> None:
        if entry.kind in ENDS:
            ends.append((entry.seen_at, entry.order_id, ENDS[entry.kind]))

    with CallLog(out / "calls.jsonl") as calls:
        async with (
            LogTail.reading(stack.where, TOPICS, calls.now) as tail,
            Gatherer.on(stack.where, calls, tail) as gatherer,
            new_session(stack.where.gateway_url) as session,
        ):
            tail.on_entry = note_end
            run = _Run(stack, calls, gatherer, say, check_every_s, until_broken=until_broken)
            customers = Customers(session, stack.where.tokens(), calls)
            async with asyncio.TaskGroup() as tasks:
                ordering = tasks.create_task(customers.order_all(plans))
                looking = tasks.create_task(run.look_every_so_often())
                await asyncio.sleep(0)
                await run.strike_all(faults)
                healed_at = max(calls.now(), plans[-1].due)
                customers.give_up = healed_at + HEALS_WITHIN_S
                say(f"{healed_at:6.1f} s  healed: every order has {HEALS_WITHIN_S:.0f} s to end")
                not_final, final_after_s = await run.wait_for_ends(customers, ordering, healed_at)
                looking.cancel()
                ordering.cancel()
            evidence = await gatherer.gather_all()
            evidence.final = not run.seen_enough
            evidence.not_final, evidence.not_ready = not_final, await stack.not_ready()
    verdicts = judge(evidence)
    return Proof(evidence, verdicts, run.looks, run.struck, ends, healed_at, final_after_s, time.monotonic() - started)


class _Run:
    def __init__(
        self, stack: Stack, calls: CallLog, gatherer: Gatherer, say: Say, check_every_s: float, *, until_broken: bool
    ) -> None:
        self._stack, self._calls, self._gatherer, self._say = stack, calls, gatherer, say
        self._check_every_s, self._until_broken = check_every_s, until_broken
        self._told: set[str] = set()  # of which broken guarantee we have spoken
        self.looks: list[Look] = []
        self.struck: list[Struck] = []

    @property
    def seen_enough(self) -> bool:
        return self._until_broken and bool(self._told)

    async def strike_all(self, faults: Sequence[Fault]) -> None:
        """Every fault at its moment; returns when the last one is over."""
        async with asyncio.TaskGroup() as tasks:
            for fault in faults:
                tasks.create_task(self._strike(fault))

    async def _strike(self, fault: Fault) -> None:
        await asyncio.sleep(fault.at - self._calls.now())
        async with self._stack.turn(fault):
            self._say(str(fault))
            began, came_back = self._calls.now(), True
            try:
                await self._stack.strike(fault)
            except AssertionError as error:
                self._say(f"{self._calls.now():6.1f} s  {fault.target} did not come back: {error}")
                came_back = False
        self.struck.append(Struck(fault, began, self._calls.now(), came_back))

    async def look_every_so_often(self) -> None:
        while True:
            await asyncio.sleep(self._check_every_s)
            look = Look(self._calls.now())
            try:
                look.verdicts = await asyncio.to_thread(judge, await self._gatherer.gather())
                look.lag = self._gatherer.lag
            except InfrastructureError as error:
                look.skipped = str(error)
            self.looks.append(look)
            for verdict in look.verdicts:
                if verdict.broken and verdict.guarantee.id not in self._told:
                    self._told.add(verdict.guarantee.id)
                    self._say(f"{look.at:6.1f} s  {verdict.guarantee.id} is broken: {verdict.broken[0]}")

    async def wait_for_ends(
        self, customers: Customers, ordering: "asyncio.Task[None]", healed_at: float
    ) -> tuple[dict[str, str], float | None]:
        """Wait until every customer is content and every accepted order is final: what is not in time, and how long it
        took until all were."""
        rest: dict[str, str] = {}
        final_after_s: float | None = None
        while self._calls.now() < healed_at + HEALS_WITHIN_S and not self.seen_enough:
            accepted = {e.call.order_id for e in self._calls.exchanges if e.accepted}
            with suppress(InfrastructureError):
                rest = await self._gatherer.not_final(sorted(accepted))
                if not rest and not customers.placing and final_after_s is None:
                    final_after_s = self._calls.now() - healed_at
                if not rest and ordering.done() and not await self._stack.not_ready():
                    break
            await asyncio.sleep(0.25)
        return rest, final_after_s
