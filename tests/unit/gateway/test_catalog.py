"""The copy of the catalog follows its topic."""

from dataclasses import replace

from common.contracts.events import CatalogItem
from gateway.catalog import Catalog
from unit.gateway.fakes import item_record


def test_the_newest_record_of_a_sku_wins() -> None:
    catalog = Catalog()

    catalog.update([item_record("cd-1", 100), item_record("cd-1", 200)])

    assert catalog.get("cd-1") == CatalogItem(sku="cd-1", name="Record cd-1", currency="USD", price_minor=200)


def test_a_record_without_value_removes_the_item() -> None:
    catalog = Catalog()
    record = item_record("cd-1", 100)

    catalog.update([record, replace(record, value=None), replace(record, key=None, value=None)])

    assert catalog.get("cd-1") is None


def test_an_unreadable_record_stops_nothing() -> None:
    catalog = Catalog()
    record = item_record("cd-1", 100)

    catalog.update([replace(record, value=b"not json"), replace(record, headers={}), item_record("cd-2", 200)])

    assert catalog.get("cd-1") is None
    assert catalog.get("cd-2") is not None


def test_a_page_shows_what_came_since_the_last_page() -> None:
    catalog = Catalog()
    catalog.update([item_record("b", 1), item_record("d", 1)])
    assert [item.sku for item in catalog.page(after="", limit=10)] == ["b", "d"]

    catalog.update([item_record("c", 1), item_record("a", 1)])

    assert [item.sku for item in catalog.page(after="b", limit=10)] == ["c", "d"]
    assert [item.sku for item in catalog.page(after="", limit=2)] == ["a", "b"]
