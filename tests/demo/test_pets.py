"""The demo's uploads: the same each time, as messy as promised, and worth learning from."""

from __future__ import annotations

import csv
import hashlib
import io
import random
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.spec_file import load_spec
from mm_assets.demo.pet_images import FURS, SIDE, draw_pet
from mm_assets.demo.pets import COLUMNS, make_pets
from mm_assets.drafting.draft import draft_spec
from mm_assets.uploads.send import check

DEFS = Path(__file__).parents[2] / "dagster_project" / "defs" / "pets" / "defs.yaml"
Made = tuple[Path, dict[str, str]]


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("pets")
    return folder, make_pets(folder, labelled=300, unlabelled=40)


@pytest.fixture(scope="module")
def spec() -> DatasetSpec:
    return load_spec(DEFS)


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def rows_of(folder: Path, upload: str) -> list[dict[str, str]]:
    with (folder / upload / "pets.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    made = [
        make_pets(tmp_path / str(i), seed=seed, labelled=20, unlabelled=6)
        for i, seed in enumerate((7, 7, 8))
    ]
    assert made[0] == made[1]
    assert digests(tmp_path / "0") == digests(tmp_path / "1")
    assert (
        digests(tmp_path / "0")["labelled/pets.csv"] != digests(tmp_path / "2")["labelled/pets.csv"]
    )


def test_the_labelled_upload_has_the_promised_faults(pets: Made, spec: DatasetSpec) -> None:
    folder, _ = pets
    report = check(folder / "labelled", spec)
    assert report.refused is None
    assert len(report.problems) == 4  # a note, and three images
    assert report.counts["images"] == len([*(folder / "labelled" / "images").iterdir()]) - 3
    rows = rows_of(folder, "labelled")
    assert report.counts["rows"] == len(rows) == 303
    ids = Counter(row["pet_id"] for row in rows)
    assert ids[""] == 1
    assert [name for name, count in ids.items() if count > 1] == ["P0001"]
    assert [row["age_months"] for row in rows if not row["age_months"].isdigit()] == ["1,5"]
    assert {row["adopted"] for row in rows} == {"yes", "no"}
    assert tuple(rows[0]) == COLUMNS


def test_some_pets_lack_an_image_have_two_or_have_no_row(pets: Made, spec: DatasetSpec) -> None:
    folder, _ = pets
    ids = {row["pet_id"] for row in rows_of(folder, "labelled")}
    broken = {problem.file for problem in check(folder / "labelled", spec).problems}
    seen = Counter[str]()
    for path in (folder / "labelled" / "images").iterdir():
        named = spec.named_image(path.name)
        if f"images/{path.name}" not in broken:
            assert named is not None
            seen[named[0]] += 1
    assert len(seen.keys() - ids) == 3
    assert 10 <= sum(count == 2 for count in seen.values()) <= 60
    assert 0.80 < len(seen.keys() & ids) / 300 < 0.95


def test_late_images_belong_to_unlabelled_records_that_lack_one(
    pets: Made, spec: DatasetSpec
) -> None:
    folder, answers = pets
    unlabelled = {row["pet_id"] for row in rows_of(folder, "unlabelled")}
    with_image = {
        path.name.rpartition("-")[0] for path in (folder / "unlabelled" / "images").iterdir()
    }
    late = {path.name.rpartition("-")[0] for path in (folder / "late-images" / "images").iterdir()}
    assert late
    assert late < unlabelled - with_image
    assert not (folder / "late-images" / "pets.csv").exists()
    assert "adopted" not in rows_of(folder, "unlabelled")[0]
    assert unlabelled <= answers.keys()
    for upload in ("unlabelled", "late-images", "unlabelled-2.zip"):
        report = check(folder / upload, spec)
        assert not report.problems
        assert report.refused is None


def test_the_second_unlabelled_upload_is_a_zip_with_new_records(pets: Made) -> None:
    folder, answers = pets
    with zipfile.ZipFile(folder / "unlabelled-2.zip") as archive:
        rows = list(csv.DictReader(io.StringIO(archive.read("pets.csv").decode())))
        assert any(name.endswith(".jpg") for name in archive.namelist())
    new = {row["pet_id"] for row in rows}
    assert new <= answers.keys()
    assert not new & {row["pet_id"] for row in rows_of(folder, "unlabelled")}


def test_the_image_matters_and_the_table_does_not_tell_it(pets: Made) -> None:
    """A model on the table alone is far worse than one that sees the pixels as well."""
    from sklearn.decomposition import PCA
    from sklearn.ensemble import GradientBoostingClassifier
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.model_selection import cross_val_score

    folder, _ = pets
    rows, pixels = [], []
    for row in rows_of(folder, "labelled"):
        path = folder / "labelled" / "images" / f"{row['pet_id']}-1.jpg"
        if path.exists() and path.stat().st_size > 800 and row["age_months"].isdigit():
            with Image.open(path) as image:
                pixels.append(np.asarray(image.convert("RGB").resize((12, 12))).ravel() / 255)
            rows.append(row)
    label = np.array([row["adopted"] for row in rows])
    words = CountVectorizer().fit_transform([row["description"] for row in rows]).toarray()
    known = [[float(row["age_months"]), row["species"] == "cat"] for row in rows]
    table = np.hstack([words, known])
    both = np.hstack([table, PCA(6, random_state=0).fit_transform(np.array(pixels))])
    model = GradientBoostingClassifier(n_estimators=40, random_state=0)
    without_image = cross_val_score(model, table, label, cv=3).mean()
    with_image = cross_val_score(model, both, label, cv=3).mean()
    assert without_image < 0.8
    assert with_image > max(0.85, without_image + 0.1)


@pytest.mark.parametrize("species", ["cat", "dog"])
def test_a_glad_pet_is_drawn_brighter_in_every_fur(species: str) -> None:
    for fur in FURS:
        means = []
        for glad in (True, False):
            data = draw_pet(species, fur, glad, random.Random(3))
            with Image.open(io.BytesIO(data)) as image:
                assert image.size == (SIDE, SIDE)
                means.append(np.asarray(image).mean())
        assert means[0] > means[1] + 20


def test_the_demos_yaml_says_the_same_as_what_init_would_draft(
    pets: Made, spec: DatasetSpec, tmp_path: Path
) -> None:
    folder, _ = pets
    text = draft_spec(
        folder / "labelled" / "pets.csv", folder / "labelled" / "images", "pet_id", "adopted"
    ).text
    draft = tmp_path / "defs.yaml"
    draft.write_text(text)
    guessed = load_spec(draft)
    assert guessed.kinds == spec.kinds
    assert guessed.image_name == spec.image_name
    assert guessed.problem_type == spec.problem_type
    assert guessed.missing_values == spec.missing_values
