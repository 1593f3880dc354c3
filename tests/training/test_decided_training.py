"""A whole training with a rare class: what the YAML says of decisions decides, and is gated by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mm_assets.api.exported import load_exported
from mm_assets.api.models import describe_model, export_model
from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.errors import ModelError
from mm_assets.contract.settings import Settings
from mm_assets.engines.protocol import Task
from mm_assets.lake.lake import Lake
from mm_assets.manifest.split import split_records
from mm_assets.predictions.at_once import predict_at_once
from mm_assets.predictions.merge import merge_predictions
from mm_assets.predictions.predict import predict_records, spec_generation
from mm_assets.registry.pins import generations, pinned_champions
from mm_assets.registry.store import ModelStore
from mm_assets.tables.open import open_store
from mm_assets.training.decide import decided_by, unseen_answers
from mm_assets.training.decision import rule_of
from mm_assets.training.train import TrainingResult, train_model
from mm_assets.training.training_set import build_training_set
from tests.kill.engine import NearestMean
from tests.make import dataset, drop_zip, processed, table

WITHOUT = Modality.WITHOUT_IMAGE
TREES = {"engine": "gradient_boosting", "hyperparameters": {"max_depth": 2, "n_jobs": 1}}
COSTS = {"ill": {"well": 20}, "well": {"ill": 1}}


def clinic(**keys: Any) -> DatasetSpec:
    return dataset(
        **{
            "classes": ["ill", "well"], "columns": {"age": "number"}, "image_name": None,
            "model_without_image": TREES, "positive_class": "ill", **keys,
        }
    )  # fmt: skip


def patients(count: int, seed: int) -> list[tuple[str, str, str]]:
    """One in ten is ill, and these are rather older."""
    random = np.random.default_rng(seed)
    ill = random.random(count) < 0.1
    ages = (random.normal(50, 10, count) + 12 * ill).round(2)
    return [(f"s{seed}-{n}", str(ages[n]), "ill" if ill[n] else "well") for n in range(count)]


@pytest.fixture
def lake(folder_settings: Settings) -> Lake:
    """With 1,200 labelled patients."""
    lake = Lake(folder_settings)
    spec, store = clinic(), open_store(folder_settings)
    rows = [",".join(one) for one in patients(1200, 0)]
    drop_zip(lake, "labelled.zip", {"t.csv": table("id,age,label", *rows)})
    processed(lake, store, spec, "labelled.zip")
    build_training_set(lake, store, spec, run_id="run")
    return lake


def trained(lake: Lake, spec: DatasetSpec) -> TrainingResult:
    models = ModelStore(lake, "pets")
    return train_model(lake, models, spec, WITHOUT, run_id="run", progress=lambda _: None)


def asked(count: int = 60) -> list[str]:
    return [f"{record_id},{age}" for record_id, age, _ in patients(count, 7)]


def at_once(lake: Lake, spec: DatasetSpec, rows: list[str]) -> dict[str, dict[str, Any]]:
    files = [("t.csv", table("id,age", *rows))]
    told = predict_at_once(ModelStore(lake, "pets"), spec, files)
    return {row["record_id"]: row for row in told.predictions.to_pylist()}


def predicted(lake: Lake, spec: DatasetSpec, upload: str) -> dict[str, dict[str, Any]]:
    """The table, after the champion was asked about the upload once more."""
    models, store = ModelStore(lake, "pets"), open_store(lake.settings)
    split_records(lake, spec, upload, WITHOUT)
    champions = pinned_champions(models, generations(models))
    predict_records(
        lake, models, spec, upload, WITHOUT,
        champions=champions, run_id="run", progress=lambda _: None,
    )  # fmt: skip
    merge_predictions(lake, store, spec, upload)
    rows = store.read("pets").to_pylist()
    return {row["record_id"]: row for row in rows if row["record_id"].startswith("s7")}


def said(answers: dict[str, dict[str, Any]], name: str = "ill") -> int:
    return sum(one["prediction"] == name for one in answers.values())


def test_costs_find_the_rare_class_and_decide_at_the_gate(lake: Lake) -> None:
    plain = trained(lake, clinic())
    costly = trained(lake, clinic(costs=COSTS))
    assert costly.evaluation.metric == "expected_cost"
    metrics, before = costly.evaluation.metrics, plain.evaluation.metrics
    assert metrics["recall"] > before["recall"] + 0.3
    assert metrics["accuracy"] < before["accuracy"]
    assert metrics["expected_cost"] < costly.evaluation.baseline["expected_cost"]
    assert costly.champion is not None
    assert costly.decision.reason.startswith("Promoted: expected cost")
    assert costly.rule == "costs: ill from 0.0476"
    assert "threshold" in costly.pictures
    assert "threshold" not in plain.pictures
    manifest = ModelStore(lake, "pets").manifest(WITHOUT, costly.version)
    assert manifest["decision"] is None  # they stand in the YAML
    told = describe_model(lake, clinic(costs=COSTS), costly.version, WITHOUT)
    assert told["decision"] == "costs: ill from 0.0476"


def test_other_costs_take_effect_without_a_training_as_a_newer_wording(lake: Lake) -> None:
    plain, costly = (clinic(costs=costs, review_threshold=None) for costs in (None, COSTS))
    assert trained(lake, plain).champion
    store = open_store(lake.settings)
    drop_zip(lake, "new.zip", {"t.csv": table("id,age", *asked())})
    upload = processed(lake, store, plain, "new.zip")["upload"]
    first = predicted(lake, plain, upload)
    second = predicted(lake, costly, upload)
    assert said(second) > said(first)
    assert spec_generation(lake, costly) == 2
    for record_id, one in second.items():
        assert one["probabilities"] == first[record_id]["probabilities"]
        own = json.loads(one["probabilities"])
        assert one["confidence"] == own[one["prediction"]]
        assert (one["prediction"] == "ill") == (own["ill"] > 1 / 21)
        assert one["needs_review"] == (one["confidence"] < 0.6)  # nothing is promised of them yet


@pytest.mark.parametrize("keys", [{"costs": COSTS}, {"decide_for": "f1"}])
def test_a_record_is_answered_the_same_alone_in_a_batch_and_by_an_exported_model(
    lake: Lake, tmp_path: Path, keys: dict[str, Any]
) -> None:
    spec = clinic(**keys)
    assert trained(lake, spec).champion
    rows = asked()
    together = at_once(lake, spec, rows)
    assert 0 < said(together) < len(rows)
    for row in rows[:8]:
        [alone] = at_once(lake, spec, [row]).values()
        for name in ("prediction", "confidence", "probabilities", "needs_review", "reasons"):
            assert alone[name] == together[alone["record_id"]][name]
    export_model(lake, spec, tmp_path / "out", format="folder")
    frame = pd.DataFrame([row.split(",") for row in rows], columns=["id", "age"])
    elsewhere = load_exported(tmp_path / "out").predict(frame.astype({"age": float}))
    assert [together[i]["prediction"] for i in frame["id"]] == list(elsewhere["prediction"])


def test_the_reasons_speak_for_the_class_that_is_the_answer(lake: Lake) -> None:
    spec = clinic(costs={"ill": {"well": 1000}})
    trained(lake, clinic())
    plain, turned = (at_once(lake, one, asked()) for one in (clinic(), spec))
    other = [i for i in plain if plain[i]["prediction"] != turned[i]["prediction"]]
    assert other
    for record_id in other:
        before, after = plain[record_id]["reasons"], turned[record_id]["reasons"]
        assert before.replace("(+", "(-") == after or before.replace("(-", "(+") == after


@pytest.mark.parametrize(
    ("decide_for", "metric"),
    [
        ("f1", "f1"),
        ("balanced_accuracy", "balanced_accuracy"),
        ({"recall": 0.8}, "average_precision"),
    ],
)
def test_what_is_learnt_for_a_metric_stands_in_the_manifest_and_is_used(
    lake: Lake, decide_for: Any, metric: str
) -> None:
    spec = clinic(decide_for=decide_for)
    result = trained(lake, spec)
    plain = trained(lake, clinic())
    assert result.champion
    assert result.evaluation.metric == metric
    assert result.evaluation.metrics["recall"] > plain.evaluation.metrics["recall"] + 0.2
    manifest = ModelStore(lake, "pets").manifest(WITHOUT, result.version)
    learnt = manifest["decision"]
    assert learnt["reached"] >= learnt["plain"]
    assert not learnt["out_of_fold"]
    assert 0 < learnt["records"] < 250  # the tuning records
    rule = rule_of(spec, manifest)
    assert rule is not None
    assert rule.threshold("ill", "well") < 0.45


def test_a_demand_that_cannot_be_met_is_a_warning(lake: Lake) -> None:
    guesser = {"engine": f"{__name__}:Shrug"}
    spec = clinic(decide_for={"precision": 0.99}, model_without_image=guesser)
    result = trained(lake, spec)
    assert any("precision of ill at least 0.99 is not reached" in one for one in result.warnings)


class Shrug:
    """An engine that is as sure of everyone."""

    def __init__(self, **_: Any) -> None:
        pass

    def train(self, task: Task, directory: Path, progress: Any) -> None:
        (directory / "shrug.txt").write_text("-")

    def load(self, directory: Path) -> Shrug:
        return self

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"ill": 0.4, "well": 0.6}, index=frame.index)


def test_class_weights_find_the_rare_class_and_leave_confidence_honest(lake: Lake) -> None:
    plain, weighted = trained(lake, clinic()), trained(lake, clinic(class_weights="balanced"))
    assert weighted.evaluation.metric == "balanced_accuracy"
    metrics = weighted.evaluation.metrics
    assert metrics["recall"] > plain.evaluation.metrics["recall"] + 0.3
    assert metrics["log_loss"] == pytest.approx(plain.evaluation.metrics["log_loss"], abs=0.04)
    assert weighted.rule.startswith("class weights: ill from 0.")


def test_an_engine_without_weights_is_refused_rather_than_ignored(lake: Lake) -> None:
    spec = clinic(class_weights={"ill": 5}, model_without_image={"engine": f"{__name__}:Shrug"})
    with pytest.raises(ModelError) as caught:
        trained(lake, spec)
    assert caught.value.code == "class_weights_not_used"
    assert "`costs`" in caught.value.todo


@pytest.mark.parametrize(
    "keys",
    [{"positive_class": "il"}, {"costs": {"ill": {"wel": 3}}}, {"class_weights": {"il": 3}}],
)
def test_a_class_that_no_label_is_stops_the_training(lake: Lake, keys: dict[str, Any]) -> None:
    spec = clinic(**{"positive_class": "ill", "classes": None, **keys})
    build_training_set(lake, open_store(lake.settings), spec, run_id="run")
    with pytest.raises(ModelError) as caught:
        trained(lake, spec)
    assert caught.value.code == "class_unknown"
    assert "did you mean" in caught.value.what


def test_a_champion_without_a_decision_answers_as_before_and_is_judged_as_it_answers(
    lake: Lake,
) -> None:
    plain = clinic()
    assert trained(lake, plain).champion
    before = at_once(lake, plain, asked())
    still = at_once(lake, clinic(decide_for="f1"), asked())
    assert [one["prediction"] for one in still.values()] == [
        before[record_id]["prediction"] for record_id in still
    ]
    beaten = trained(lake, clinic(decide_for="f1", promotion_tolerance=0))
    assert beaten.champion
    assert "as good as the champion's" in beaten.decision.reason
    assert said(at_once(lake, clinic(decide_for="f1"), asked())) > said(before)


def test_a_decision_is_learnt_from_what_was_said_out_of_fold_where_an_engine_tells() -> None:
    frame = pd.DataFrame({"age": np.arange(40.0), "label": ["well"] * 30 + ["ill"] * 10})
    task = Task(frame[::2], frame[1::2], {"age": "number"}, "label", "binary")
    both = pd.concat([task.training, task.tuning])
    ill = np.where(both["label"] == "ill", 0.3, 0.1)
    ill[3] = np.nan
    engine: Any = NearestMean()
    engine.out_of_fold = pd.DataFrame({"ill": ill, "well": 1 - ill})
    decided = decided_by(
        clinic(decide_for="f1"), task, lambda: unseen_answers(task, engine, Shrug())
    )
    assert decided.document is not None
    assert decided.document["out_of_fold"]
    assert (decided.document["records"], decided.document["reached"]) == (39, 1.0)
    assert decided.rule is not None
    assert 0.1 < decided.rule.threshold("ill", "well") < 0.3
    engine.out_of_fold = engine.out_of_fold.iloc[:5]
    with pytest.raises(ModelError):
        decided_by(clinic(decide_for="f1"), task, lambda: unseen_answers(task, engine, Shrug()))
