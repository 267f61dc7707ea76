"""The purchases of a record shop, as the demo orders them again: see data/ATTRIBUTION.md.

A purchase is one order of one line: quantity 1 of the sku that stands for its (quantity, amount). So our price is the
amount that was paid, to the cent; the amounts of many purchases do not divide by their quantity.
"""

import csv
from itertools import islice
from pathlib import Path

import msgspec

CURRENCY = "USD"
HEADER = ["customer_id", "date", "quantity", "amount_usd"]


class Purchase(msgspec.Struct, frozen=True, gc=False):
    """One row of the file. `row` counts from 1 and is the order's idempotency key; `date` is ISO 8601."""

    row: int
    customer_id: str
    date: str
    quantity: int
    amount_minor: int

    @property
    def sku(self) -> str:
        return f"cd-{self.quantity}-{self.amount_minor}"


class OrdersFileError(Exception):
    """The file is not a list of purchases; says which line is wrong."""


def read_purchases(file: Path, limit: int | None = None) -> list[Purchase]:
    """The first `limit` rows of the file, all without a limit. Raises OrdersFileError for a row that makes no sense."""
    try:
        with file.open(newline="", encoding="utf-8") as text:
            rows = csv.reader(text)
            if next(rows, None) != HEADER:
                raise OrdersFileError(f"{file}: the first line must be {','.join(HEADER)}")
            return [_purchase(number, row) for number, row in enumerate(islice(rows, limit), start=1)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise OrdersFileError(f"{file}: {error}") from error


def _purchase(number: int, row: list[str]) -> Purchase:
    try:
        customer_id, date, quantity, amount = row
        return Purchase(number, customer_id, date, int(quantity), minor_units(amount))
    except ValueError as error:
        raise OrdersFileError(f"line {number + 1}: {error}") from error


def minor_units(amount: str) -> int:
    """Cents of a decimal text with two places: "11.77" is 1177. Never by way of a float. Raises ValueError."""
    whole, point, cents = amount.partition(".")
    if not (whole and point and len(cents) == 2 and (whole + cents).isdecimal() and amount.isascii()):
        raise ValueError(f"not an amount with two decimal places: {amount!r}")
    return int(whole + cents)
