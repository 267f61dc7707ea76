"""The web server of a gateway, and how it leaves without an error that a client sees.

Problem: a client keeps its connection for its next request. A server that closes an idle connection may do so while
that request is on its way: the client gets a reset, and cannot know whether its POST was done.
Rule: from `stop` on every answer says `Connection: close`, so that clients leave by themselves, and `/readyz` says 503,
so that whoever balances sends nobody new; that lasts for `drain_s`. Then nobody new is accepted (a connection waiting
in a shared listening socket is for its other owners), and who is idle has LAST_REQUEST_S more. Then idle connections
are closed, and requests under way have FINISH_REQUESTS_S.
Guarantee: who sends a request at least every second, or comes anew, is answered.
Limits: a client that was silent for all that time and sends in the very moment of the end is reset: only an answer can
say "do not use this connection any more". On a listening socket of its own, a connection that the kernel took and
nobody accepted is reset at the end: whoever balances must have looked elsewhere by then.
Source: RFC 9112, section 9.6.
"""

import asyncio
import socket
from collections.abc import Generator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from gateway.one_write import OneWriteProtocol

LAST_REQUEST_S = 1.0
FINISH_REQUESTS_S = 8
CLOSE = (b"connection", b"close")


class WebServer(uvicorn.Server):
    def __init__(
        self,
        app: ASGIApp,
        *,
        host: str,
        port: int,
        drain_s: float,
        http: type[asyncio.Protocol] = OneWriteProtocol,
    ) -> None:
        self._drain_s = drain_s
        super().__init__(
            uvicorn.Config(
                app,
                interface="asgi3",
                host=host,
                port=port,
                http=http,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=75,  # longer than a proxy keeps an idle connection
                timeout_graceful_shutdown=FINISH_REQUESTS_S,
            )
        )

    async def leave(self) -> None:
        """Make `serve` end, as said above."""
        self.config.encoded_headers.append(CLOSE)  # uvicorn makes the headers of all answers from these once a second
        self.server_state.default_headers = [*self.server_state.default_headers, CLOSE]
        await asyncio.sleep(self._drain_s)
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        if self.server_state.connections:
            await asyncio.sleep(LAST_REQUEST_S)
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """The signals are ours (common.lifecycle): uvicorn would end the process with 143 after SIGTERM."""
        yield
