"""Waiting for what happens in its own time, without guessing how long that takes."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable

POLL_INTERVAL_S = 0.02


async def eventually(check: Callable[[], object | Awaitable[object]], *, within: float) -> None:
    """Return once `check` answers something true; it says no by a false answer or an AssertionError.

    Raises AssertionError with what it said last when `within` seconds are over.
    """
    said = "nothing: it did not end"
    try:
        async with asyncio.timeout(within):
            while True:
                try:
                    answer = check()
                    if inspect.isawaitable(answer):
                        answer = await answer
                    if answer:
                        return
                    said = repr(answer)
                except AssertionError as error:
                    said = str(error) or repr(error)
                await asyncio.sleep(POLL_INTERVAL_S)
    except TimeoutError:
        raise AssertionError(f"not within {within} s; the check last said: {said}") from None
