"""Refusing an order in the web server, once its headers are known: what makes shedding cheap.

Problem: under three times the load that a door can take, two of three calls are refused. If a refusal cost half of what
an order costs, nothing would be left for orders.
Rule: uvicorn's protocol is asked before it makes a request, a task and a call of the app out of the bytes. A refusal is
one write of bytes that are ready; the body is dropped as it comes. It costs a sixth of an order.
Limits: only the one call that comes thousands of times a second, in the plain case (`_plain`). Everything else goes to
the app, where gateway.shedding asks the same question.
"""

# pyright: reportUnnecessaryComparison=false, reportOptionalMemberAccess=false
# (uvicorn's types leave out that there is no cycle before the first request, and no parser after the last)

import asyncio
import random
from functools import cache

from gateway.one_write import OneWriteProtocol
from gateway.problems import MEDIA_TYPE, Problem, body_of
from gateway.shedding import PROBLEMS, RETRY_AFTER_S, Reason, Shedding, count
from gateway.web_server import CLOSE

PATH = "/v1/orders"


def protocol_that_sheds(shedding: Shedding) -> type[asyncio.Protocol]:
    """For the `http` of gateway.web_server."""

    class Protocol(OneWriteProtocol):
        _refused = False  # the request whose body is on its way

        def on_headers_complete(self) -> None:
            plain = self._plain()
            if plain and (reason := shedding.reason()) is not None:
                self._refused = True
                count(reason)
                self._refuse(reason)
                return
            if plain:
                shedding.let_in()
            self._unset_keepalive_if_required()  # a refusal just before it, in the same bytes, has set it
            super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            if not self._refused:
                super().on_body(body)

        def on_message_complete(self) -> None:
            if not self._refused:
                super().on_message_complete()
                return
            self._refused = False
            self.on_response_complete()

        def _plain(self) -> bool:
            """An order, and the connection waits for no other answer, reads what we write, and will be kept."""
            return (
                self.url == PATH.encode()
                and self.parser.get_method() == b"POST"
                and (self.cycle is None or self.cycle.response_complete)
                and not self.flow.write_paused
                and not self.expect_100_continue
                and self.parser.should_keep_alive()
                and CLOSE not in self.server_state.default_headers  # this gateway is about to leave
            )

        def _refuse(self, reason: Reason) -> None:
            head = [b"%b: %b\r\n" % header for header in self.server_state.default_headers]
            rest = _answer(reason, random.choice(RETRY_AFTER_S[reason]))  # noqa: S311
            self.transport.write(b"".join((b"HTTP/1.1 503 Service Unavailable\r\n", *head, rest)))

    return Protocol


@cache
def _answer(reason: Reason, retry_after_s: int) -> bytes:
    """The rest of the headers, and the body."""
    body = body_of(Problem(PROBLEMS[reason]), instance=PATH, trace_id=None)
    return (
        f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\n"
        f"retry-after: {retry_after_s}\r\nx-content-type-options: nosniff\r\n\r\n"
    ).encode() + body
