import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_openapi_document_in_the_repository_is_that_of_the_code() -> None:
    printed = subprocess.run([sys.executable, ROOT / "deploy/openapi.py"], capture_output=True, text=True, check=True)

    assert printed.stdout == (ROOT / "docs/openapi.json").read_text(encoding="utf-8"), "run `make openapi`"
