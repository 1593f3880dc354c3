"""The other demos' uploads: the same each time, as their YAML says; and which demos there are."""

from __future__ import annotations

import csv
import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from mm_assets.cli.main import app
from mm_assets.contract.errors import SpecError
from mm_assets.contract.spec_file import load_spec
from mm_assets.demo.blur import LABEL, TILE, cut, make_blur, sources
from mm_assets.demo.cancer import all_records, make_cancer
from mm_assets.demo.houses import make_houses
from mm_assets.demo.stories import STORIES, story_of
from mm_assets.demo.vehicles import CLASSES, SIDE, draw_vehicle, make_vehicles
from mm_assets.uploads.check import check
from tests.shapes.conftest import DEFS

MAKERS = [make_vehicles, make_cancer, make_blur, make_houses]


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def labels(folder: Path, column: str) -> list[str]:
    [table] = folder.glob("*.csv")
    return [row[column] for row in csv.DictReader(table.open(newline=""))]


@pytest.mark.parametrize("make", MAKERS)
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(make, tmp_path: Path) -> None:
    made = []
    for place, seed in enumerate((1, 1, 2)):
        make(tmp_path / str(place), seed=seed)
        made.append(digests(tmp_path / str(place)))
    assert made[0] == made[1]
    assert made[0] != made[2]


@pytest.mark.parametrize("dataset", STORIES)
def test_every_upload_that_a_story_sends_is_made_and_fits_its_yaml(
    dataset: str, tmp_path: Path
) -> None:
    STORIES[dataset].make(tmp_path)
    spec = load_spec(DEFS / dataset / "defs.yaml")
    for step in STORIES[dataset].steps:
        for name in step.uploads:
            report = check(tmp_path / name, spec)
            assert report.refused is None
            items = report.counts["images"] + report.counts["rows"]
            assert len(report.problems) <= 0.05 * items
    sent = {name for step in STORIES[dataset].steps for name in step.uploads}
    assert sent == {path.name for path in tmp_path.iterdir()}


def test_vehicles_are_small_have_an_alpha_channel_and_some_are_transparent() -> None:
    import random

    chance = random.Random(0)
    opaque = []
    for number in range(60):
        with Image.open(io.BytesIO(draw_vehicle(CLASSES[number % 2], chance))) as image:
            assert (image.mode, image.size) == ("RGBA", (SIDE, SIDE))
            opaque.append(np.asarray(image.getchannel("A")).mean())
    assert 5 <= sum(value < 128 for value in opaque) <= 40


def test_colour_alone_does_not_tell_an_automobile_from_a_truck() -> None:
    """A model on the mean and spread of each channel is hardly better than a coin."""
    import random

    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.model_selection import cross_val_score

    chance = random.Random(0)
    kinds = [CLASSES[number % 2] for number in range(240)]
    images = [np.asarray(Image.open(io.BytesIO(draw_vehicle(k, chance)))) for k in kinds]
    colours = [np.concatenate([p.mean((0, 1)), p.std((0, 1))]) for p in images]
    assert cross_val_score(ExtraTreesClassifier(random_state=0), colours, kinds).mean() < 0.75


def test_the_cancer_uploads_share_all_records_of_the_source(tmp_path: Path) -> None:
    truth = make_cancer(tmp_path)
    known, unknown = labels(tmp_path / "labelled", "diagnosis"), truth.values()
    assert sorted([*known, *unknown]) == sorted(["malignant"] * 212 + ["benign"] * 357)
    ids = labels(tmp_path / "labelled", "biopsy_id") + labels(tmp_path / "unlabelled", "biopsy_id")
    assert len(set(ids)) == 569 == len(all_records())
    late_ids, late_labels = (
        labels(tmp_path / "late-labels", c) for c in ("biopsy_id", "diagnosis")
    )
    late = dict(zip(late_ids, late_labels, strict=True))
    assert len(late) == 50
    assert late.items() <= truth.items()


def test_tiles_of_a_photo_do_not_overlap() -> None:
    """Of an image in which no pixel is like another, no two tiles share one."""
    side = TILE * 4 + 5
    numbers = np.random.default_rng(0).permutation(side * side * 3).reshape(side, side, 3) % 251
    tiles = cut(Image.fromarray(numbers.astype(np.uint8)))
    assert len(tiles) == 16
    assert len({tile.tobytes() for tile in tiles}) == 16


def test_each_tile_of_the_real_photos_is_one_record_sharp_or_blurred(tmp_path: Path) -> None:
    truth = make_blur(tmp_path)
    told = labels(tmp_path / "labelled", LABEL)
    assert len(told) + len(truth) == sum(len(cut(photo)) for photo in sources())
    assert 0.4 < told.count("blurred") / len(told) < 0.6
    assert LABEL not in (tmp_path / "unlabelled" / "photos.csv").read_text().splitlines()[0]


@pytest.mark.parametrize(
    ("dataset", "code", "words"),
    [
        ("nope", "demo_unknown", "pets, vehicles, cancer, blur, houses"),
        ("petfinder", "demo_data_missing", "Kaggle"),
    ],
)
def test_a_dataset_without_a_demo_is_answered_in_words(dataset: str, code: str, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        story_of(dataset)
    assert caught.value.code == code
    result = CliRunner().invoke(app, ["demo", "--dataset", dataset])
    assert result.exit_code == 1
    assert f"[{code}]" in result.stderr
    assert words in result.stderr
