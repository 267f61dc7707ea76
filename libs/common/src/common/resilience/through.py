"""A port whose calls go through something: how breakers and retries are put around an adapter, and taken away again.

Rule: `port = through(port, breaker.call)` is one line in a composition root; neither the adapter nor its callers know.
Limits: only for ports whose methods are all coroutines.
Source: Gamma et al., "Design Patterns", 1994: Decorator, made once for all ports.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol, TypeVar, cast

Port = TypeVar("Port")
T = TypeVar("T")
Guard = Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]  # gets the call, makes it or not, answers


def through(port: Port, guard: Guard) -> Port:
    """The same port; each call of one of its methods is handed to `guard`."""
    return cast(Port, _Through(port, guard))


class Breaker(Protocol):
    """For an adapter that has its own way around its dependency, and asks it through a breaker."""

    async def call(self, action: Callable[[], Awaitable[T]]) -> T: ...

    def close(self) -> None:
        """The dependency has been heard from."""
        ...


class NoBreaker:
    """Every call goes through."""

    async def call(self, action: Callable[[], Awaitable[T]]) -> T:
        return await action()

    def close(self) -> None:
        pass


class _Through:
    def __init__(self, port: object, guard: Guard) -> None:
        self._port, self._guard = port, guard

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._port, name)

        def guarded(*args: Any, **kwargs: Any) -> Awaitable[Any]:
            return self._guard(partial(method, *args, **kwargs))

        return guarded
