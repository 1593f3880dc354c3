"""From uploads to a training set, to engines that compete, to the model that is promoted."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from mm_assets.api.models import promote, rollback
from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.errors import LakeError, ModelError
from mm_assets.contract.settings import Settings
from mm_assets.engines.protocol import Progress, Task
from mm_assets.lake.lake import Lake
from mm_assets.reading.image_features import image_features
from mm_assets.reading.images import normalise
from mm_assets.registry.store import ModelStore
from mm_assets.tables.open import open_store
from mm_assets.training.candidates import names_of
from mm_assets.training.train import TrainingResult, train_model
from mm_assets.training.training_set import build_training_set, labelled_frame, records_for
from mm_assets.uploads.received import read_image_features, read_parquet
from tests.kill.engine import NearestMean
from tests.make import dataset, draw_image, drop_zip, processed, rows_of, table

NEAREST = "tests.kill.engine:NearestMean"
WITHOUT, WITH = Modality.WITHOUT_IMAGE, Modality.WITH_IMAGE


class Guessing:
    """An engine that always says the same: `hyperparameters: {says: cat}`."""

    def __init__(self, *, hyperparameters: dict[str, Any], **_: Any) -> None:
        self.says = hyperparameters.get("says", "cat")

    def train(self, task: Task, directory: Path, progress: Progress) -> None:
        (directory / "says.txt").write_text(self.says)

    def load(self, directory: Path) -> Guessing:
        return Guessing(hyperparameters={"says": (directory / "says.txt").read_text()})

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        says = {name: float(name == self.says) for name in ("cat", "dog")}
        return pd.DataFrame(says, index=frame.index)


class HalfRight(Guessing):
    """An engine that knows the oldest dogs."""

    def load(self, directory: Path) -> HalfRight:
        return HalfRight(hyperparameters={})

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        dog = (frame["age"].astype(float) > 22).astype(float)
        return pd.DataFrame({"cat": 1 - dog, "dog": dog}, index=frame.index)


class Unable:
    """An engine that cannot learn."""

    def __init__(self, **_: Any) -> None:
        pass

    def train(self, task: Task, directory: Path, progress: Progress) -> None:
        raise ModelError(code="package_missing", what="it needs a package", todo="Install it.")


GUESSING, UNABLE = f"{__name__}:Guessing", f"{__name__}:Unable"
HALF_RIGHT = f"{__name__}:HalfRight"


@pytest.fixture
def lake(folder_settings: Settings) -> Lake:
    return Lake(folder_settings)


def pets(**keys: Any) -> DatasetSpec:
    return dataset(**{"columns": {"age": "number"}, **keys})


def trained(
    lake: Lake,
    *engines: dict[str, Any],
    modality: Modality = WITHOUT,
    tracking_uri: str | None = None,
    **keys: Any,
) -> TrainingResult:
    """Train on 90 pets, of which dogs are old; two of three have an image."""
    spec = pets(**{f"model_{modality}": list(engines)}, **keys)
    store = open_store(lake.settings)
    if not store.count_labelled("pets"):
        rows = [f"{i},{20 * (i % 2) + i % 7},red,{'dog' if i % 2 else 'cat'}" for i in range(90)]
        files = {"t.csv": table("id,age,colour,label", *rows)}
        files |= {f"{i}.png": draw_image(i) for i in range(90) if i % 3}
        drop_zip(lake, "labelled.zip", files)
        processed(lake, store, spec, "labelled.zip")
    build_training_set(lake, store, spec, run_id="run")
    models = ModelStore(lake, "pets")
    return train_model(
        lake, models, spec, modality,
        run_id="run", progress=lambda _: None, tracking_uri=tracking_uri,
    )  # fmt: skip


def code_of(do: Any) -> str:
    with pytest.raises(ModelError) as caught:
        do()
    return caught.value.code


def test_of_two_engines_the_better_one_is_promoted_and_both_are_in_the_report(lake: Lake) -> None:
    result = trained(lake, {"engine": GUESSING}, {"engine": NEAREST})
    assert result.engine == NEAREST
    assert result.champion is not None
    scores = {row["name"]: row["metrics"]["accuracy"] for row in result.candidates}
    assert scores[NEAREST] == 1.0 > scores[GUESSING]
    assert "candidates" in result.pictures
    manifest = ModelStore(lake, "pets").manifest(WITHOUT, result.version)
    assert manifest["engine"]["engine"] == NEAREST
    assert [row["name"] for row in manifest["candidates"]] == [GUESSING, NEAREST]


def test_of_equals_the_one_that_the_yaml_names_first_is_taken(lake: Lake) -> None:
    first, second = {"engine": NEAREST, "seed": 1}, {"engine": NEAREST, "seed": 2}
    result = trained(lake, first, second)
    assert result.engine == f"{NEAREST} 1"
    assert names_of(dataset(model_with_image=[first, second]).model_with_image) == [
        f"{NEAREST} 1",
        f"{NEAREST} 2",
    ]


def test_an_engine_that_cannot_learn_does_not_stop_the_others_and_is_named(lake: Lake) -> None:
    result = trained(lake, {"engine": UNABLE}, {"engine": NEAREST})
    assert result.engine == NEAREST
    [failed] = [row for row in result.candidates if row["failure"]]
    assert failed["name"] == UNABLE
    assert "package_missing" in failed["failure"]
    assert any("package_missing" in words for words in result.warnings)


def test_when_no_engine_can_learn_nothing_is_stored(lake: Lake) -> None:
    assert code_of(lambda: trained(lake, {"engine": UNABLE}, {"engine": UNABLE})) == (
        "package_missing"
    )
    assert list(lake.list("datasets/pets/models/")) == []


def test_a_champion_whose_engine_left_the_yaml_is_replaced(lake: Lake) -> None:
    first = trained(lake, {"engine": NEAREST})
    assert first.champion
    worse = trained(lake, {"engine": GUESSING}, metric="log_loss", promotion_tolerance=0)
    assert worse.champion is None  # no better than the simplest guess
    again = trained(lake, {"engine": f"{__name__}:Copy"})
    assert again.champion
    assert "there was no champion" in again.decision.reason


class Copy(NearestMean):
    """NearestMean by another name; its files differ, so that it is not the same model."""

    def train(self, task: Task, directory: Path, progress: Progress) -> None:
        super().train(task, directory, progress)
        (directory / "copy.txt").write_text("a copy")


def test_a_model_below_the_minimum_score_is_not_promoted(lake: Lake) -> None:
    result = trained(
        lake, {"engine": GUESSING}, {"engine": HALF_RIGHT}, metric="roc_auc", minimum_score=0.99
    )
    assert result.evaluation.metric == "roc_auc"
    assert result.champion is None
    assert "does not reach the minimum of 0.99" in result.decision.reason


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "macro_f1", "log_loss"])
def test_the_metric_of_the_yaml_decides(lake: Lake, metric: str) -> None:
    result = trained(lake, {"engine": GUESSING}, {"engine": NEAREST}, metric=metric)
    assert (result.engine, result.evaluation.metric) == (NEAREST, metric)
    assert metric.replace("_", " ") in result.decision.reason


def test_tuned_hyperparameters_are_those_of_the_stored_model(lake: Lake) -> None:
    search = {"says": {"choices": ["dog", "cat", "cow"]}}
    tuning = {"search": search, "trials": 3}
    tuned = {"engine": GUESSING, "hyperparameters": {"says": "cow"}, "tuning": tuning}
    result = trained(lake, tuned)
    manifest = ModelStore(lake, "pets").manifest(WITHOUT, result.version)
    assert manifest["engine"]["hyperparameters"]["says"] in ("cat", "dog")
    assert result.tunings[GUESSING].trials.num_rows == 3


def test_all_images_missing_is_said_in_words(lake: Lake) -> None:
    spec = dataset(image_name="no-{id}")
    store = open_store(lake.settings)
    drop_zip(lake, "u.zip", {"t.csv": table("id,age,colour,label", *(f"{i},1,red,cat" for i in
                                                                   range(60)))})  # fmt: skip
    processed(lake, store, spec, "u.zip")
    build_training_set(lake, store, spec, run_id="run")
    models = ModelStore(lake, "pets")

    def train(modality: Modality) -> None:
        train_model(lake, models, spec, modality, run_id="run", progress=lambda _: None)

    assert code_of(lambda: train(WITH)) == "no_images"
    assert code_of(lambda: train(WITHOUT)) == "one_class"


# -- image features -------------------------------------------------------------------------------

CHOSEN = ["brightness", "width"]


def expected(data: bytes) -> dict[str, float]:
    """The features of an image as the pipeline must have them."""
    import io

    from PIL import Image

    image = normalise(data, longest_side=16, maximum_pixels=10**6)
    with Image.open(io.BytesIO(image.data)) as small:
        found = image_features(small, width=image.width, height=image.height)
    return {f"image_{name}": found[name] for name in CHOSEN}


def test_image_features_are_columns_beside_the_others_for_records_with_an_image(
    lake: Lake,
) -> None:
    trained(lake, {"engine": NEAREST}, modality=WITH, image_features=CHOSEN)
    spec = pets(image_features=CHOSEN)
    document = lake.read_json("datasets/pets/training_set.json")
    assert document is not None
    records, _ = records_for(lake, spec, WITH, document)
    frame = labelled_frame(lake, spec, WITH, records)
    assert list(frame) == ["age", "image_brightness", "image_width", "image", "label"]
    assert list(spec.features(WITHOUT)) == ["age"]
    ids = records["record_id"].to_pylist()
    for place, record_id in enumerate(ids):
        row = frame.iloc[place]
        if row["image"] is None:
            assert pd.isna(row["image_brightness"])
        else:
            found = {name: row[name] for name in ("image_brightness", "image_width")}
            assert found == pytest.approx(expected(draw_image(int(record_id))))
    assert frame["image"].notna().sum() > 20 < frame["image"].isna().sum()


def test_a_row_gets_the_features_of_an_image_that_came_in_another_upload(lake: Lake) -> None:
    spec, store = dataset(image_features=CHOSEN), open_store(lake.settings)
    drop_zip(lake, "1.zip", {"a.png": draw_image(1), "b.png": draw_image(2)})
    processed(lake, store, spec, "1.zip")
    drop_zip(lake, "2.zip", {"t.csv": table("id,age,colour", "a,1,red", "c,2,red")})
    document = processed(lake, store, spec, "2.zip")
    rows = {row["record_id"]: row for row in rows_of(lake, document, "manifest.parquet")}
    assert rows["a"]["image_features"] == pytest.approx(expected(draw_image(1)))
    assert rows["c"]["image_features"] is None


def test_an_upload_whose_pictures_were_never_measured_says_what_to_do(
    lake: Lake,
) -> None:
    store = open_store(lake.settings)
    drop_zip(lake, "1.zip", {"a.png": draw_image(1)})
    upload = processed(lake, store, dataset(), "1.zip")["upload"]
    key = f"datasets/pets/uploads/{upload}/raw_uploads.json"
    document = lake.read_json(key)
    assert document is not None
    old = read_parquet(lake, document, "images.parquet").drop_columns(["features"])
    path = lake.settings.root / "images.parquet"
    pq.write_table(old, path)
    lake.publish(key, {"images.parquet": path}, document)
    with pytest.raises(LakeError) as caught:
        read_image_features(lake, dataset(image_features=CHOSEN), upload, old["sha256"])
    assert caught.value.code == "image_features_missing"


def test_other_image_features_are_another_wording() -> None:
    prints = {dataset(image_features=names).fingerprint for names in ([], CHOSEN, CHOSEN[:1])}
    assert len(prints) == 3


def spec_without_pictures() -> DatasetSpec:
    return dataset(image_name=None)


def test_a_dataset_without_pictures_refuses_them_with_a_code(lake: Lake) -> None:
    spec, store = spec_without_pictures(), open_store(lake.settings)
    drop_zip(lake, "u.zip", {"t.csv": table("id,age,colour", "a,1,red"), "a.png": draw_image(1)})
    processed(lake, store, spec, "u.zip")
    [key] = [item.key for item in lake.list("datasets/pets/uploads/") if "raw_uploads.json" in
             item.key]  # fmt: skip
    receipt = lake.read_json(key)
    assert receipt is not None
    assert receipt["quarantined_by_code"] == {"image_unexpected": 1}
    assert spec.modalities == (WITHOUT,)


# -- tracking -------------------------------------------------------------------------------------


def test_every_candidate_is_tracked_and_the_champion_has_its_alias(
    lake: Lake, tmp_path: Path
) -> None:
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    result = trained(lake, {"engine": GUESSING}, {"engine": NEAREST}, tracking_uri=uri)
    client = MlflowClient(tracking_uri=uri)
    champion = client.get_model_version_by_alias("pets-without_image", "champion")
    assert result.warnings == ()
    run = client.get_run(champion.run_id)
    assert run.data.tags["mm.version"] == result.version
    assert run.data.metrics["accuracy"] == 1.0
    [experiment] = [e for e in client.search_experiments() if "pets" in e.name]
    assert len(client.search_runs([experiment.experiment_id])) == 2


def test_mlflow_loads_the_champion_by_its_alias_and_a_model_that_was_not_promoted(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow.pyfunc
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    first = trained(lake, {"engine": NEAREST}, tracking_uri=uri)
    worse = trained(lake, {"engine": GUESSING}, tracking_uri=uri)
    assert (first.champion is None, worse.champion is None) == (False, True)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    try:
        mlflow.set_tracking_uri(uri)
        records = pd.DataFrame({"age": [2.0, 25.0]})
        model = mlflow.pyfunc.load_model("models:/pets-without_image@champion")
        answers = model.predict(records)
        assert answers["prediction"].tolist() == ["cat", "dog"]
        assert set(answers["model_version"]) == {first.version}
        client = MlflowClient()
        [run] = [
            run
            for run in client.search_runs(["1"], f"tags.`mm.version` = '{worse.version}'")
            if client.list_artifacts(run.info.run_id, "model")
        ]
        other = mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/model").predict(records)
        assert set(other["model_version"]) == {worse.version}
    finally:
        mlflow.set_tracking_uri(None)


def test_a_training_after_a_rollback_has_to_beat_the_model_that_answers_again(lake: Lake) -> None:
    good = trained(lake, {"engine": NEAREST})
    guessing = trained(lake, {"engine": GUESSING})
    assert guessing.champion is None  # it does not beat the simplest guess
    spec = pets(model_without_image=[{"engine": NEAREST}, {"engine": GUESSING}])
    promote(lake, spec, guessing.version, "by mistake")
    back = rollback(lake, spec)
    assert back.version == good.version
    time.sleep(1.1)  # the same model again, but not in the same second
    again = trained(lake, {"engine": NEAREST})
    assert "the champion's 1 " in again.decision.reason
    assert again.champion is not None
    assert (again.champion.generation, again.champion.previous) == (4, good.version)


def test_a_tracking_server_that_is_down_costs_a_warning_and_nothing_else(lake: Lake) -> None:
    result = trained(lake, {"engine": NEAREST}, tracking_uri="http://127.0.0.1:9")
    assert result.champion is not None
    assert any("tracking_failed" in words for words in result.warnings)
