"""Following one order: wait for its next version, or get each of its versions as it comes.

Rule: listen, then read; then wait to be woken, or for the next poll, and read again until the version has moved. An
event may be heard before the new version can be read, and may not be heard at all: the poll is the truth (after 1, 2,
4, 5, 5 … s).
Guarantees: never a version that is older than the one before. A change is seen at once while events are heard, within
5 s otherwise. At shutdown everybody is answered at once.
Limits: so many waiting calls and streams per process; over that a wait is no wait, and a stream is 503. A stream ends
after 5 minutes, whatever its order does, so that no token lives on in it; its client comes back with `Last-Event-ID`.
Source: Server-Sent Events, WHATWG HTML, section 9.2.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import contextmanager
from uuid import UUID

import msgspec
import structlog
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from common.errors import InfrastructureError
from common.telemetry.metrics import FOLLOWERS
from gateway.order_events import OrderEvents
from gateway.problems import OVERLOADED, Problem
from gateway.reads import View, not_changed

log = structlog.get_logger()

MAX_WAITING = 2_000
MAX_STREAMS = 1_000
POLL_S = 1.0
POLL_CAP_S = 5.0
HEARTBEAT_S = 15.0
STREAM_LIFE_S = 300.0
FINAL = frozenset({"confirmed", "rejected", "cancelled"})

Find = Callable[[], Awaitable[View]]  # the order as it is now; raises Problem and InfrastructureError
_EVENT_ID = re.compile(r"(\d{1,9})(-dead-letter)?")
_HEARTBEAT = b": heartbeat\n\n"


class EventStream(StreamingResponse):
    """Server-Sent Events. Whatever ends it, also a client that leaves, closes the generator behind it."""

    media_type = "text/event-stream"

    def __init__(self, frames: AsyncGenerator[bytes], leave: Callable[[], None]) -> None:
        super().__init__(frames, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._frames, self._leave = frames, leave

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._leave()
            await self._frames.aclose()


class Following:
    def __init__(
        self,
        events: OrderEvents,
        *,
        max_waiting: int = MAX_WAITING,
        max_streams: int = MAX_STREAMS,
        poll_s: float = POLL_S,
        heartbeat_s: float = HEARTBEAT_S,
        stream_life_s: float = STREAM_LIFE_S,
    ) -> None:
        self._events, self._max_waiting, self._max_streams = events, max_waiting, max_streams
        self._poll_s, self._heartbeat_s, self._stream_life_s = poll_s, heartbeat_s, stream_life_s
        self._waiting = self._streams = 0

    async def change(self, order_id: UUID, find: Find, known: str | None, wait_s: float) -> View:
        """The order as soon as it is another version than `known` (an If-None-Match; None: the one it is now), or
        final; else as it is after `wait_s`."""
        if self._waiting >= self._max_waiting:
            return await find()
        end = _now() + wait_s
        with self._counted(), self._events.of(order_id) as heard:
            view, pause = await find(), self._poll_s
            known = known or view.etag
            while not_changed(known, view.etag) and not is_final(view) and not self._events.closed:
                if (left := end - _now()) <= 0:
                    break
                pause = await self._pause(heard, pause, at_most=left)
                view = await find()
            return view

    def stream(self, order_id: UUID, find: Find, last_event_id: str | None) -> EventStream:
        """Each version that is newer than `last_event_id`, until the order is final. Raises the problem 503."""
        if self._streams >= self._max_streams:
            raise Problem(OVERLOADED, "Too many event streams are open.", {"Retry-After": "5"})
        self._streams += 1
        FOLLOWERS.labels("stream").inc()
        return EventStream(self._frames(order_id, find, rank_of(last_event_id)), self._leave_stream)

    async def _frames(self, order_id: UUID, find: Find, sent: tuple[int, bool]) -> AsyncGenerator[bytes]:
        end = _now() + self._stream_life_s
        pause, beat_at = self._poll_s, _now() + self._heartbeat_s
        with self._events.of(order_id) as heard:
            while True:
                view = await _try(find)
                if view is not None and view.rank > sent:
                    yield _frame(view)
                    sent, beat_at = view.rank, _now() + self._heartbeat_s
                if (view is not None and is_final(view)) or self._events.closed or _now() >= end:
                    return
                pause = await self._pause(heard, pause, at_most=beat_at - _now())
                if _now() >= beat_at:
                    yield _HEARTBEAT
                    beat_at = _now() + self._heartbeat_s

    async def _pause(self, heard: asyncio.Event, pause: float, *, at_most: float) -> float:
        """Wait for news; answer how long to wait the next time."""
        try:
            async with asyncio.timeout(min(pause, at_most)):
                await heard.wait()
        except TimeoutError:
            return min(2 * pause, POLL_CAP_S)
        heard.clear()
        return self._poll_s

    @contextmanager
    def _counted(self) -> Generator[None]:
        self._waiting += 1
        FOLLOWERS.labels("wait").inc()
        try:
            yield
        finally:
            self._waiting -= 1
            FOLLOWERS.labels("wait").dec()

    def _leave_stream(self) -> None:
        self._streams -= 1
        FOLLOWERS.labels("stream").dec()


def is_final(view: View) -> bool:
    """Whether there will never be another version."""
    return view.died_at is None and _status(view) in FINAL


def rank_of(event_id: str | None) -> tuple[int, bool]:
    """The rank of the view that was sent under this id; below all if it is not one of ours."""
    found = _EVENT_ID.fullmatch(event_id or "")
    return (int(found[1]), found[2] is not None) if found else (-1, False)


async def _try(find: Find) -> View | None:
    """None while nobody can say: a client that was told of the trouble would not come back."""
    try:
        return await find()
    except (InfrastructureError, Problem) as error:
        log.warning("stream_waits", error=repr(error))
        return None


def _frame(view: View) -> bytes:
    """JSON on one line has no line break."""
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (view.tag.encode(), _status(view).encode(), view.body)


class _Status(msgspec.Struct):
    status: str


def _status(view: View) -> str:
    return msgspec.json.decode(view.body, type=_Status).status


def _now() -> float:
    return asyncio.get_running_loop().time()
