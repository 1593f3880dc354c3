"""A model stored by other libraries is not loaded: records wait, and a new model replaces it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mm_assets.contract.dataset import Modality
from mm_assets.contract.errors import ModelError
from mm_assets.contract.settings import Settings
from mm_assets.engines.shared.spellings import Spellings
from mm_assets.lake.lake import Lake
from mm_assets.manifest.split import split_records
from mm_assets.predictions.merge import merge_predictions
from mm_assets.predictions.predict import predict_records
from mm_assets.registry import versions
from mm_assets.registry.store import Champion, ModelStore
from mm_assets.tables.open import open_store
from mm_assets.training.records import TrainingRecords
from mm_assets.training.train import _champion_evaluation
from tests.make import dataset, drop_zip, processed, table

SPEC = dataset(model_without_image={"engine": "autogluon"})
HERE = {
    "python": "3.11.7",
    "autogluon": "1.6.3",
    "torch": "2.10.0+cpu",
    "xgboost": "3.2.0",
    "scikit-learn": "1.9.1",
    "lightgbm": "4.6.0",
}
MANIFEST: dict[str, Any] = {
    "engine": SPEC.model_without_image[0].model_dump(mode="json"),
    "problem_type": "binary",
    "classes": ["cat", "dog"],
    "columns": SPEC.features(Modality.WITHOUT_IMAGE),
    "metrics": {"accuracy": 0.9},
    "baseline": {"accuracy": 0.5},
    "n": 40,
    "training_fingerprint": "abc",
    "training_counts": {"training": 100},
    "spec_fingerprint": SPEC.fingerprint,
}


def stored_by(libraries: dict[str, str], engine: Any = "autogluon") -> dict[str, Any]:
    return {"engine": engine, "libraries": libraries}


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "installed", lambda: dict(HERE))


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "libraries",
    [HERE, {**HERE, "autogluon": "1.6.0"}, {**HERE, "torch": "2.13.1"}, {**HERE, "python": "3.13"}],
)
def test_a_patch_of_autogluon_and_a_minor_version_of_torch_make_no_difference(
    libraries: dict[str, str],
) -> None:
    assert versions.other_version(stored_by(libraries)) == ""


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("libraries", "reason"),
    [
        ({**HERE, "autogluon": "1.5.9"}, "autogluon 1.5.9, and here is autogluon 1.6.3"),
        ({**HERE, "autogluon": "1.60.0"}, "autogluon 1.60.0, and here is autogluon 1.6.3"),
        ({**HERE, "autogluon": "2.6.3"}, "autogluon 2.6.3, and here is autogluon 1.6.3"),
        ({**HERE, "torch": "1.13.1"}, "torch 1.13.1, and here is torch 2.10.0+cpu"),
        ({"torch": "2.10.0"}, "autogluon unknown, and here is autogluon 1.6.3"),
        ({}, "autogluon unknown, and here is autogluon 1.6.3"),
    ],
)
def test_another_version_is_named_beside_the_one_that_is_here(
    libraries: dict[str, str], reason: str
) -> None:
    assert versions.other_version(stored_by(libraries)) == f"was stored by {reason}"
    engine = {"engine": "autogluon", "seed": 0}
    assert versions.other_version(stored_by(libraries, engine)) == f"was stored by {reason}"


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("engine", "libraries", "reason"),
    [
        ("gradient_boosting", {"xgboost": "3.9.1"}, ""),
        ("gradient_boosting", {"xgboost": "2.2.0"}, "xgboost 2.2.0, and here is xgboost 3.2.0"),
        ("gradient_boosting", {}, "xgboost unknown, and here is xgboost 3.2.0"),
        ("sklearn", {"scikit-learn": "1.9.9"}, ""),
        (
            "sklearn",
            {"scikit-learn": "1.8.1"},
            "scikit-learn 1.8.1, and here is scikit-learn 1.9.1",
        ),
        ("automatic", {"scikit-learn": "1.9.0", "lightgbm": "4.1.0"}, ""),
        (
            "automatic",
            {"scikit-learn": "1.9.1", "lightgbm": "3.3.5"},
            "lightgbm 3.3.5, and here is lightgbm 4.6.0",
        ),
        ("rules", {"autogluon": "0.1", "xgboost": "1.0", "scikit-learn": "0.1"}, ""),
    ],
)
def test_each_engine_depends_on_its_own_libraries_alone(
    engine: str, libraries: dict[str, str], reason: str
) -> None:
    fault = versions.other_version(stored_by(libraries, {"engine": engine, "seed": 0}))
    assert fault == (f"was stored by {reason}" if reason else "")


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("stored", [True, False])
def test_an_ensemble_depends_on_autogluon_if_that_is_a_member(stored: bool) -> None:  # noqa: FBT001
    rows = [{"name": "linear", "stored": True}, {"name": "autogluon", "stored": stored}]
    manifest = stored_by({**HERE, "autogluon": "1.4.0"}, {"engine": "automatic"})
    fault = versions.other_version({**manifest, "leaderboard": rows})
    assert ("stored by autogluon 1.4.0" in fault) is stored


def test_the_libraries_of_every_engine_are_noted() -> None:
    noted = versions.installed()
    assert noted.keys() == HERE.keys()
    assert all(version[0].isdigit() for version in noted.values())


@pytest.mark.usefixtures("here")
def test_an_engine_of_ones_own_answers_for_itself() -> None:
    engine = {"engine": "my.package:Engine"}
    assert versions.other_version(stored_by({"autogluon": "0.1"}, engine)) == ""


def test_where_autogluon_is_not_installed_no_model_of_it_fits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(versions, "_PACKAGES", {"autogluon": "no-such-package", "torch": "torch"})
    assert "autogluon not installed" in versions.other_version(stored_by(HERE))


@pytest.fixture
def lake(folder_settings: Settings) -> Lake:
    return Lake(folder_settings)


@pytest.fixture
def old_champion(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[ModelStore, Champion]:
    """A champion that was stored before AutoGluon was updated."""
    models = ModelStore(lake, "pets")
    folder = tmp_path / "engine"
    folder.mkdir()
    (folder / "df_preprocessor.pkl").write_bytes(b"no pickle at all")
    with monkeypatch.context() as before:
        before.setattr("mm_assets.registry.store.installed", lambda: {**HERE, "autogluon": "1.4.0"})
        stored = models.save(Modality.WITHOUT_IMAGE, folder, MANIFEST)
    return models, models.promote(Modality.WITHOUT_IMAGE, stored.version, "the first")


def test_a_model_of_another_version_is_not_even_fetched(
    old_champion: tuple[ModelStore, Champion],
) -> None:
    models, champion = old_champion
    with pytest.raises(ModelError) as caught:
        models.fetch(champion.modality, champion.version)
    assert caught.value.code == "model_other_version"
    assert "autogluon 1.4.0" in caught.value.what
    assert "mm train" in caught.value.todo
    assert not models.cache.exists()


def test_records_wait_for_a_model_of_this_version_and_say_so(
    lake: Lake, old_champion: tuple[ModelStore, Champion]
) -> None:
    models, champion = old_champion
    store = open_store(lake.settings)
    drop_zip(lake, "u.zip", {"t.csv": table("id,age,colour", "1,2,red", "2,3,blue")})
    upload = processed(lake, store, SPEC, "u.zip")["upload"]
    for modality in Modality:
        split_records(lake, SPEC, upload, modality)
        mine = {m: champion if m is champion.modality else None for m in Modality}
        document = predict_records(
            lake, models, SPEC, upload, modality,
            champions=mine, run_id="run", progress=lambda _: None,
        )  # fmt: skip
    assert document["counts"] == {
        "records": 2,
        "predicted": 0,
        "failed": 0,
        "waiting": 2,
        "standing_in": 0,
        "needs_review": 0,
    }
    assert "the champion was stored by autogluon 1.4.0, and here is" in document["reason"]
    assert document["reason"].endswith("run `mm train`")
    _, merged = merge_predictions(lake, store, SPEC, upload)
    assert merged["counts"]["waiting"] == 2
    assert merged["reasons"] == [document["reason"]]
    assert store.read("pets").num_rows == 0


def test_a_champion_of_another_version_is_no_rival_for_a_new_model(
    old_champion: tuple[ModelStore, Champion],
) -> None:
    models, champion = old_champion
    said: list[str] = []
    labels = pd.Series(["cat", "dog"])
    parts = {"training": pd.DataFrame({"label": labels}), "holdout": pd.DataFrame()}
    data = TrainingRecords({}, parts, {}, {}, {}, labels, Spellings({}), [])
    rival = _champion_evaluation(models, SPEC, champion.modality, data, said.append)
    assert rival is None
    assert "model_other_version" in said[0]
    assert "so it is replaced" in said[0]
