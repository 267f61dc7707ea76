"""Run workers: `python -m workers.main order_writer saga_runner …`, one or several in this process."""

import asyncio
import sys
from collections.abc import Callable

from common.lifecycle import load_settings, run
from common.memory import soft_limit
from common.shutdown import finish
from common.telemetry.admin import admin_server
from common.telemetry.logging import configure_logging
from common.telemetry.tracing import configure_tracing, shutdown_tracing
from workers import inventory, order_writer, outbox_relay, payments, saga_runner
from workers.resources import Resources, open_resources
from workers.settings import WorkersSettings
from workers.worker import Worker

FINISH_S = 8  # for the batch under way, its commits, and leaving the group

WORKERS: dict[str, Callable[[Resources], Worker]] = {
    "order_writer": order_writer.build,
    "outbox_relay": outbox_relay.build,
    "saga_runner": saga_runner.build,
    "inventory": inventory.build,
    "payments": payments.build,
}


async def serve(names: list[str], settings: WorkersSettings, stop: asyncio.Event) -> None:
    """Run the named workers until `stop` is set; each finishes its batch and commits first."""
    tracing = configure_tracing("+".join(names), settings.otlp_endpoint, settings.trace_sample_ratio)
    try:
        async with open_resources(settings, "+".join(names)) as resources:
            workers = {name: WORKERS[name](resources) for name in names}
            async with (
                admin_server(
                    settings.admin_port,
                    alive=lambda: all(worker.alive() for worker in workers.values()),
                    ready=lambda: not stop.is_set() and all(worker.ready() for worker in workers.values()),
                ),
                asyncio.TaskGroup() as tasks,
            ):
                for name, worker in workers.items():
                    tasks.create_task(finish(worker.run(stop), stop, name, FINISH_S))
    finally:
        await shutdown_tracing(tracing)


def main() -> None:
    names = sys.argv[1:]
    if not names or any(name not in WORKERS for name in names):
        sys.stderr.write(f"usage: python -m workers.main NAME [NAME ...] with NAME in {', '.join(WORKERS)}\n")
        raise SystemExit(2)
    settings = load_settings(WorkersSettings)
    configure_logging("+".join(names), settings.log_format)
    run(lambda stop: serve(names, settings, stop), soft_limit=soft_limit(settings.memory_soft_limit_mb))


if __name__ == "__main__":
    main()
