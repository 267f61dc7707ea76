"""The admin server of every process: `/livez`, `/readyz` and `/metrics` on a port of its own.

Liveness asks no dependency (a restart would not bring one back); readiness may.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from common.telemetry.metrics import LOOP_LAG, LOOP_TASKS

Check = Callable[[], bool]


@asynccontextmanager
async def admin_server(port: int, *, alive: Check, ready: Check) -> AsyncGenerator[None]:
    """Serve on every interface for as long as the block runs."""
    app = web.Application()
    app.router.add_get("/livez", _probe(alive))
    app.router.add_get("/readyz", _probe(ready))
    app.router.add_get("/metrics", _metrics)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)  # for a probe under way; the default waits 60 s
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", port).start()
    try:
        async with asyncio.TaskGroup() as tasks:
            lag = tasks.create_task(_measure_loop())
            yield
            lag.cancel()
    finally:
        await runner.cleanup()


def _probe(check: Check) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="ok\n") if check() else web.Response(text="not ready\n", status=503)

    return answer


async def _metrics(_: web.Request) -> web.Response:
    return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _measure_loop(interval_s: float = 0.5) -> None:
    while True:
        due = time.monotonic() + interval_s
        await asyncio.sleep(interval_s)
        LOOP_LAG.set(time.monotonic() - due)
        LOOP_TASKS.set(len(asyncio.all_tasks()))
