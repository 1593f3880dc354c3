"""The demo's houses: the same each time, as messy as promised, and the photo tells of the price."""

from __future__ import annotations

import csv
import io
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.spec_file import load_spec
from mm_assets.demo.house_images import SIDE, Look, draw_house
from mm_assets.demo.houses import COLUMNS, MISTYPED, draw_record, make_houses
from mm_assets.drafting.draft import draft_spec
from mm_assets.uploads.check import check
from tests.shapes.conftest import DEFS

Made = tuple[Path, dict[str, str]]


@pytest.fixture(scope="module")
def houses(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("houses")
    return folder, make_houses(folder, labelled=300, unlabelled=40)


@pytest.fixture(scope="module")
def spec() -> DatasetSpec:
    return load_spec(DEFS / "houses" / "defs.yaml")


def rows_of(folder: Path, upload: str) -> list[dict[str, str]]:
    with (folder / upload / "houses.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def photos_of(folder: Path, upload: str) -> set[str]:
    return {path.stem for path in (folder / upload / "photos").iterdir()}


def test_the_labelled_upload_has_the_promised_faults(houses: Made, spec: DatasetSpec) -> None:
    folder, _ = houses
    report = check(folder / "labelled", spec)
    assert report.refused is None
    assert len(report.problems) == 4  # a note, and three photos
    rows = rows_of(folder, "labelled")
    assert tuple(rows[0]) == COLUMNS
    ids = Counter(row["house_id"] for row in rows)
    assert ids[""] == 1
    assert [name for name, count in ids.items() if count > 1] == ["H0001"]
    years = [row["year_built"] for row in rows if not row["year_built"].isdigit()]
    assert set(years) == {"", "n/a", "about 1970"}
    for column in ("year_built", "heating", "centre_km", "note"):
        assert 0 < sum(row[column] in ("", "n/a") for row in rows) < 0.25 * len(rows), column
    strangers = photos_of(folder, "labelled") - ids.keys()
    assert len(strangers) == 3
    assert 0.85 < len(photos_of(folder, "labelled") & ids.keys()) / 300 < 0.95


def test_prices_are_skewed_and_a_few_have_three_zeros_too_many(houses: Made) -> None:
    folder, answers = houses
    prices = np.array([float(row["price_eur"]) for row in rows_of(folder, "labelled")])
    wrong = prices > MISTYPED * 30_000
    assert wrong.sum() == 3
    right = prices[~wrong]
    assert right.mean() > 1.05 * np.median(right)
    assert right.max() < 3_000_000
    assert max(float(price) for price in answers.values()) < 3_000_000


def test_late_photos_and_late_prices_belong_to_unlabelled_records(
    houses: Made, spec: DatasetSpec
) -> None:
    folder, answers = houses
    unlabelled = {row["house_id"] for row in rows_of(folder, "unlabelled")}
    late = photos_of(folder, "late-images")
    assert late
    assert late < unlabelled - photos_of(folder, "unlabelled")
    sold = rows_of(folder, "late-prices")
    assert len(sold) == 20
    for row in sold:
        assert row == {"house_id": row["house_id"], "price_eur": answers[row["house_id"]]}
        assert row["house_id"] in unlabelled
    for upload in ("unlabelled", "late-images", "late-prices", "unlabelled-2.zip"):
        assert not check(folder / upload, spec).problems


def test_the_photo_tells_of_the_price_what_the_table_does_not() -> None:
    """What a model of the table leaves over hangs on what the photos show."""
    from sklearn.linear_model import LinearRegression

    chance = random.Random(0)
    made = [draw_record(number, chance) for number in range(400)]
    known = np.array(
        [[np.log(house.living_area_m2), house.year_built, house.centre_km] for house in made]
    )
    price = np.log([house.price_eur for house in made])
    rest = price - LinearRegression().fit(known, price).predict(known)
    renovated = np.array([house.look.renovated for house in made])
    garden = np.array([house.look.garden for house in made])
    assert rest[renovated].mean() - rest[~renovated].mean() > 0.2
    assert rest[garden].mean() > rest[~garden].mean()
    assert abs(np.corrcoef(known[:, 0], renovated)[0, 1]) < 0.15


def test_what_a_photo_shows_can_be_seen_but_not_by_its_mean_colour() -> None:
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.model_selection import cross_val_score

    chance = random.Random(0)
    looks = [Look(1 + n % 3, n % 2 == 0, chance.random() < 0.5) for n in range(300)]
    images = [np.asarray(Image.open(io.BytesIO(draw_house(look, chance)))) for look in looks]
    assert {image.shape for image in images} == {(SIDE, SIDE, 3)}
    renovated = [look.renovated for look in looks]
    colours = [np.concatenate([i.mean((0, 1)), i.std((0, 1))]) for i in images]
    trees = ExtraTreesClassifier(200, random_state=0)
    assert cross_val_score(trees, colours, renovated).mean() < 0.75
    flowers = [(np.ptp(i.astype(int), axis=2) > 90)[24:84].sum() for i in images]
    edges = [np.abs(np.diff(i.astype(float), axis=1)).mean((1, 2)) for i in images]
    seen = np.column_stack([flowers, edges, colours])
    assert cross_val_score(trees, seen, renovated).mean() > 0.75


def test_the_demos_yaml_says_the_same_as_what_init_would_draft(
    houses: Made, spec: DatasetSpec, tmp_path: Path
) -> None:
    folder, _ = houses
    table, photos = folder / "labelled" / "houses.csv", folder / "labelled" / "photos"
    draft = tmp_path / "defs.yaml"
    draft.write_text(draft_spec(table, photos, "house_id", "price_eur").text)
    guessed = load_spec(draft)
    assert guessed.problem_type == spec.problem_type == "regression"
    assert guessed.kinds == spec.kinds
    assert guessed.image_name == spec.image_name
