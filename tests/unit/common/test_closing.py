import asyncio

import pytest

from common.kafka.closing import close


class FakeClient:
    """Its `stop` ends, hangs, or lets the CancelledError of a task of its own out, as aiokafka's does."""

    def __init__(self, stops: str) -> None:
        self.stops, self.closed = stops, False

    async def stop(self) -> None:
        match self.stops:
            case "hangs":
                await asyncio.Event().wait()
            case "leaks":
                raise asyncio.CancelledError
            case _:
                pass

    async def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(("stops", "closed_by_us"), [("well", False), ("hangs", True), ("leaks", True)])
async def test_however_stop_ends_we_go_on_and_no_connection_stays_open(stops: str, closed_by_us: bool) -> None:
    client = FakeClient(stops)

    async with asyncio.timeout(5):
        await close(client, client, within_s=0.05)

    assert client.closed is closed_by_us
