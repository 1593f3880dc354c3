"""Templates: which there are, and copies of them."""

from __future__ import annotations

import pytest

from mm_assets.contract.errors import SpecError
from mm_assets.contract.settings import Settings
from mm_assets.contract.spec_file import load_spec
from mm_assets.drafting.templates import draft_from_template, template_file, template_names


def test_every_dataset_that_is_shipped_is_a_template_and_a_workflow_is_none() -> None:
    assert template_names() == [
        "blur", "cancer", "fashion", "houses", "petfinder", "pets", "vehicles",
    ]  # fmt: skip


@pytest.mark.parametrize("name", template_names())
def test_a_copy_is_the_template_itself_and_under_another_name_only_the_name_changes(
    name: str,
) -> None:
    text = template_file(name).read_text(encoding="utf-8")
    assert draft_from_template(name).text == text
    drafted = draft_from_template(name, "mine")
    assert drafted.dataset == "mine"
    pairs = zip(text.splitlines(), drafted.text.splitlines(), strict=True)
    changed = [new for old, new in pairs if old != new]
    assert [line.split("#")[0].strip() for line in changed] == ["dataset: mine"]


def test_no_template_no_name_and_no_other_source_are_refused(folder_settings: Settings) -> None:
    import mm_assets as mm

    with pytest.raises(SpecError) as caught:
        draft_from_template("nope")
    assert caught.value.code == "template_unknown"
    assert "vehicles" in caught.value.todo
    with pytest.raises(SpecError) as caught:
        draft_from_template("blur", "Not a name")
    assert caught.value.code == "spec_invalid"
    with pytest.raises(mm.UsageError):
        mm.draft("table.csv", template="blur")
    with pytest.raises(mm.UsageError):
        mm.draft()


def test_a_template_is_copied_into_the_project_once(folder_settings: Settings) -> None:
    import mm_assets as mm

    ds = mm.draft(template="cancer", name="biopsies")
    assert ds.file == folder_settings.root / "defs" / "biopsies" / "defs.yaml"
    assert load_spec(ds.file).dataset == ds.name == "biopsies"
    with pytest.raises(SpecError) as caught:
        mm.draft(template="cancer", name="biopsies")
    assert caught.value.code == "spec_exists"
