"""What the customers will do: a pure function of the seed, so that it can be done again.

Open loop: an order is due at its moment, whatever has become of those before it, as customers know nothing of each
other. So a system that stalls meets a crowd, and the wait of that crowd is in the latencies.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.contracts.values import order_id_for
from demo.catalog import write_catalog
from demo.cdnow import Purchase, read_purchases

ORDERS_FILE = Path("deploy/demo/data/cdnow.csv")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One customer's order and what else he does about it; times in seconds, `due` since the first order was due."""

    due: float
    purchase: Purchase
    key: str
    copies: int  # sent at the same moment, under the same key
    again_after: float | None  # sent once more, though it was accepted
    other_body_after: float | None  # the same key for another order
    cancel_after: float | None
    reads: int
    read_gap: float
    waits: bool  # reads with ?wait=

    @property
    def order_id(self) -> str:
        return str(order_id_for(self.purchase.customer_id, self.key))


def plan(seed: int, orders: int, load_s: float) -> list[Plan]:
    """The first `orders` purchases of the record shop, at random moments within `load_s`."""
    chance = random.Random(f"load {seed}")
    moments = sorted(chance.uniform(0, load_s) for _ in range(orders))
    purchases = sorted(read_purchases(ORDERS_FILE, orders), key=lambda purchase: purchase.date)
    return [_plan(seed, due, purchase, chance) for due, purchase in zip(moments, purchases, strict=True)]


def write_stock(file: Path, orders: int) -> None:
    """The catalog for these orders; every tenth sku has too little, so that some orders end rejected."""
    write_catalog(ORDERS_FILE, file, limit=orders, shortage=True)


def _plan(seed: int, due: float, purchase: Purchase, chance: random.Random) -> Plan:
    again_after, other_body_after = _sometimes(chance, 0.10, 10.0), _sometimes(chance, 0.03, 10.0)
    return Plan(
        due=round(due, 3),
        purchase=purchase,
        key=f"{seed}-{purchase.row}",
        copies=chance.choices((1, 2, 3), (90, 8, 2))[0],
        # not both: once Redis has forgotten the key, whichever body comes first is the one that it stands for there
        again_after=again_after if other_body_after is None else None,
        other_body_after=other_body_after,
        cancel_after=_sometimes(chance, 0.08, 1.5),
        reads=chance.choices((0, 12), (50, 50))[0],
        read_gap=chance.uniform(0.2, 1.5),
        waits=chance.random() < 0.2,
    )


def _sometimes(chance: random.Random, share: float, at_most: float) -> float | None:
    happens, after = chance.random() < share, chance.uniform(0, at_most)
    return round(after, 3) if happens else None


def customers(plans: Sequence[Plan]) -> set[str]:
    return {each.purchase.customer_id for each in plans}
