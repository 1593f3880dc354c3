"""A whole training: what it promises of the review queue, and what the table then says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.predictions.at_once import predict_at_once
from mm_assets.predictions.predict import spec_generation
from mm_assets.registry.store import ModelStore
from mm_assets.tables.open import open_store
from mm_assets.training.train import TrainingResult, train_model
from mm_assets.training.training_set import build_training_set
from tests.make import dataset, drop_zip, processed, table

WITHOUT = Modality.WITHOUT_IMAGE
AUTOMATIC = {
    "engine": "automatic", "time_limit_seconds": 60,
    "hyperparameters": {"members": ["linear", "trees"], "folds": 3},
}  # fmt: skip


def flats(**keys: Any) -> DatasetSpec:
    return dataset(
        **{
            "problem_type": "regression", "classes": None, "columns": {"size": "number"},
            "image_name": None, "model_without_image": AUTOMATIC, **keys,
        }
    )  # fmt: skip


def letters(**keys: Any) -> DatasetSpec:
    return dataset(
        **{
            "classes": ["cat", "dog"], "columns": {"age": "number"}, "image_name": None,
            "model_without_image": AUTOMATIC, **keys,
        }
    )  # fmt: skip


def flat_rows(count: int, seed: int) -> list[tuple[str, float, float]]:
    """Large flats are dear, and how dear is harder to tell."""
    draw = np.random.default_rng(seed)
    size = draw.uniform(20, 200, count).round(1)
    price = (size * 100 * np.exp(draw.normal(0, 0.15, count))).round()
    return [(f"f{seed}-{n}", size[n], price[n]) for n in range(count)]


def pet_rows(count: int, seed: int) -> list[tuple[str, float, str]]:
    """The older, the more dogs; in the middle nobody can tell."""
    draw = np.random.default_rng(seed)
    age = draw.uniform(-6, 6, count).round(3)
    dog = draw.random(count) < 1 / (1 + np.exp(-age))
    return [(f"p{seed}-{n}", age[n], "dog" if dog[n] else "cat") for n in range(count)]


def lake_of(settings: Settings, spec: DatasetSpec, name: str, rows: list[Any]) -> Lake:
    lake = Lake(settings)
    store = open_store(settings)
    lines = [",".join(map(str, one)) for one in rows]
    drop_zip(lake, "labelled.zip", {"t.csv": table(f"id,{name},label", *lines)})
    processed(lake, store, spec, "labelled.zip")
    build_training_set(lake, store, spec, run_id="run")
    return lake


def trained(lake: Lake, spec: DatasetSpec) -> TrainingResult:
    models = ModelStore(lake, "pets")
    return train_model(lake, models, spec, WITHOUT, run_id="run", progress=lambda _: None)


def answers(lake: Lake, spec: DatasetSpec, name: str, rows: list[Any]) -> list[dict[str, Any]]:
    files = [("t.csv", table(f"id,{name}", *(f"{one[0]},{one[1]}" for one in rows)))]
    told = predict_at_once(ModelStore(lake, "pets"), spec, files).predictions.to_pylist()
    found = {row["record_id"]: row for row in told}
    return [found[one[0]] for one in rows]


@pytest.fixture(scope="module")
def prices(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, TrainingResult]:
    lake = lake_of(_settings(tmp_path_factory.mktemp("prices")), flats(), "size", flat_rows(600, 0))
    return lake, trained(lake, flats())


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, TrainingResult]:
    spec = letters(review={"target_accuracy": 0.95})
    lake = lake_of(_settings(tmp_path_factory.mktemp("pets")), spec, "age", pet_rows(1500, 0))
    return lake, trained(lake, spec)


def _settings(folder: Path) -> Settings:
    return Settings(
        root=folder, data=Path("data"), lake=str(folder / "lake"),
        table=f"duckdb:///{folder / 'table.duckdb'}", events="",
    )  # fmt: skip


def test_every_number_has_an_interval_that_holds_as_often_as_the_yaml_says(
    prices: tuple[Lake, TrainingResult],
) -> None:
    lake, _ = prices
    rows = flat_rows(600, 1)
    for level in (0.9, 0.7):
        said = answers(lake, flats(interval_level=level), "size", rows)
        inside = [
            one["lower"] <= row[2] <= one["upper"] for one, row in zip(said, rows, strict=True)
        ]
        assert np.mean(inside) == pytest.approx(level, abs=0.05)
        assert all(one["lower"] <= float(one["prediction"]) <= one["upper"] for one in said)
    small, large = (
        np.mean([o["upper"] - o["lower"] for o, r in zip(said, rows, strict=True) if part(r[1])])
        for part in (lambda size: size < 60, lambda size: size > 160)
    )
    assert large > 1.5 * small


def test_what_the_yaml_wants_of_review_holds_at_once_without_a_training(
    prices: tuple[Lake, TrainingResult],
) -> None:
    lake, _ = prices
    rows = flat_rows(600, 2)
    for share in (0.05, 0.3):
        said = answers(lake, flats(review={"largest_share": share}), "size", rows)
        assert np.mean([one["needs_review"] for one in said]) == pytest.approx(share, abs=0.05)
    wide = answers(lake, flats(review={"widest_interval": 0.5}), "size", rows)
    for one in wide:
        width = (one["upper"] - one["lower"]) / float(one["prediction"])
        assert one["needs_review"] == (width > 0.5) or abs(width - 0.5) < 1e-3
    near, far = (
        answers(lake, flats(regression_tolerance=said), "size", rows) for said in ("5%", "40%")
    )
    assert np.mean([one["confidence"] for one in near]) < 0.5
    assert np.mean([one["confidence"] for one in far]) > 0.9
    generations = {
        spec_generation(lake, spec) for spec in (flats(), flats(review={"largest_share": 0.3}))
    }
    assert len(generations) == 2  # so that the new answers replace the old ones


def test_coverage_on_the_held_out_records_is_told(prices: tuple[Lake, TrainingResult]) -> None:
    lake, result = prices
    told = result.promise["held_out"]
    assert told["level"] == 0.9
    assert told["n"] == result.evaluation.n
    assert 0.8 <= told["coverage"] <= 1
    assert ModelStore(lake, "pets").manifest(WITHOUT, result.version)["promise"] == result.promise


def test_what_is_not_in_review_reaches_the_target(pets: tuple[Lake, TrainingResult]) -> None:
    lake, result = pets
    assert result.promise["reached"]
    assert "as promised: 95.0%" in result.promise["words"]
    spec = letters(review={"target_accuracy": 0.95})
    rows = pet_rows(1500, 3)
    said = answers(lake, spec, "age", rows)
    right = np.array([one["prediction"] == row[2] for one, row in zip(said, rows, strict=True)])
    asked = np.array([one["needs_review"] for one in said])
    assert right.mean() < 0.93  # all answers together do not reach it
    assert right[~asked].mean() >= 0.95
    assert 0 < asked.mean() < 0.5
    assert asked.mean() == pytest.approx(result.promise["share"], abs=0.05)
    assert right[asked].mean() < 0.85  # the queue holds the doubtful ones


def test_confidence_is_the_share_that_is_right(pets: tuple[Lake, TrainingResult]) -> None:
    lake, _ = pets
    rows = pet_rows(2000, 4)
    said = answers(lake, letters(), "age", rows)
    right = np.array([one["prediction"] == row[2] for one, row in zip(said, rows, strict=True)])
    confidence = np.array([one["confidence"] for one in said])
    for part in np.array_split(np.argsort(confidence), 4):
        assert right[part].mean() == pytest.approx(confidence[part].mean(), abs=0.06)


def test_what_cannot_be_promised_is_said(pets: tuple[Lake, TrainingResult]) -> None:
    lake, _ = pets
    spec = letters(review={"target_accuracy": 0.999, "largest_share": 0.05})
    result = trained(lake, spec)
    assert not result.promise["reached"]
    assert "99.9% CANNOT be promised with at most 5% of the records" in result.promise["words"]
    said = answers(lake, spec, "age", pet_rows(1000, 5))
    assert np.mean([one["needs_review"] for one in said]) == pytest.approx(0.05, abs=0.03)
