"""The patches that put known bugs in fit the code as it is. `make prove SABOTAGE=all` shows that each is caught."""

import shutil
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from tests.prove.embedded import MENU, ON_DEMAND
from tests.prove.guarantees import GUARANTEES
from tests.prove.sabotage.patches import PATCHES, ROOT, apply, read_sabotage
from tests.prove.schedule import only


@pytest.mark.parametrize("name", PATCHES)
def test_a_sabotage_still_applies_and_what_it_leaves_can_be_imported(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = read_sabotage(name).changes
    for file in changes:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)

    apply(name, tmp_path)

    for file in changes:
        spec = spec_from_file_location(f"sabotaged_{file.stem}", tmp_path / file)
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)


@pytest.mark.parametrize("name", PATCHES)
def test_a_sabotage_names_a_guarantee_and_faults_that_there_are(name: str) -> None:
    sabotage = read_sabotage(name)

    assert sabotage.breaks in {guarantee.id for guarantee in GUARANTEES}
    if "--only-faults" in sabotage.proof:
        wanted = sabotage.proof[sabotage.proof.index("--only-faults") + 1]
        assert only({**MENU, **ON_DEMAND}, wanted.split(","))


def test_ten_known_bugs_are_kept() -> None:
    assert len(PATCHES) == 10
