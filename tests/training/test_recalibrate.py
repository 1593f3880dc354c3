"""A model that is too sure is cured by later labels; what would make it worse is not promoted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mm_assets.api.models import describe_model, promise_of_model, rollback
from mm_assets.api.recalibrate import Recalibrated, recalibrate
from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.errors import ModelError
from mm_assets.contract.review import Tolerance
from mm_assets.contract.settings import Settings
from mm_assets.doubt.calibration import Calibration
from mm_assets.doubt.confidence import as_sure
from mm_assets.lake.lake import Lake
from mm_assets.manifest.split import split_records
from mm_assets.monitoring.report import build_monitoring
from mm_assets.predictions.merge import merge_predictions
from mm_assets.predictions.predict import predict_records
from mm_assets.registry.store import Champion, ModelStore
from mm_assets.tables.dynamodb.store import DynamoDBStore
from mm_assets.tables.open import open_store
from mm_assets.tables.store import Store
from mm_assets.training.decision import chosen
from mm_assets.training.promised import target_is_kept
from mm_assets.training.recalibrate import JUDGED_SHARE
from mm_assets.training.splits import split_of
from mm_assets.training.training_set import build_training_set
from tests.make import dataset, drop_zip, processed, table

WITHOUT = Modality.WITHOUT_IMAGE
TRUE = 1.5  # how much the class hangs on the age
Truth = Callable[[str, float, np.random.Generator], str]


def cats(power: float, age: Any) -> Any:
    return 1 / (1 + np.exp(-power * (np.asarray(age, dtype=float) - 5)))


class Knowing:
    """An engine that knows what there is to know, and is `power` times as sure as it may be."""

    def __init__(self, **_: Any) -> None:
        self.power = 1.0

    def load(self, folder: Path) -> Knowing:
        self.power = float((folder / "power.txt").read_text())
        return self

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        cat = cats(TRUE * self.power, frame["age"])
        return pd.DataFrame({"cat": cat, "dog": 1 - cat}, index=frame.index)


class Tenfold(Knowing):
    """Numbers: ten times the age."""

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"value": 10.0 * frame["age"]}, index=frame.index)


def as_it_is(_: str, age: float, draw: np.random.Generator) -> str:
    return "cat" if draw.random() < cats(TRUE, age) else "dog"


def near(spread: float) -> Truth:
    return lambda _, age, draw: f"{10 * age + draw.normal(0, spread):.4f}"


@dataclass
class World:
    """A lake, a table and one champion."""

    lake: Lake
    store: Store
    spec: DatasetSpec
    folder: Path

    @property
    def models(self) -> ModelStore:
        return ModelStore(self.lake, self.spec.dataset)

    @property
    def champion(self) -> Champion:
        champion = self.models.champion(WITHOUT)
        assert champion is not None
        return champion

    def train(self, calibration: Calibration, power: float = 1.0, **more: Any) -> None:
        """A champion that learnt from 60 records, which are as sure as `calibration` says."""
        rows = [f"t{i},{i % 10},{i if self.spec.is_regression else ['cat', 'dog'][i % 2]},t{i}"
                for i in range(60)]  # fmt: skip
        self.upload("first", "id,age,label,house", rows)
        document = build_training_set(self.lake, self.store, self.spec, run_id="run")
        self.folder.mkdir()
        (self.folder / "power.txt").write_text(str(power))
        manifest = {
            "engine": {"engine": self.spec.model_without_image[0].engine},
            "problem_type": self.spec.problem_type, "classes": ["cat", "dog"],
            "columns": self.spec.features(WITHOUT), "metric": "accuracy",
            "metrics": {"accuracy": 0.8}, "baseline": {"accuracy": 0.5}, "n": 1,
            "training_fingerprint": document["fingerprint"], "training_counts": {},
            "spec_fingerprint": self.spec.fingerprint, "calibration": calibration.to_json(), **more,
        }  # fmt: skip
        version = self.models.save(WITHOUT, self.folder, manifest).version
        self.models.promote(WITHOUT, version, "gate")

    def upload(self, name: str, header: str, rows: list[str]) -> str:
        drop_zip(self.lake, f"{name}.zip", {"rows.csv": table(header, *rows)})
        upload = processed(self.lake, self.store, self.spec, f"{name}.zip")["upload"]
        split_records(self.lake, self.spec, upload, WITHOUT)
        return str(upload)

    def predict(self, upload: str, champion: Champion | None = None) -> None:
        predict_records(
            self.lake, self.models, self.spec, upload, WITHOUT,
            champions={WITHOUT: champion or self.champion, Modality.WITH_IMAGE: None},
            run_id="run", progress=lambda _: None,
        )  # fmt: skip
        merge_predictions(self.lake, self.store, self.spec, upload)

    def live(self, name: str, n: int, truth: Truth, seed: int = 0) -> str:
        """Records that are predicted; their labels come in a later upload."""
        draw = np.random.default_rng(seed)
        ages = {f"{name}{i}": round(float(draw.uniform(0, 10)), 3) for i in range(n)}
        upload = self.upload(name, "id,age", [f"{i},{age}" for i, age in ages.items()])
        self.predict(upload)
        labels = [f"{i},{truth(i, age, draw)}" for i, age in ages.items()]
        self.upload(f"{name}-labels", "id,label", labels)
        return upload

    def recalibrate(self, **how: Any) -> Recalibrated:
        return recalibrate(self.lake, self.store, self.spec, **how)

    def rows(self) -> list[dict[str, Any]]:
        rows = self.store.read(self.spec.dataset).drop_columns(["predicted_at"]).to_pylist()
        return sorted(rows, key=lambda row: str(row["record_id"]))


def made(settings: Settings, folder: Path, **changes: Any) -> World:
    keys = {
        "columns": {"age": "number"}, "image_name": None,
        "review": {"target_accuracy": 0.95},
        "model_without_image": {"engine": f"{__name__}:Knowing"}, **changes,
    }  # fmt: skip
    return World(Lake(settings), open_store(settings), dataset(**keys), folder / "files")


def believed(power: float, n: int = 600, sureness: float = 1.0) -> Calibration:
    """As if the model's answers had been right out of fold as often as it thinks."""
    draw = np.random.default_rng(1)
    cat = cats(TRUE * power, draw.uniform(0, 10, n))
    labels = np.where(draw.random(n) < cat, "cat", "dog").tolist()
    said = pd.DataFrame({"cat": cat, "dog": 1 - cat})
    return Calibration.of_classes(
        said, labels, chosen(said, None), sureness=sureness, source="out of fold"
    )


@pytest.fixture
def world(folder_settings: Settings, tmp_path: Path) -> World:
    return made(folder_settings, tmp_path)


def test_a_model_that_is_too_sure_is_cured(world: World) -> None:
    world.train(believed(3.0), power=3.0)
    before = world.champion
    upload = world.live("a", 1500, as_it_is)
    assert build_monitoring(world.lake, world.store, world.spec, None)[1]["promise_broken"] == 1
    found = world.recalibrate()
    assert found.champion == world.champion
    assert (found.recalibrated_from, found.champion.generation) == (before.version, 2)  # type: ignore[union-attr]
    assert found.learned + found.judged == 1500
    assert found.after["log_loss"] < found.before["log_loss"]
    assert found.after["calibration_error"] < found.before["calibration_error"]
    manifest = world.models.manifest(WITHOUT, found.version)
    assert manifest["calibration"]["sureness"] == pytest.approx(1 / 3, rel=0.3)
    assert manifest["calibration"]["source"] == "labels that came later"
    assert manifest["files"] == world.models.manifest(WITHOUT, before.version)["files"]
    told = describe_model(world.lake, world.spec)
    assert told["recalibrated_from"] == before.version
    assert told["recalibration"]["judged"] == told["promise"]["held_out"]["n"] == found.judged
    assert told["recalibration"]["after"] == found.after
    assert told["promise"]["learnt_from"] == "labels that came later"
    assert told["promise"]["judged_by"] == "labels held back"
    assert (
        "labels held back outside review"
        in target_is_kept(promise_of_model(world.lake, world.spec)).words
    )
    said = {row["record_id"]: row["prediction"] for row in world.rows()}
    world.predict(upload)
    assert {row["record_id"]: row["prediction"] for row in world.rows()} == said
    assert {row["model_version"] for row in world.rows()} == {found.version}
    # Labels that it was recalibrated on say nothing of the new promise; new ones do.
    assert "promise_broken" not in build_monitoring(world.lake, world.store, world.spec, None)[1]
    world.live("b", 400, as_it_is, seed=2)
    figures = build_monitoring(world.lake, world.store, world.spec, None)[1]
    assert figures["unreviewed_n"] > 100
    assert figures["promise_broken"] == 0


def test_the_new_power_multiplies_the_old_one(world: World) -> None:
    """The table's probabilities are to the power of the old sureness already."""
    world.train(believed(1.5, sureness=0.5), power=3.0)
    upload = world.live("a", 900, as_it_is)
    old = {row["record_id"]: row["probabilities"] for row in world.rows()}
    found = world.recalibrate()
    sureness = world.models.manifest(WITHOUT, found.version)["calibration"]["sureness"]
    assert sureness == pytest.approx(1 / 3, rel=0.25)
    world.predict(upload)
    new = pd.DataFrame([eval(row["probabilities"]) for row in world.rows()])  # noqa: S307
    before = pd.DataFrame([eval(old[row["record_id"]]) for row in world.rows()])  # noqa: S307
    expected = as_sure(before.clip(lower=1e-6), sureness / 0.5)
    sure = (before > 0.001).all(axis=1) & (before < 0.999).all(axis=1)
    np.testing.assert_allclose(new[sure], expected[sure], atol=1e-3)


def test_what_the_labels_held_back_call_worse_is_stored_but_not_promoted(world: World) -> None:
    """What is learnt from is right by chance only; what is held back, always."""
    world.train(believed(1.0))

    def truth(record_id: str, age: float, draw: np.random.Generator) -> str:
        if split_of(f"recalibration {record_id}", JUDGED_SHARE) == "holdout":
            return "cat" if age > 5 else "dog"
        return str(draw.choice(["cat", "dog"]))

    world.live("a", 400, truth)
    champion = world.champion
    found = world.recalibrate()
    assert found.champion is None
    assert found.reason.startswith("Not promoted: log loss ")
    assert world.champion == champion
    assert found.version in world.models.versions(WITHOUT)


def test_what_belongs_together_is_held_back_together(
    folder_settings: Settings, tmp_path: Path
) -> None:
    """Of each house half of the records are always right: they may not judge what they taught."""
    world = made(folder_settings, tmp_path, group_column="house")
    world.train(believed(1.0))
    draw = np.random.default_rng(0)
    ages = {f"a{i}": round(float(draw.uniform(0, 10)), 3) for i in range(400)}
    house = {name: int(name[1:]) % 40 for name in ages}
    found = [f"{name},{age},{house[name]}" for name, age in ages.items()]
    world.predict(world.upload("a", "id,age,house", found))
    held = {n for n in range(40) if split_of(f"recalibration house={n}", JUDGED_SHARE) == "holdout"}
    wrong = {name: ("dog" if age > 5 else "cat") for name, age in ages.items()}
    right = {name: ("cat" if age > 5 else "dog") for name, age in ages.items()}
    labels = {name: (right if house[name] in held else wrong)[name] for name in ages}
    world.upload("labels", "id,label", [f"{name},{label}" for name, label in labels.items()])
    told = world.recalibrate()
    assert told.judged == sum(house[name] in held for name in ages)
    assert told.promise["held_out"]["errors"] == 0  # none of the houses that were learnt from


def test_too_few_labels_teach_nothing(world: World) -> None:
    world.train(believed(3.0), power=3.0)
    later = world.live("a", 149, as_it_is)
    assert code_of(world.recalibrate) == "recalibration_too_few"
    world.live("b", 40, as_it_is, seed=3)
    assert world.models.versions(WITHOUT) == [world.champion.version]
    assert code_of(lambda: world.recalibrate(since=f"{later}x")) == "recalibration_too_few"
    found = world.recalibrate()
    assert found.learned + found.judged == 189


def test_labels_of_reviewed_records_alone_teach_nothing(
    folder_settings: Settings, tmp_path: Path
) -> None:
    """They are the doubtful ones: learnt from, they would make the model doubt everything."""
    world = made(folder_settings, tmp_path, review={"threshold": 0.98})
    world.train(believed(1.0))
    draw = np.random.default_rng(0)
    ages = {f"a{i}": round(float(draw.uniform(0, 10)), 3) for i in range(800)}
    world.predict(world.upload("a", "id,age", [f"{i},{age}" for i, age in ages.items()]))
    asked = [row["record_id"] for row in world.rows() if row["needs_review"]]
    rest = [row["record_id"] for row in world.rows() if not row["needs_review"]]
    assert min(len(asked), len(rest)) > 200

    def label(name: str, ids: list[str]) -> None:
        rows = [f"{i},{as_it_is(i, ages[i], draw)}" for i in ids]
        world.upload(name, "id,label", rows)

    label("reviewed", asked)
    with pytest.raises(ModelError, match=f"of {len(asked)} too many were in review"):
        world.recalibrate()
    label("some of the rest", rest[:120])
    found = world.recalibrate()
    used = found.learned + found.judged
    share = len(asked) / 800
    assert used == 120 + round(120 * share / (1 - share))


def test_intervals_that_are_too_narrow_become_wide_enough(
    folder_settings: Settings, tmp_path: Path
) -> None:
    world = made(
        folder_settings, tmp_path, problem_type="regression", classes=None,
        model_without_image={"engine": f"{__name__}:Tenfold"}, regression_tolerance=5,
        review={"largest_share": 0.2},
    )  # fmt: skip
    draw = np.random.default_rng(0)
    said = draw.uniform(0, 100, 300)
    world.train(
        Calibration.of_numbers(
            said, said + draw.normal(0, 1, 300), source="", level=0.9, tolerance=Tolerance(5)
        )
    )
    upload = world.live("a", 600, near(4.0))
    assert build_monitoring(world.lake, world.store, world.spec, None)[1]["promise_broken"] == 1
    found = world.recalibrate()
    assert found.champion is not None
    assert found.before["coverage"] < 0.5
    assert found.after["coverage"] == pytest.approx(0.9, abs=0.06)
    assert found.after["interval_score"] < found.before["interval_score"]
    world.predict(upload)
    world.live("b", 400, near(4.0), seed=5)
    figures = build_monitoring(world.lake, world.store, world.spec, None)[1]
    assert figures["promise_broken"] == 0
    assert figures["unreviewed_coverage"] > 0.8


def test_what_was_learnt_for_a_decision_goes_on_to_give_the_same_answers(world: World) -> None:
    world.spec = DatasetSpec.model_validate(
        world.spec.model_dump() | {"decide_for": "f1", "positive_class": "cat"}
    )
    decision = {"why": "best f1 of cat", "factors": {"cat": 3.0, "dog": 1.0}}
    world.train(believed(3.0), power=3.0, decision=decision)
    upload = world.live("a", 600, as_it_is)
    said = {row["record_id"]: row["prediction"] for row in world.rows()}
    found = world.recalibrate()
    assert found.champion is not None
    world.predict(upload)
    assert {row["record_id"]: row["prediction"] for row in world.rows()} == said
    assert world.models.manifest(WITHOUT, found.version)["decision"]["factors"]["cat"] < 2


def test_a_slow_run_of_the_model_before_changes_nothing(world: World) -> None:
    """Law 2: a recalibration is a newer generation, so the order of merges never matters."""
    world.train(believed(3.0), power=3.0)
    before = world.champion
    upload = world.live("a", 400, as_it_is)
    world.recalibrate()
    world.predict(upload)
    table = world.rows()
    world.predict(upload, before)
    assert world.rows() == table
    old = [row["confidence"] for row in table]
    back = rollback(world.lake, world.spec)
    assert back.version == before.version
    world.predict(upload)
    assert [row["confidence"] for row in world.rows()] != old


def test_the_same_comes_of_it_in_s3_and_dynamodb_as_in_a_folder_and_duckdb(
    s3_settings: Settings,
    s3_client: Any,
    dynamodb_client: Any,
    dynamodb_table: str,
    folder_settings: Settings,
    tmp_path: Path,
) -> None:
    found, figures = [], []
    for lake, store in (
        (Lake(folder_settings), open_store(folder_settings)),
        (Lake(s3_settings, s3_client), DynamoDBStore(dynamodb_client, dynamodb_table, 20.0)),
    ):
        folder = tmp_path / str(len(found))
        folder.mkdir()
        world = made(folder_settings, folder)
        world.lake, world.store = lake, store
        world.train(believed(3.0), power=3.0)
        upload = world.live("a", 200, as_it_is)
        figures.append(build_monitoring(lake, store, world.spec, None)[1])
        found.append(world.recalibrate())
        assert found[-1].champion is not None, found[-1].reason
        world.predict(upload)
        assert {row["model_version"] for row in world.rows()} == {found[-1].version}
    first, second = found
    assert (first.before, first.after, first.promise) == (
        second.before, second.after, second.promise,
    )  # fmt: skip
    assert figures[0] == figures[1]


def code_of(do: Callable[[], Any]) -> str:
    with pytest.raises(ModelError) as caught:
        do()
    return caught.value.code
