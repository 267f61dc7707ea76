"""Customers at a fixed rate over kept-alive connections, who never try anything twice: each error is seen.

Open loop: a request is due whatever became of those before it. A connection is used again unless its last answer said
`Connection: close` or the server has closed it since; what then still fails is an error. A 503 with `Retry-After` is
counted apart: that is a door that sheds load because the machine is too small or too busy.
"""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import uuid4

ANSWER_WITHIN_S = 10
TIMELINE_AFTER = 500  # orders: the newest ones may not be placed yet


@dataclass(slots=True)
class Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


@dataclass(slots=True)
class Customers:
    """`bearer(customer)`: the value of their Authorization header."""

    port: int
    bearer: Callable[[str], str]
    sku: str
    rate: float
    count: int = 20
    sent: int = 0
    statuses: Counter[str] = field(default_factory=Counter[str])  # of each kind of call
    errors: list[str] = field(default_factory=list[str])
    shed: int = 0
    latencies: list[float] = field(default_factory=list[float])
    closed_politely: int = 0
    _idle: list[Connection] = field(default_factory=list[Connection])
    _orders: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])  # customer and path

    async def run(self, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.TaskGroup() as calls:
            while not stop.is_set():
                due = began + self.sent / self.rate
                if (wait_s := due - loop.time()) > 0:
                    await asyncio.sleep(wait_s)
                self.sent += 1
                calls.create_task(self._call(due))
        for connection in self._idle:
            connection.writer.close()

    def summary(self) -> str:
        ordered = sorted(self.latencies)
        p50, p99, slowest = (1000 * ordered[int(share * (len(ordered) - 1))] for share in (0.5, 0.99, 1))
        return (
            f"{self.sent:,} sent, {len(self.errors)} errors, {self.shed} shed, "
            f"{self.closed_politely} connections closed politely, "
            f"p50 {p50:.0f} ms, p99 {p99:.0f} ms, slowest {slowest:.0f} ms; {dict(self.statuses)}"
        )

    async def _call(self, due: float) -> None:
        kind, request, customer = self._next()
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                status, head, body = await self._send(request)
        except (OSError, EOFError, TimeoutError) as error:
            self.errors.append(f"{kind}: {error!r}")
            return
        self.latencies.append(asyncio.get_running_loop().time() - due)
        self.statuses[f"{kind} {status}"] += 1
        if status == 503 and "retry-after: " in head:
            self.shed += 1
        elif status >= 300:
            self.errors.append(f"{kind}: {status} {body[:300]!r}")
        elif status == 202:
            self._orders.append((customer, json.loads(body)["links"]["self"]))

    def _next(self) -> tuple[str, bytes, str]:
        customer = f"customer-{self.sent % self.count}"
        choice = random.random()
        if choice < 0.4 or len(self._orders) <= TIMELINE_AFTER:
            body = json.dumps({"currency": "USD", "lines": [{"sku": self.sku, "quantity": 1}]})
            return "POST order", self._request("POST", "/v1/orders", customer, body), customer
        if choice < 0.8:
            customer, path = random.choice(self._orders)
            return "GET order", self._request("GET", path, customer), customer
        if choice < 0.9:
            customer, path = random.choice(self._orders[:-TIMELINE_AFTER])
            return "GET timeline", self._request("GET", f"{path}/timeline", customer), customer
        return "GET orders", self._request("GET", "/v1/orders?limit=5", customer), customer

    def _request(self, method: str, path: str, customer: str, body: str = "") -> bytes:
        head = f"{method} {path} HTTP/1.1\r\nHost: door\r\nAuthorization: {self.bearer(customer)}\r\n"
        if body:
            head += f"Idempotency-Key: {uuid4()}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        return f"{head}\r\n{body}".encode()

    async def _send(self, request: bytes) -> tuple[int, str, bytes]:
        connection = await self._connection()
        kept = False
        try:
            connection.writer.write(request)
            head = (await connection.reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
            body = await connection.reader.readexactly(length)
            if "connection: close" in head:
                self.closed_politely += 1
            else:
                self._idle.append(connection)
                kept = True
            return int(head[9:12]), head, body
        finally:
            if not kept:
                connection.writer.close()

    async def _connection(self) -> Connection:
        while self._idle:
            connection = self._idle.pop(0)
            if not connection.reader.at_eof():
                return connection
            connection.writer.close()
        return Connection(*await asyncio.open_connection("127.0.0.1", self.port))
