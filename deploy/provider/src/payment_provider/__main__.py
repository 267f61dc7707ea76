"""`python -m payment_provider`: serve until SIGTERM, then exit 0.

PROVIDER_LEDGER_FILE (required), PROVIDER_HOST (127.0.0.1), PROVIDER_PORT (8090; 0 = any free one), and
PROVIDER_DECLINE_PERCENT (0). A setting that is missing or wrong: exit 2. No file or no port: exit 1.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import uvloop
from aiohttp import web
from msgspec import Meta, Struct, ValidationError, convert

from payment_provider.app import create_app
from payment_provider.faults import Faults, Percent, Switches
from payment_provider.ledger import Ledger, LedgerFileError

_SHUTDOWN_SECONDS = 1.0  # for requests that wait in a fault; all others are done at once


class Settings(Struct, frozen=True, rename=lambda name: f"PROVIDER_{name.upper()}"):
    ledger_file: Annotated[str, Meta(min_length=1)]
    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 8090
    decline_percent: Percent = 0


def main(environment: Mapping[str, str]) -> int:
    try:
        settings = convert(dict(environment), Settings, strict=False)
    except ValidationError as error:
        print(f"payment_provider: {error}", file=sys.stderr)
        return 2
    try:
        uvloop.run(serve(settings))
    except (OSError, LedgerFileError) as error:
        print(f"payment_provider: {error}", file=sys.stderr)
        return 1
    return 0


async def serve(settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    faults = Faults(Switches(decline_percent=settings.decline_percent))
    with Ledger(Path(settings.ledger_file)) as ledger:
        runner = web.AppRunner(create_app(ledger, faults), access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
        await runner.setup()
        try:
            await web.TCPSite(runner, settings.host, settings.port).start()
            host, port = runner.addresses[0][:2]
            print(f"payment_provider: listening on http://{host}:{port}", flush=True)
            await stop.wait()
        finally:
            await runner.cleanup()


if __name__ == "__main__":
    sys.exit(main(os.environ))
