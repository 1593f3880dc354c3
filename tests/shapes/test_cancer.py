"""A table alone, the whole data: XGBoost is tuned, reaches what the YAML asks for, and predicts."""

from __future__ import annotations

from types import SimpleNamespace

import dagster as dg
import pytest

from mm_assets.contract.dataset import Modality
from mm_assets.demo.cancer import make_cancer

ONLY = Modality.WITHOUT_IMAGE


@pytest.fixture(scope="module")
def story(shape_of, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uploads")
    truth = make_cancer(folder)
    shape = shape_of("cancer")
    outcomes = shape.take_in(folder / "labelled")
    outcomes += shape.runner.train()
    outcomes += shape.take_in(folder / "unlabelled")
    outcomes += shape.take_in(folder / "late-labels")
    outcomes += shape.runner.check()
    return SimpleNamespace(shape=shape, truth=truth, outcomes=outcomes)


def test_every_run_and_every_check_is_good(story):
    assert all(outcome.is_good for outcome in story.outcomes), story.outcomes


def test_there_are_only_the_assets_of_a_table(story):
    keys = story.shape.runner.definitions.resolve_all_asset_keys()
    assert dg.AssetKey(["cancer", "model_without_image"]) in keys
    assert not [key for key in keys if "with_image" in key.path[1]]


def test_the_area_under_the_roc_curve_is_at_least_99_percent(story):
    manifest = story.shape.manifest(ONLY)
    assert manifest["metric"] == "roc_auc"
    assert manifest["n"] >= 80
    assert manifest["metrics"]["roc_auc"] >= 0.99


def test_all_thirty_measurements_are_learnt_from(story):
    columns = story.shape.manifest(ONLY)["columns"]
    assert len(columns) == 30
    assert set(columns.values()) == {"number"}


def test_tuning_chose_the_hyperparameters_and_says_so(story):
    manifest = story.shape.manifest(ONLY)
    tuning = manifest["tuning"]
    assert tuning["trials"] == 12
    assert tuning["folds"] == 3
    assert manifest["engine"]["hyperparameters"].items() >= {"subsample": 0.7}.items()
    assert "learning_rate" in manifest["engine"]["hyperparameters"]
    assert "trials (gradient_boosting)" in story.shape.metadata("model_without_image")


def test_unlabelled_records_are_predicted_mostly_right(story):
    table = story.shape.table()
    assert table.keys() == story.truth.keys()
    right = sum(row["prediction"] == story.truth[key] for key, row in table.items())
    assert right / len(table) >= 0.9


def test_diagnoses_that_come_later_stand_beside_the_predictions(story):
    table = story.shape.table()
    labelled = {key: row["label"] for key, row in table.items() if row["label"] is not None}
    assert len(labelled) == 50
    assert labelled.items() <= story.truth.items()
    assert story.shape.metadata("monitoring")["live n"].value == 50
