"""A promise that holds is left alone; a broken one is told with its time, its amount, its slice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.review import Tolerance
from mm_assets.contract.settings import Settings
from mm_assets.doubt.calibration import Calibration
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import of_dataset
from mm_assets.monitoring import promises
from mm_assets.monitoring.report import build_monitoring
from mm_assets.orchestration.checks.monitoring import build_checks
from mm_assets.orchestration.scope import LakeResource, Scope
from mm_assets.predictions.predict import empty_predictions
from mm_assets.registry.store import ModelStore
from mm_assets.tables.open import open_store
from mm_assets.tables.store import Store
from mm_assets.training.answered import Answered, answered, with_labels_as_predicted
from mm_assets.training.training_set import build_training_set
from tests.monitoring.test_report import make_spec, upload

WITHOUT = Modality.WITHOUT_IMAGE
Draw = np.random.Generator


def answers(draw: Draw, n: int) -> tuple[pd.DataFrame, list[str]]:
    """Probabilities, and labels that come true just so."""
    cat = draw.beta(0.35, 0.35, n).clip(0.002, 0.998)
    labels = np.where(draw.random(n) < cat, "cat", "dog")
    return pd.DataFrame({"cat": cat, "dog": 1 - cat}), labels.tolist()


def calibration_of(draw: Draw, n: int = 800) -> Calibration:
    said, labels = answers(draw, n)
    return Calibration.of_classes(
        said, labels, said.to_numpy().argmax(axis=1), sureness=1.0, source="out of fold"
    )


def numbers_of(draw: Draw, n: int, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and true values; errors grow with the value."""
    said = draw.uniform(10, 100, n)
    return said, said + draw.normal(0, 0.05 * said * spread)


def of_classes(spec: DatasetSpec, calibration: Calibration, draw: Draw, n: int) -> pa.Table:
    said, labels = answers(draw, n)
    places = said.to_numpy().argmax(axis=1)
    confidence = calibration.sure(said, places).confidence
    asked = calibration.promise(spec.review).to_review(confidence, None)
    return pa.table({
        "record_id": [f"p{i}" for i in range(n)], "prediction": said.columns.to_numpy()[places],
        "label": labels, "confidence": confidence, "needs_review": asked,
        "upload": [f"2026112{i * 8 // n}-080000000-aa" for i in range(n)],
        "lower": pa.nulls(n, pa.float64()), "upper": pa.nulls(n, pa.float64()),
    })  # fmt: skip


def of_numbers(
    spec: DatasetSpec, calibration: Calibration, draw: Draw, n: int, spread: float = 1.0
) -> pa.Table:
    said, true = numbers_of(draw, n, spread)
    sure = calibration.sure(pd.DataFrame({"value": said}), None)
    asked = calibration.promise(spec.review).to_review(sure.confidence, sure.width)
    return pa.table({
        "record_id": [f"p{i}" for i in range(n)], "prediction": [str(x) for x in said],
        "label": [str(x) for x in true], "confidence": sure.confidence, "needs_review": asked,
        "upload": ["20261121-080000000-aa"] * n, "lower": sure.lower, "upper": sure.upper,
    })  # fmt: skip


def judged(lake: Lake, spec: DatasetSpec, calibration: Calibration, table: pa.Table) -> Any:
    manifest = {"calibration": calibration.to_json()}
    kept = promises.kept_of(spec, Answered(WITHOUT, "v", manifest, table))
    return promises.judged(lake, spec, kept) if kept else None


# -- promises that hold ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "review", [{"target_accuracy": 0.95}, {"target_accuracy": 0.999, "largest_share": 0.1},
               {"largest_share": 0.2}, {"threshold": 0.8}],
)  # fmt: skip
def test_a_promise_of_classes_that_holds_is_hardly_ever_called_broken(
    folder_settings: Settings, review: dict[str, float]
) -> None:
    """The model is as sure as it is right, so whatever is promised of it by rights holds."""
    lake, spec = Lake(folder_settings), make_spec(review=review)
    documents = []
    for seed in range(150):
        draw = np.random.default_rng(seed)
        calibration = calibration_of(draw)
        table = of_classes(spec, calibration, draw, 700)
        documents.append(judged(lake, spec, calibration, table))
    told = [one for one in documents if one and one["n"] >= promises.FEWEST_LABELS]
    assert len(told) > 120  # else all of it was in review: nothing could be promised
    assert sum(map(promises.is_broken, told)) <= 150 * 0.05


def test_accuracy_and_coverage_of_numbers_that_hold_are_hardly_ever_called_broken(
    folder_settings: Settings,
) -> None:
    lake, spec = Lake(folder_settings), make_spec("regression", regression_tolerance=6)
    false = 0
    for seed in range(150):
        draw = np.random.default_rng(seed)
        calibration = Calibration.of_numbers(
            *numbers_of(draw, 300), source="", level=0.9, tolerance=Tolerance(6)
        )
        document = judged(lake, spec, calibration, of_numbers(spec, calibration, draw, 500))
        assert document["coverage"]["n"] > 200
        false += promises.is_broken(document)
    assert false <= 150 * 0.05


def test_looking_again_with_every_upload_hardly_ever_calls_a_kept_promise_broken(
    folder_settings: Settings,
) -> None:
    """As many are right as promised, not one more; 40 looks at each of 100 tables."""
    lake, spec, false = Lake(folder_settings), make_spec(), 0
    for seed in range(100):
        right = np.random.default_rng(seed).random(1200) < 0.95
        table = pa.table({
            "record_id": [f"p{i}" for i in range(1200)], "prediction": ["cat"] * 1200,
            "upload": [f"20261121-0800{i // 30:02d}000-aa" for i in range(1200)],
        })  # fmt: skip
        looks = (
            promises.Kept(WITHOUT.value, "v", table.slice(0, n), right[:n], 0.95)
            for n in range(30, 1201, 30)
        )
        false += any(promises.is_broken(promises.judged(lake, spec, one)) for one in looks)
    assert false <= 5


def test_intervals_that_became_too_narrow_are_found_by_their_coverage(
    folder_settings: Settings,
) -> None:
    lake, spec = Lake(folder_settings), make_spec("regression", regression_tolerance=60)
    draw = np.random.default_rng(1)
    calibration = Calibration.of_numbers(
        *numbers_of(draw, 300), source="", level=0.9, tolerance=Tolerance(60)
    )
    table = of_numbers(spec, calibration, draw, 300, spread=2.0)
    document = judged(lake, spec, calibration, table)
    assert not document["accuracy"]["broken"]  # anything within 60 is right
    assert document["coverage"]["broken"]
    assert "are in their interval, promised were" in promises.in_words(document)


# -- since when, and where ------------------------------------------------------------------------


def test_the_time_is_the_upload_from_which_on_answers_are_worse() -> None:
    draw = np.random.default_rng(0)
    found = []
    for _ in range(100):
        uploads = np.repeat([f"u{i}" for i in range(10)], 40)
        good = draw.random(400) < np.where(uploads >= "u6", 0.75, 0.96)
        found.append(promises.since(uploads, good, 0.95))
    assert found.count("u6") > 75
    assert all("u4" <= start <= "u8" for start in found)


def test_where_errors_are_anywhere_no_slice_is_named_but_by_chance() -> None:
    draw, named = np.random.default_rng(0), 0
    for _ in range(200):
        good = draw.random(400) < 0.8
        values = draw.integers(0, 12, 400)
        slices = [("breed", str(value), values == value) for value in range(12)]
        named += promises.worst_slice(good, slices, 0.95) is not None
    assert named <= 200 * 0.05


def test_of_two_bad_slices_the_one_with_more_errors_too_many_is_named() -> None:
    values = np.repeat([0, 1, 2], [60, 200, 240])
    good = np.concatenate([np.arange(60) >= 30, np.arange(200) >= 60, np.arange(240) >= 5])
    slices = [("breed", str(value), values == value) for value in range(3)]
    worst = promises.worst_slice(good, slices, 0.95)
    assert worst == {
        "of": "breed", "value": "1", "n": 200, "right": 140, "others": {"n": 300, "right": 265},
    }  # fmt: skip


# -- through the lake and the table ---------------------------------------------------------------


@dataclass
class World:
    """A lake and a table with one model of classes; `deliver` sends records, then their labels."""

    lake: Lake
    store: Store
    spec: DatasetSpec
    folder: Path
    version: str = ""
    truth: dict[str, tuple[str, str]] = field(default_factory=dict)
    calibration: Calibration = field(
        default_factory=lambda: calibration_of(np.random.default_rng(7))
    )

    @property
    def models(self) -> ModelStore:
        return ModelStore(self.lake, self.spec.dataset)

    def train(self) -> str:
        """Store and promote a model that learnt from all labels there are."""
        document = build_training_set(self.lake, self.store, self.spec, run_id="run")
        self.folder.mkdir(exist_ok=True)
        (self.folder / "model.txt").write_text("x")
        manifest = {
            "engine": {"engine": "rules"}, "problem_type": "binary", "classes": ["cat", "dog"],
            "columns": self.spec.features(WITHOUT), "metrics": {}, "baseline": {}, "n": 1,
            "training_fingerprint": document["fingerprint"], "training_counts": {},
            "spec_fingerprint": self.spec.fingerprint, "calibration": self.calibration.to_json(),
        }  # fmt: skip
        self.version = self.models.save(WITHOUT, self.folder, manifest).version
        self.models.promote(WITHOUT, self.version, "gate")
        return self.version

    def deliver(self, name: str, n: int, seed: int, right: Callable[[str], float | None]) -> str:
        """right: of a breed the chance that an answer is right; None: as the model thinks."""
        draw = np.random.default_rng(seed)
        said, labels = answers(draw, n)
        breeds = draw.choice(["a", "b", "c"], n).tolist()
        rows = [(f"{name}{i}", 5, breed, "") for i, breed in enumerate(breeds)]
        key = upload((self.lake, self.store, self.spec), name, rows, {})
        places = said.to_numpy().argmax(axis=1)
        sure = self.calibration.sure(said, places).confidence
        asked = self.calibration.promise(self.spec.review).to_review(sure, None)
        offered = []
        for i, breed in enumerate(breeds):
            answer, label = str(said.columns[places[i]]), labels[i]
            if (chance := right(breed)) is not None:
                other = "dog" if answer == "cat" else "cat"
                label = answer if draw.random() < chance else other
            self.truth[f"{name}{i}"] = breed, label
            offered.append({
                "record_id": f"{name}{i}", "prediction": answer, "probabilities": "{}",
                "confidence": sure[i], "needs_review": asked[i], "modality": WITHOUT.value,
                "model_version": self.version, "upload": key, "input_hash": "0", "run_id": "run",
                "predicted_at": "2026-11-21T10:00:00.000000+00:00", "modality_rank": 0,
                "image_upload": "", "image_order": "", "model_generation": 1, "spec_generation": 1,
                "content_hash": "0",
            })  # fmt: skip
        table = pa.Table.from_pylist(offered, schema=empty_predictions().schema)
        self.store.merge(self.spec.dataset, table)
        return key

    def label(self, name: str, ids: list[str] | None = None) -> None:
        chosen = {i: self.truth[i] for i in ids} if ids is not None else self.truth
        rows = [(i, 5, breed, label) for i, (breed, label) in chosen.items()]
        upload((self.lake, self.store, self.spec), name, rows, {})

    def monitored(self) -> tuple[dict[str, Any], dg.AssetCheckResult]:
        """What was published, and the check of it."""
        build_monitoring(self.lake, self.store, self.spec, None)
        document = self.lake.read_json(of_dataset(self.spec.dataset, "monitoring"))
        assert document is not None
        [checks] = build_checks(Scope(self.spec))
        _, look = checks.looks["promise_holds"]
        return document, look(LakeResource())


@pytest.fixture
def world(folder_settings: Settings, tmp_path: Path) -> World:
    spec = make_spec(review={"target_accuracy": 0.95})
    made = World(Lake(folder_settings), open_store(folder_settings), spec, tmp_path / "files")
    rows = [(f"t{i}", 5, "abc"[i % 3], ["cat", "dog"][i % 2]) for i in range(60)]
    upload((made.lake, made.store, spec), "first", rows, {})
    made.train()
    return made


def test_a_category_that_broke_the_promise_is_named_with_its_time_and_amount(world: World) -> None:
    for number in range(2):
        world.deliver(f"good{number}", 120, number, lambda _: None)
    bad = [
        world.deliver(f"bad{n}", 120, 10 + n, lambda breed: 0.5 if breed == "c" else None)
        for n in range(2)
    ]
    world.label("labels")
    document, result = world.monitored()
    [found] = document["promises"]
    verdict = found["accuracy"]
    assert (found["version"], verdict["promised"], verdict["since"]) == (
        world.version, 0.95, bad[0],
    )  # fmt: skip
    assert (verdict["slice"]["of"], verdict["slice"]["value"]) == ("breed", "c")
    assert verdict["before"]["right"] / verdict["before"]["n"] > 0.95
    assert verdict["after"]["right"] / verdict["after"]["n"] < 0.9
    words = str(result.description)
    assert (result.passed, result.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert f"since {bad[0]}" in words
    assert "where breed is 'c'" in words
    assert document["promise_broken"] == 1
    assert "promise.png" in document["files"]


def test_a_promise_that_holds_passes_and_is_drawn(world: World) -> None:
    world.deliver("good", 300, 3, lambda _: None)
    world.label("labels")
    document, result = world.monitored()
    assert result.passed
    assert "outside review are right, promised were 95.0%" in str(result.description)
    assert (document["promise_broken"], "promise.png" in document["files"]) == (0, True)
    assert document["unreviewed_n"] == document["promises"][0]["n"] < 300


def test_labels_of_reviewed_records_say_nothing_of_the_rest(world: World) -> None:
    world.deliver("bad", 300, 4, lambda _: 0.3)
    read = world.store.read(world.spec.dataset).to_pylist()
    asked = [row["record_id"] for row in read if row["needs_review"]]
    rest = [row["record_id"] for row in read if not row["needs_review"]]
    world.label("reviewed", asked)
    document, result = world.monitored()
    assert (result.passed, document["promises"]) == (True, [])
    assert "too few labels to tell (0 " in str(result.description)
    world.label("few", rest[:29])
    _, result = world.monitored()
    assert result.passed
    assert "too few labels to tell (29 " in str(result.description)
    world.label("more", rest[:60])
    assert not world.monitored()[1].passed


def test_what_a_model_learnt_from_does_not_speak_for_it(world: World) -> None:
    """A new champion predicts again what it learnt: right or wrong, that proves nothing."""
    world.deliver("bad", 200, 5, lambda _: 0.5)
    world.label("labels")
    assert not world.monitored()[1].passed
    older = world.version
    newer = world.train()
    table = world.store.read(world.spec.dataset)
    place = table.column_names.index("model_version")
    again = table.set_column(place, "model_version", pa.array([newer] * table.num_rows))
    found = answered(world.models, world.spec, with_labels_as_predicted(again, world.spec))
    assert found == []
    [before] = answered(world.models, world.spec, with_labels_as_predicted(table, world.spec))
    assert (before.version, before.table.num_rows) == (older, 200)


def test_a_model_that_promised_nothing_cannot_break_it(world: World) -> None:
    plain = Calibration.of_manifest(world.spec, {})
    assert plain.promise(world.spec.review).n == 0
    table = of_classes(
        world.spec, calibration_of(np.random.default_rng(0)), np.random.default_rng(1), 50
    )
    assert promises.kept_of(world.spec, Answered(WITHOUT, "v", {}, table)) is None
