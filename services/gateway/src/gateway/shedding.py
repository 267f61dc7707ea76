"""Load shedding: refuse at once, and cheaply, what could only be answered late.

Problem: a door that takes in more than it can do answers everybody late. Clients give up and come again, the work that
was done for them is lost, and the more is offered the less gets done (congestion collapse).
Rule: a call that writes (POST) is refused before its body is read, with 503 and `Retry-After`, while as many as may
wait for their ack already do (`full`), or while an order that was accepted longer ago than `max_lag_s` is not written
yet (`lag`). The seconds to wait are drawn at random, so that those refused together do not come back together.
Guarantees: what is refused is surely not in the log. Reads and probes are never refused here.
Limits: each gateway decides by itself. The lag is known with a delay (gateway.backlog), so it sheds in waves.
Source: "Using load shedding to avoid overload", Amazon Builders' Library; "Handling Overload", Site Reliability
Engineering, chapter 21.
"""

import asyncio
import random
from collections.abc import Callable
from enum import StrEnum
from functools import cache

from prometheus_client import Counter
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from common.telemetry.metrics import HTTP_REQUESTS, REQUESTS_SHED
from gateway.problems import LAGGING, OVERLOADED, Problem, render

ROUTE = "shed"  # in the metrics: it was refused before anybody looked where it wanted to go


class Reason(StrEnum):
    FULL = "full"
    LAG = "lag"


PROBLEMS = {Reason.FULL: OVERLOADED, Reason.LAG: LAGGING}
RETRY_AFTER_S = {Reason.FULL: range(1, 4), Reason.LAG: range(10, 31)}  # waiting acks are soon gone, a lag is not


class Shedding:
    """`full(more)`: with so many more, as much waits as may. `lag_s()`: the age of the oldest order not written."""

    def __init__(self, *, full: Callable[[int], bool], lag_s: Callable[[], float], max_lag_s: float) -> None:
        self._full, self._lag_s, self._max_lag_s = full, lag_s, max_lag_s
        self._on_their_way = 0

    def reason(self) -> Reason | None:
        """Why the next call that writes must be refused; None while it need not."""
        if self._full(self._on_their_way):
            return Reason.FULL
        return Reason.LAG if self._lag_s() > self._max_lag_s else None

    def let_in(self) -> None:
        """A call is on its way to the app. Until that sees it, in the next turn of the event loop, it is counted here:
        under overload many come in one turn, and all but a few would be refused by the app, at three times the cost."""
        if not self._on_their_way:
            asyncio.get_running_loop().call_soon(self._arrived)
        self._on_their_way += 1

    def _arrived(self) -> None:
        self._on_their_way = 0


def count(reason: Reason) -> None:
    """Outside of gateway.observe, so that a refusal costs no more than it must."""
    for counter in _counters(reason):
        counter.inc()


@cache  # finding a metric by its labels costs more than counting
def _counters(reason: Reason) -> tuple[Counter, Counter]:
    return REQUESTS_SHED.labels(reason), HTTP_REQUESTS.labels(ROUTE, "POST", 503)


class Shed:
    """Around the whole app."""

    def __init__(self, app: ASGIApp, shedding: Shedding) -> None:
        self._app, self._shedding = app, shedding

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or (reason := self._shedding.reason()) is None:
            await self._app(scope, receive, send)
            return
        count(reason)
        problem = Problem(PROBLEMS[reason], headers={"Retry-After": str(random.choice(RETRY_AFTER_S[reason]))})  # noqa: S311
        await render(Request(scope), problem)(scope, receive, send)
