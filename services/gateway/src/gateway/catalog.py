"""Catalog: the gateway's own copy of what can be bought, read from the compacted topic.

Rule: the price is ours, never the client's; an unknown sku is refused at the door, with no call to anybody.
Limits: the copy is complete once it has been at the end of the topic; then it is late by one fetch.
"""

from bisect import bisect_right
from collections.abc import Sequence

import structlog

from common.contracts.codec import decode
from common.contracts.events import CatalogItem
from common.contracts.values import OrderLine
from common.errors import PoisonError
from common.records import Record
from gateway.problems import FieldError, invalid_fields
from gateway.schemas import NewOrder

log = structlog.get_logger()

MAX_TOTAL_MINOR = 2**63 - 1


class Catalog:
    def __init__(self) -> None:
        self._items: dict[str, CatalogItem] = {}
        self._sorted_skus: list[str] | None = None  # made anew by the first page after a change

    def update(self, records: Sequence[Record]) -> None:
        """Take in records of the topic, oldest first; one without a value removes its sku."""
        self._sorted_skus = None
        for record in records:
            if record.value is None:
                self._items.pop((record.key or b"").decode("utf-8", "replace"), None)
                continue
            try:
                item: CatalogItem = decode(record).body
            except PoisonError as error:
                log.error("catalog_item_unreadable", offset=record.offset, error=str(error))
                continue
            self._items[item.sku] = item

    def get(self, sku: str) -> CatalogItem | None:
        return self._items.get(sku)

    def page(self, *, after: str, limit: int) -> list[CatalogItem]:
        """The next items in the order of their sku."""
        if self._sorted_skus is None:
            self._sorted_skus = sorted(self._items)
        start = bisect_right(self._sorted_skus, after)
        return [self._items[sku] for sku in self._sorted_skus[start : start + limit]]


def price(order: NewOrder, catalog: Catalog) -> tuple[tuple[OrderLine, ...], int]:
    """The order's lines with our names and prices, and their total in minor units.

    Raises the problem 422 that names every line which is unknown, comes twice or is sold in another currency.
    """
    lines: list[OrderLine] = []
    errors: list[FieldError] = []
    seen: set[str] = set()
    for index, line in enumerate(order.lines):
        item = catalog.get(line.sku)
        if line.sku in seen:
            errors.append(FieldError(f"lines.{index}.sku", "duplicate_sku", "This sku is already on another line"))
        elif item is None:
            errors.append(FieldError(f"lines.{index}.sku", "unknown_sku", "There is no such item"))
        elif item.currency != order.currency:
            errors.append(FieldError("currency", "wrong_currency", f"Line {index} is not sold in this currency"))
        else:
            lines.append(
                OrderLine(sku=item.sku, name=item.name, quantity=line.quantity, unit_price_minor=item.price_minor)
            )
        seen.add(line.sku)
    total = sum(line.quantity * line.unit_price_minor for line in lines)
    if total > MAX_TOTAL_MINOR:
        errors.append(FieldError("lines", "total_too_large", "The total is too large"))
    if errors:
        raise invalid_fields(errors)
    return tuple(lines), total
