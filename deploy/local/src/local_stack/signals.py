"""Ctrl-C, SIGTERM and the end of the terminal all mean the same: a clean stop."""

import asyncio
import signal


def cancel_on_signal() -> None:
    """The first signal starts the clean stop, later ones change nothing: `make` and shells often send one twice."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def stop() -> None:
        for number in signals:
            loop.add_signal_handler(number, lambda: None)
        if task:
            task.cancel()

    for number in signals:
        loop.add_signal_handler(number, stop)
