"""A number is predicted, through the whole pipeline: from an upload of prices to monitoring.

The engine is the template's own, with fewer members; no budget cuts it short on a busy machine.
"""

from __future__ import annotations

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest

from mm_assets.contract.dataset import Modality
from mm_assets.contract.engine_spec import EngineSpec
from mm_assets.contract.review import Review
from mm_assets.demo.houses import make_houses
from mm_assets.review.answers import judge, send_labels
from mm_assets.review.export import export_review
from mm_assets.review.queue import review_classes, review_queue
from mm_assets.review.read import read_answers

SEES = EngineSpec(
    engine="automatic",
    hyperparameters={"members": ["linear", "linear with image"], "folds": 3},
    time_limit_seconds=400,
)
TABLE = SEES.model_copy(update={"hyperparameters": {"members": ["linear"], "folds": 3}})
LABELLED, UNLABELLED, ANSWERED = 160, 24, 3


@pytest.fixture(scope="module")
def story(shape_of, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uploads")
    truth = make_houses(folder, labelled=LABELLED, unlabelled=UNLABELLED)
    shape = shape_of(
        "houses",
        model_with_image=(SEES,),
        model_without_image=(TABLE,),
        minimum_training_records=60,
        review=Review(threshold=0.9),
    )
    told, tables = SimpleNamespace(outcomes=[]), []
    for work in (
        lambda: shape.take_in(folder / "labelled"),
        shape.runner.train,
        lambda: shape.take_in(folder / "unlabelled"),
        lambda: shape.take_in(folder / "late-images"),
    ):
        told.outcomes += work()
        tables.append(shape.table())
    told.exported, told.judged = answered(shape, tmp_path_factory.mktemp("review") / "out", truth)
    told.outcomes += shape.runner.sync()
    tables.append(shape.table())
    told.outcomes += shape.take_in(folder / "late-prices")
    tables.append(shape.table())
    told.checks = list(shape.runner.check())
    told.before, told.late, told.reviewed, told.sold = tables[2:]
    return SimpleNamespace(shape=shape, truth=truth, folder=folder, **vars(told))


def answered(shape, folder, truth):
    """A person fills in the prices of the first few houses to review, and sends the sheet."""
    export_review(shape.lake, shape.store, shape.spec, folder)
    sheet = folder / "tasks.csv"
    with sheet.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    unsold = [row for row in rows if not_sold_yet(row["record_id"], truth)][:ANSWERED]
    for row in unsold:
        row["price_eur"] = truth[row["record_id"]]
    with sheet.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    answers = read_answers(sheet, shape.spec)
    judged = judge(answers, shape.store, shape.spec, review_classes(shape.lake, shape.spec))
    send_labels(shape.lake, shape.spec, judged)
    return {row["record_id"]: row for row in unsold}, judged


def not_sold_yet(record_id: str, truth: dict[str, str]) -> bool:
    return record_id in list(truth)[UNLABELLED // 2 : UNLABELLED]


def off(table, truth, records) -> float:
    return float(np.mean([abs(float(table[r]["prediction"]) - float(truth[r])) for r in records]))


def test_every_run_and_every_check_is_good(story):
    for outcome in story.outcomes + story.checks:
        # The labelled upload has rows and photos that are refused on purpose.
        assert not outcome.problem, outcome
        assert not outcome.failed_checks, outcome


def test_both_models_are_better_than_the_best_constant_though_prices_are_mistyped(story):
    with (story.folder / "labelled" / "houses.csv").open(newline="") as file:
        typed = [float(row["price_eur"]) for row in csv.DictReader(file)]
    assert sum(price > 10_000_000 for price in typed) == 2
    for modality in Modality:
        manifest = story.shape.manifest(modality)
        assert manifest["metrics"]["mean_absolute_error"] < manifest["baseline"][
            "mean_absolute_error"]  # fmt: skip
        assert manifest["calibration"]["tolerance"] == [40_000, False]


def test_predictions_are_prices_and_near_the_truth(story):
    table, truth = story.late, story.truth
    assert table.keys() == {*list(truth)[:UNLABELLED]}
    prices = [float(row["prediction"]) for row in table.values()]
    assert all(10_000 < price < 3_000_000 for price in prices)
    true = [float(truth[record]) for record in table]
    always = float(np.abs(np.array(true) - np.median(true)).mean())
    assert off(table, truth, table) < 0.75 * always
    for row in table.values():
        assert row["probabilities"] is None
        assert "e" not in row["prediction"]
        assert 0 <= row["confidence"] <= 1
        assert row["needs_review"] == (row["confidence"] < 0.9 or row["doubts"] is not None)
        assert row["lower"] <= float(row["prediction"]) <= row["upper"]
        assert row["lower"] < row["upper"]


def test_a_late_photo_replaces_the_prediction_and_no_other(story):
    came = {path.stem for path in (story.folder / "late-images" / "photos").iterdir()}
    changed = {
        r for r in story.late if story.late[r]["input_hash"] != story.before[r]["input_hash"]
    }
    assert changed == came
    assert {story.before[r]["modality"] for r in came} == {"without_image"}
    assert {story.late[r]["modality"] for r in came} == {"with_image"}


def test_a_price_that_a_person_gives_comes_back_and_leaves_the_queue(story):
    assert len(story.exported) == ANSWERED
    assert not story.judged.refused
    for record in story.exported:
        assert float(story.reviewed[record]["label"]) == float(story.truth[record])
        assert story.reviewed[record]["prediction"] == story.late[record]["prediction"]
    waiting = {item.record_id for item in review_queue(story.shape.store, story.shape.spec)}
    assert not waiting & story.exported.keys()


def test_the_sheet_shows_a_price_and_no_second_class(story):
    for record, row in story.exported.items():
        assert float(row["prediction"]) == float(story.late[record]["prediction"])
        assert "second" not in row


def test_prices_that_come_late_stand_beside_the_predictions(story):
    sold = list(story.truth)[: UNLABELLED // 2]
    for record in sold:
        assert float(story.sold[record]["label"]) == float(story.truth[record])


def test_monitoring_tells_how_far_off_predictions_were(story):
    document = story.shape.lake.read_json("datasets/houses/monitoring.json")
    known = [r for r, row in story.sold.items() if row["label"] is not None]
    assert document["live_n"] == len(known) == UNLABELLED // 2 + ANSWERED
    assert document["live_mean_absolute_error"] == pytest.approx(
        off(story.sold, story.truth, known), rel=1e-4
    )
    shown = story.shape.metadata("monitoring")
    assert {"predicted values", "live accuracy", "confidence"} <= shown.keys()
    assert "predicted classes" not in shown


def test_the_training_shows_residuals_and_no_confusion(story):
    shown = story.shape.metadata("model_with_image")
    assert "residuals" in shown
    assert "confusion matrix" not in shown
    assert json.dumps(shown["decision"].value).count("e+") == 0
