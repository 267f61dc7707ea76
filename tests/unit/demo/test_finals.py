"""A replay knows of each order whether it is final."""

from collections import deque
from collections.abc import Sequence

from common.errors import InfrastructureError
from demo.finals import IDS_PER_POLL, find_final
from demo.tally import Tally


class FakeOrders:
    def __init__(self, final: dict[str, str], *, away: bool = False) -> None:
        self.final, self.away, self.asked = final, away, 0

    async def final_among(self, order_ids: Sequence[str]) -> dict[str, str]:
        self.asked += 1
        if self.away:
            raise InfrastructureError("Postgres is away")
        assert len(order_ids) <= IDS_PER_POLL
        return {order_id: self.final[order_id] for order_id in order_ids if order_id in self.final}


def waiting_for(*order_ids: str) -> Tally:
    return Tally(len(order_ids), waiting=deque(order_ids))


async def test_all_final_orders_are_found_at_once_however_many():
    order_ids = [str(number) for number in range(3 * IDS_PER_POLL + 1)]
    tally = waiting_for(*order_ids)

    await find_final(FakeOrders(dict.fromkeys(order_ids, "confirmed")), tally)

    assert tally.final == {"confirmed": len(order_ids)}
    assert not tally.waiting


async def test_orders_that_are_stuck_do_not_hide_the_others():
    stuck, final = [f"s{n}" for n in range(IDS_PER_POLL)], [f"f{n}" for n in range(IDS_PER_POLL)]
    tally, orders = waiting_for(*stuck, *final), FakeOrders(dict.fromkeys(final, "rejected"))

    await find_final(orders, tally)
    assert tally.final.total() == 0
    await find_final(orders, tally)

    assert tally.final == {"rejected": IDS_PER_POLL}
    assert list(tally.waiting) == stuck


async def test_nothing_final_is_asked_once():
    tally, orders = waiting_for(*(str(n) for n in range(5 * IDS_PER_POLL))), FakeOrders({})

    await find_final(orders, tally)

    assert orders.asked == 1
    assert len(tally.waiting) == 5 * IDS_PER_POLL


async def test_no_order_is_forgotten_while_postgres_is_away():
    tally = waiting_for("a", "b")

    await find_final(FakeOrders({}, away=True), tally)

    assert set(tally.waiting) == {"a", "b"}
    assert tally.final.total() == 0
