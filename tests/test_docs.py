"""The pages say what is so: their YAML loads, their links lead somewhere, their keys exist."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest
import yaml

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.engine_spec import EngineSpec, Tuning
from mm_assets.contract.limits import Limits

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
WITH_YAML = ["engines.md", "models.md", "your-own-dataset.md", "monitoring.md"]
BASE = {
    "dataset": "mine", "id_column": "id", "label_column": "label", "problem_type": "binary",
    "columns": {"age": "number"}, "image_features": ["laplacian_variance"],
}  # fmt: skip


def blocks(page: str) -> list[str]:
    """The YAML on a page that belongs below `attributes:` of a dataset."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    found = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    return [textwrap.dedent(block) for block in found if "type: " not in block]


@pytest.mark.parametrize("page", WITH_YAML)
def test_every_piece_of_yaml_is_good(page: str) -> None:
    found = blocks(page)
    assert found, page
    for block in found:
        keys = yaml.safe_load(block)
        if keys.get("records") == "images":
            base = {"dataset": "mine", "problem_type": "binary"}
        else:
            base = dict(BASE)
        DatasetSpec.model_validate({**base, **keys})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_between_pages_leads_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", text):
        there = page.parent / target if target else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), f"{target}#{anchor}"


def anchors(page: Path) -> set[str]:
    """The headings of a page as links write them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_key_of_a_dataset_is_explained() -> None:
    text = (ROOT / "docs" / "your-own-dataset.md").read_text(encoding="utf-8")
    keys = {*DatasetSpec.model_fields, *EngineSpec.model_fields, *Limits.model_fields}
    missing = {key for key in keys if f"`{key}`" not in text} - {"description"}
    assert missing == set()
    engines = (ROOT / "docs" / "engines.md").read_text(encoding="utf-8")
    assert {key for key in Tuning.model_fields if f"{key}:" not in engines} == set()
