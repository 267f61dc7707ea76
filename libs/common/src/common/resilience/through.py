"""A port whose calls go through something: how breakers and retries are put around an adapter, and taken away again.

Rule: `port = through(port, breaker.call)` is one line in a composition root; neither the adapter nor its callers know.
Limits: only for ports whose methods are all coroutines.
Source: Gamma et al., "Design Patterns", 1994: Decorator, made once for all ports.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar, cast

Port = TypeVar("Port")
Guard = Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]  # gets the call, makes it or not, answers


def through(port: Port, guard: Guard) -> Port:
    """The same port; each call of one of its methods is handed to `guard`."""
    return cast(Port, _Through(port, guard))


class _Through:
    def __init__(self, port: object, guard: Guard) -> None:
        self._port, self._guard = port, guard

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._port, name)

        def guarded(*args: Any, **kwargs: Any) -> Awaitable[Any]:
            return self._guard(partial(method, *args, **kwargs))

        return guarded
