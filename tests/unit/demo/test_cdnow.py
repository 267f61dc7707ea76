"""The real data, and the catalog made from it."""

import csv
from pathlib import Path

import pytest

from demo.catalog import CatalogItem, catalog_of, write_catalog
from demo.cdnow import OrdersFileError, Purchase, minor_units, read_purchases

DATA = Path(__file__).parents[3] / "deploy" / "demo" / "data" / "cdnow.csv"


@pytest.fixture(scope="module")
def purchases() -> list[Purchase]:
    return read_purchases(DATA)


def test_the_file_has_every_purchase_to_the_cent(purchases: list[Purchase]):
    assert len(purchases) == 69_659
    assert sum(purchase.amount_minor for purchase in purchases) == 250_031_563
    assert sum(purchase.quantity for purchase in purchases) == 167_881
    assert len({purchase.customer_id for purchase in purchases}) == 23_570
    assert sum(purchase.amount_minor == 0 for purchase in purchases) == 80
    assert len({purchase.sku for purchase in purchases}) == 11_261


def test_rows_count_from_one_also_where_they_are_equal(purchases: list[Purchase]):
    assert purchases[0] == Purchase(1, "00001", "1997-01-01", 1, 1177)
    assert [purchase.row for purchase in purchases] == list(range(1, 69_660))


def test_a_limit_takes_the_first_rows(purchases: list[Purchase]):
    assert read_purchases(DATA, limit=3) == purchases[:3]


@pytest.mark.parametrize(
    ("amount", "minor"), [("0.00", 0), ("0.07", 7), ("11.77", 1177), ("90071992547409.93", 9007199254740993)]
)
def test_an_amount_is_exact(amount: str, minor: int):
    assert minor_units(amount) == minor


@pytest.mark.parametrize(
    "amount", ["", "1", "1.", "1.2", "1.234", "-1.00", "1e3.00", "1,000.00", " 1.00", "1.0\u0660", ".00"]
)
def test_what_is_no_amount_is_refused(amount: str):
    with pytest.raises(ValueError, match="two decimal places"):
        minor_units(amount)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "customer,date\n",
        "customer_id,date,quantity,amount_usd\n1,1997-01-01,1\n",
        "customer_id,date,quantity,amount_usd\n1,1997-01-01,one,1.00\n",
        "customer_id,date,quantity,amount_usd\n1,1997-01-01,1,1.5\n",
    ],
)
def test_a_file_that_makes_no_sense_is_refused(tmp_path: Path, content: str):
    file = tmp_path / "orders.csv"
    file.write_text(content)

    with pytest.raises(OrdersFileError):
        read_purchases(file)


def test_a_missing_file_is_refused(tmp_path: Path):
    with pytest.raises(OrdersFileError, match=r"nowhere\.csv"):
        read_purchases(tmp_path / "nowhere.csv")


def test_every_order_finds_exactly_one_piece(purchases: list[Purchase]):
    items = {item.sku: item for item in catalog_of(purchases, shortage=False)}

    assert len(items) == 11_261
    assert sum(item.stock for item in items.values()) == 69_659
    assert all(items[purchase.sku].price_minor == purchase.amount_minor for purchase in purchases)
    assert items["cd-1-1177"] == CatalogItem("cd-1-1177", "1 CD", 1177, "USD", stock=2_323)


def test_shortage_halves_the_stock_of_every_tenth_sku(purchases: list[Purchase]):
    full, short = catalog_of(purchases, shortage=False), catalog_of(purchases, shortage=True)

    for place, (enough, given) in enumerate(zip(full, short, strict=True), start=1):
        assert given.stock == (enough.stock // 2 if place % 10 == 0 else enough.stock)


def test_the_catalog_is_a_file_that_the_import_reads(tmp_path: Path):
    summary = write_catalog(DATA, tmp_path / "new" / "catalog.csv", limit=100, shortage=True)

    with (tmp_path / "new" / "catalog.csv").open(newline="") as text:
        rows = list(csv.DictReader(text))
    assert list(rows[0]) == ["sku", "name", "price_minor", "currency", "stock"]
    assert len(rows) == summary.skus
    assert sum(int(row["stock"]) for row in rows) == summary.stock < 100
    assert summary.short_skus == summary.skus // 10
