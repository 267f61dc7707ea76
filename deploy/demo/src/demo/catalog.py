"""The catalog that the demo's orders need: one sku per distinct (quantity, amount), with just enough stock."""

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from demo.cdnow import CURRENCY, Purchase, read_purchases

SHORT_EVERY = 10


@dataclass(frozen=True, slots=True)
class CatalogItem:
    """One line of the catalog file. `stock`: the number of orders that ask for it, or fewer when it is to be short."""

    sku: str
    name: str
    price_minor: int
    currency: str
    stock: int


@dataclass(frozen=True, slots=True)
class CatalogSummary:
    skus: int
    stock: int
    short_skus: int


def write_catalog(orders_file: Path, out: Path, *, limit: int | None, shortage: bool) -> CatalogSummary:
    """Write the catalog of the first `limit` orders of the file. With `shortage` some of them must be refused."""
    purchases = read_purchases(orders_file, limit)
    items = catalog_of(purchases, shortage=shortage)
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", newline="", encoding="utf-8") as text:
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(["sku", "name", "price_minor", "currency", "stock"])
        rows.writerows([i.sku, i.name, i.price_minor, i.currency, i.stock] for i in items)
    return CatalogSummary(
        skus=len(items),
        stock=sum(item.stock for item in items),
        short_skus=len(items) // SHORT_EVERY if shortage else 0,
    )


def catalog_of(purchases: list[Purchase], *, shortage: bool) -> list[CatalogItem]:
    """Every sku, by quantity and amount. With `shortage` every tenth has half of the stock it needs, rounded down."""
    wanted = Counter((purchase.quantity, purchase.amount_minor) for purchase in purchases)
    return [
        CatalogItem(
            sku=f"cd-{quantity}-{amount_minor}",
            name="1 CD" if quantity == 1 else f"{quantity} CDs",
            price_minor=amount_minor,
            currency=CURRENCY,
            stock=orders // 2 if shortage and place % SHORT_EVERY == 0 else orders,
        )
        for place, ((quantity, amount_minor), orders) in enumerate(sorted(wanted.items()), start=1)
    ]
