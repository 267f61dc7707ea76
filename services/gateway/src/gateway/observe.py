"""The outermost layer: one span, one metric and at most one log line per request, and the last resort for errors.

Rule: pure ASGI (a BaseHTTPMiddleware hides disconnects). A line is logged for what failed and for what is traced:
at 10,000 requests/s a line each would cost more than the work.
"""

import time
from functools import cache
from typing import Any

import structlog
from opentelemetry import trace
from prometheus_client import Counter, Histogram
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from common.telemetry.metrics import HTTP_DURATION, HTTP_REQUESTS
from common.telemetry.tracing import request_span, trace_id_of
from gateway.problems import render, to_problem

log = structlog.get_logger()

_NOSNIFF = (b"x-content-type-options", b"nosniff")
_UNMATCHED = "unmatched"


class Observe:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0

        async def send_observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], _NOSNIFF]
            await send(message)

        with request_span(scope["method"], _traceparent(scope)) as traceparent:
            scope.setdefault("state", {})["traceparent"] = traceparent
            try:
                await self._app(scope, receive, send_observed)
            except Exception as error:  # noqa: BLE001 - the process edge: it becomes a problem 500 without details
                if not status:
                    await render(Request(scope), to_problem(error))(scope, receive, send_observed)
            finally:
                _report(scope, status, time.perf_counter() - started, traceparent)


def _traceparent(scope: Scope) -> str | None:
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == b"traceparent"), None)


@cache  # finding a metric by its labels costs more than counting
def _metrics_of(template: str, method: str, status: int) -> tuple[Counter, Histogram]:
    return HTTP_REQUESTS.labels(template, method, status), HTTP_DURATION.labels(template, method)


def _report(scope: Scope, status: int, seconds: float, traceparent: str) -> None:
    route: Any = scope.get("route")
    template: str = getattr(route, "path", _UNMATCHED)
    method: str = scope["method"]  # httptools lets only standard ones through, so labels stay few
    requests, duration = _metrics_of(template, method, status)
    requests.inc()
    duration.observe(seconds)
    sampled = traceparent.endswith("-01")
    if sampled:
        trace.get_current_span().update_name(f"{method} {template}")
    if status >= 500 or sampled:
        log.info(
            "http_request",
            method=method,
            route=template,
            status=status,
            seconds=round(seconds, 6),
            trace_id=trace_id_of(traceparent),
        )
