"""`import mm_assets` is small: what it exports, and what it does not load."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import mm_assets as mm

SOURCE = Path(mm.__file__).read_text(encoding="utf-8")


def test_every_exported_name_can_be_had_and_no_other():
    for name in mm.__all__:
        assert getattr(mm, name).__name__ in (name, "open_dataset")
    assert set(mm.__all__) <= set(dir(mm))
    with pytest.raises(AttributeError, match="no attribute 'pets'"):
        mm.pets  # noqa: B018


def test_editors_see_the_very_names_that_are_exported():
    block = next(node for node in ast.parse(SOURCE).body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    seen = {alias.asname or alias.name for node in imports for alias in node.names}
    assert seen == set(mm.__all__)


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import mm_assets as mm", {"dagster", "torch", "pandas", "pyarrow", "pydantic", "rich"}),
        ("import mm_assets as mm; mm.Dataset, mm.MMError", {"dagster", "torch", "pandas"}),
        ("import mm_assets as mm; mm.open, mm.draft", {"dagster", "torch", "pandas", "sklearn"}),
    ],
)
def test_what_an_import_does_not_load(code: str, absent: set[str]):
    script = f"{code}\nimport sys\nprint(*{{m.split('.')[0] for m in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert not set(done.stdout.split()) & absent
