"""docs/tour.ipynb runs from its first cell to its last; docs/python.md names calls that exist."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import mm_assets as mm
from mm_assets.api.predictions import Predictions

ROOT = Path(__file__).parents[1]
TOUR = ROOT / "docs" / "tour.ipynb"
PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")


def test_the_tour_runs_and_ends_as_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import nbformat
    from nbclient import NotebookClient

    for name in ("MM_ROOT", "MM_DATA", "MM_LAKE", "MM_TABLE", "DAGSTER_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(TOUR, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    told = {cell["source"].splitlines()[-1]: cell for cell in notebook.cells if cell["source"]}
    answers = html(told["ds.predict(new, images=[Image.open(first), None, None]).T"])
    assert "number_invalid" in answers
    assert "with_image" in answers
    assert html(told["ds.review(limit=5)"]).count("<img") >= 1
    assert html(told["ds.champions()"]).count("<img") == 2
    assert not [out for cell in notebook.cells for out in cell.get("outputs", ()) if is_noise(out)]


def html(cell: dict[str, Any]) -> str:
    return "".join(out.get("data", {}).get("text/html", "") for out in cell["outputs"])


def is_noise(output: dict[str, Any]) -> bool:
    return output["output_type"] == "stream" and output["name"] == "stderr"


def test_the_tour_can_be_read_with_its_outputs_and_names_no_machine():
    text = TOUR.read_text(encoding="utf-8")
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert sum(bool(cell["outputs"]) for cell in cells) >= 10
    assert not re.search(r"/(home|root|tmp|work|Users)/", text)


def test_every_call_on_the_page_exists():
    calls = {tuple(found) for found in re.findall(r"\b(mm|ds|ds\.predictions)\.(\w+)\(", PAGE)}
    places: dict[str, Any] = {"mm": mm, "ds": mm.Dataset, "ds.predictions": Predictions}
    assert len(calls) > 25
    for place, name in calls:
        assert hasattr(places[place], name), f"{place}.{name}"
    public = {name for name in vars(mm.Dataset) if not name.startswith("_")}
    told = {name for name in public if f"ds.{name}" in PAGE}
    assert public - told == {"name", "lake", "table"}
