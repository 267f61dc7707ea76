import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_env_example_lists_every_setting_as_the_classes_define_it() -> None:
    printed = subprocess.run(
        [sys.executable, ROOT / "deploy/env_example.py"], capture_output=True, text=True, check=True
    )

    assert printed.stdout == (ROOT / ".env.example").read_text(encoding="utf-8"), "run `make env-example`"
