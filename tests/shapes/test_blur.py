"""Photos with a small table: a rule and two learners compete on what is measured of the photos."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from mm_assets.contract.dataset import Modality
from mm_assets.contract.image_feature import ImageFeature
from mm_assets.contract.limits import Range
from mm_assets.demo.blur import make_blur

ENGINES = ["rules", "gradient_boosting", "sklearn"]


@pytest.fixture(scope="module")
def story(shape_of, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uploads")
    truth = make_blur(folder)
    shape = shape_of("blur")
    outcomes = shape.take_in(folder / "labelled")
    outcomes += shape.runner.train()
    outcomes += shape.take_in(folder / "unlabelled")
    outcomes += shape.runner.check()
    return SimpleNamespace(shape=shape, truth=truth, outcomes=outcomes)


def test_every_run_and_every_check_is_good(story):
    assert all(outcome.is_good for outcome in story.outcomes), story.outcomes


def test_all_candidates_are_judged_and_the_best_is_promoted(story):
    manifest = story.shape.manifest(Modality.WITH_IMAGE)
    scores = {one["name"]: one["metrics"]["accuracy"] for one in manifest["candidates"]}
    assert list(scores) == ENGINES
    assert all(score > 0.7 for score in scores.values()), scores
    assert scores[manifest["engine"]["engine"]] == max(scores.values())
    assert manifest["metrics"]["accuracy"] == max(scores.values())


def test_the_report_shows_every_candidate(story):
    metadata = story.shape.metadata("model_with_image")
    rows = [record.data for record in metadata["candidates table"].records]
    assert [row["engine"] for row in rows] == ENGINES
    assert all(0.7 < float(row["accuracy"]) <= 1 for row in rows)
    assert metadata["candidates"].value.startswith("![candidates](data:image/png;base64,")
    assert metadata["engine"].value in ENGINES


def test_the_rules_threshold_was_tuned(story):
    tuned = story.shape.metadata("model_with_image")["tuned (rules)"].value
    assert tuned["trials"] == 15
    assert 5 < tuned["hyperparameters"]["threshold"] < 2000
    assert tuned["value"] < 0.6  # log loss; of a coin it is 0.69


def test_models_see_the_measurements_beside_the_columns(story):
    columns = story.shape.manifest(Modality.WITH_IMAGE)["columns"]
    measured = [f"image_{f}" for f in story.shape.spec.image_features]
    assert columns.keys() == {"camera", "iso", "exposure_ms", *measured, "image"}


def test_photos_are_told_apart_and_rows_without_one_are_not_left_alone(story):
    table = story.shape.table()
    assert table.keys() == story.truth.keys()
    seen = {key: row for key, row in table.items() if row["modality"] == "with_image"}
    assert len(table) - len(seen) == 8
    right = sum(row["prediction"] == story.truth[key] for key, row in seen.items())
    assert right / len(seen) >= 0.8


def test_photos_that_are_too_dark_are_named_by_a_check(shape_of, tmp_path_factory, story):
    """With limits that many photos break; the YAML's own are kept to."""
    folder = tmp_path_factory.mktemp("dark")
    make_blur(folder, seed=1)
    limits = story.shape.spec.limits
    tight = {ImageFeature.BRIGHTNESS: Range(minimum=80)}
    shape = shape_of("blur", limits=limits.model_copy(update={"image_features": tight}))
    words = "; ".join(
        w for outcome in shape.take_in(folder / "unlabelled") for w in outcome.warnings
    )
    assert "image_features_fit" in words
    assert "by brightness" in words
    assert "photos/photo" in words
