"""Our processes with a leak built in: `python leaking.py order_writer` or `gateway`; the product has no hook for it."""

import sys
from collections.abc import Sequence
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

import gateway.main
import workers.main
from common.contracts.codec import Message
from common.kafka.consumer import Apply, BatchConsumer, OnPoison
from common.memory import MIB
from gateway.app import create_app
from workers import order_writer
from workers.resources import Resources

PER_CALL = MIB // 4  # by each request, and by each message
kept: list[bytearray] = []


def leak(times: int = 1) -> None:
    kept.extend(bytearray(b"x" * PER_CALL) for _ in range(times))


class LeakingResources(Resources):
    def consumer(self, group: str, topics: list[str], apply: Apply, on_poison: OnPoison | None = None) -> BatchConsumer:
        async def leaking(messages: Sequence[Message]) -> None:
            leak(len(messages))
            await apply(messages)

        return super().consumer(group, topics, leaking, on_poison)


class LeakingMiddleware:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        leak()
        await self._app(scope, receive, send)


def leaking_writer(resources: Resources) -> Any:
    leaking = LeakingResources(resources.settings, resources.engine, resources.publisher, resources.views)
    return order_writer.build(leaking)


def leaking_app(*arguments: Any, **named: Any) -> Any:
    return LeakingMiddleware(create_app(*arguments, **named))


if __name__ == "__main__":
    if sys.argv[1] == "gateway":
        setattr(gateway.main, create_app.__name__, leaking_app)
        gateway.main.main()
    else:
        workers.main.WORKERS["order_writer"] = leaking_writer
        workers.main.main()
