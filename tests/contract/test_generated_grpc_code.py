"""The generated gRPC code is what orders.proto says today."""

import subprocess
import sys
from pathlib import Path

import pytest

from common.contracts import orders_pb2

CONTRACTS = Path(orders_pb2.__file__).parent
PROTO = "common/contracts/orders.proto"


def test_the_generated_code_is_fresh(tmp_path: Path) -> None:
    out = [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")]
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", "-I.", *out, PROTO],
        cwd=CONTRACTS.parent.parent,
        check=True,
        timeout=60,
    )

    generated = sorted((tmp_path / "common/contracts").iterdir())
    assert [file.name for file in generated] == ["orders_pb2.py", "orders_pb2.pyi", "orders_pb2_grpc.py"]
    for file in generated:
        if file.read_text() != (CONTRACTS / file.name).read_text():
            pytest.fail(f"{file.name} is stale: run `make proto`")
