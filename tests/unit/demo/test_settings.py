"""Where the demo finds the running stack."""

from pathlib import Path

import pytest

from common.lifecycle import load_settings
from demo.settings import BooksSettings, add_stack_file


def test_the_environment_wins_over_the_stack_file(tmp_path: Path):
    (tmp_path / "stack.env").write_text("# the stack\n\nGATEWAY_URL=http://a\nDATABASE_URL=postgresql://u:p=x@h/d\n")
    environment = {"GATEWAY_URL": "http://mine"}

    add_stack_file(environment, tmp_path / "stack.env")

    assert environment == {"GATEWAY_URL": "http://mine", "DATABASE_URL": "postgresql://u:p=x@h/d"}


def test_without_a_stack_file_the_environment_stays(tmp_path: Path):
    environment = {"GATEWAY_URL": "http://mine"}

    add_stack_file(environment, tmp_path / "stack.env")

    assert environment == {"GATEWAY_URL": "http://mine"}


def test_each_missing_setting_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    for name in ("KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL", "PAYMENT_PROVIDER_URL"):
        monkeypatch.delenv(name, raising=False)

    with pytest.raises(SystemExit, match="2"):
        load_settings(BooksSettings)

    assert [line.split(":")[0] for line in capsys.readouterr().err.splitlines()] == [
        "setting KAFKA_BOOTSTRAP_SERVERS",
        "setting DATABASE_URL",
        "setting PAYMENT_PROVIDER_URL",
    ]
