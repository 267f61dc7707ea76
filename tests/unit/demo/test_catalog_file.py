from pathlib import Path

from demo.catalog import write_catalog


def test_the_catalog_in_the_repository_is_the_one_of_all_orders(tmp_path: Path):
    data = Path(__file__).parents[3] / "deploy/demo/data"

    write_catalog(data / "cdnow.csv", tmp_path / "catalog.csv", limit=None, shortage=False)

    assert (tmp_path / "catalog.csv").read_bytes() == (data / "catalog.csv").read_bytes()
