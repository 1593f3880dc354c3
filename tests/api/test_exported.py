"""Champions that leave: loaded elsewhere, they say what they say here."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mm_assets.api.exported import load_exported
from mm_assets.api.models import Exported, export_model
from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.errors import ModelError, UsageError
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.registry.store import ModelStore
from mm_assets.tables.open import open_store
from mm_assets.training.train import train_model
from mm_assets.training.training_set import build_training_set
from tests.api.conftest import World
from tests.make import dataset, drop_zip, processed, table

ELSEWHERE = """
import sys
import mlflow.pyfunc, pandas as pd
model = mlflow.pyfunc.load_model(sys.argv[1])
records = pd.read_pickle(sys.argv[2])
model.predict(records).to_json(sys.argv[3], orient="records")
model.predict(model.input_example).to_json(sys.argv[4], orient="records")
"""


def png(array: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


class Size:
    """An engine that tells how many bytes an image has, in the share of 100,000."""

    def __init__(self, **_: Any) -> None:
        pass

    def load(self, _folder: Path) -> Size:
        return self

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        share = [len(one) / 100_000 for one in frame["image"]]
        return pd.DataFrame({"cat": share, "dog": [1 - one for one in share]}, index=frame.index)


@pytest.fixture
def records(world: World) -> pd.DataFrame:
    """New records as MLflow takes them: ID, columns and the image's bytes."""
    frame = world.new.reset_index()
    images = [world.images[name] for name in frame["pet"]]
    return frame.assign(image=[None if one is None else png(one) for one in images])


@pytest.fixture
def exported(world: World, tmp_path: Path) -> Exported:
    return export_model(world.ds.lake, world.ds.spec, tmp_path / "elsewhere" / "pets")


def here(world: World, records: pd.DataFrame) -> list[dict[str, Any]]:
    images = list(records["image"])
    answers = world.ds.predict(records.drop(columns="image"), images, quiet=True)
    found: list[dict[str, Any]] = json.loads(answers.to_json(orient="records"))
    return found


def test_in_a_fresh_process_mlflow_loads_it_and_it_answers_as_here(
    world: World, records: pd.DataFrame, exported: Exported, tmp_path: Path
) -> None:
    records["image"] = [
        base64.b64encode(one).decode() if place % 2 and one else one
        for place, one in enumerate(records["image"])
    ]
    records.loc[0, "image"] = "/etc/hostname"  # base64 or bytes, never a path
    records.to_pickle(tmp_path / "records")
    code = tmp_path / "elsewhere.py"
    code.write_text(ELSEWHERE)
    paths = [exported.folder, *(tmp_path / name for name in ("records", "answers", "example"))]
    environment = {n: v for n, v in os.environ.items() if not n.startswith(("MM_", "DAGSTER_"))}
    environment |= {"PYTHONPATH": str(Path(__file__).parents[2]), "DO_NOT_TRACK": "true"}
    ended = subprocess.run(
        [sys.executable, str(code), *map(str, paths)],
        cwd=tmp_path / "elsewhere", env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    answers = json.loads((tmp_path / "answers").read_text())
    assert answers[0]["code"] == "image_unreadable"
    assert answers[0]["modality"] == "without_image"
    records["image"] = [
        base64.b64decode(one) if isinstance(one, str) and place else one
        for place, one in enumerate(records["image"])
    ]
    records.loc[0, "image"] = None
    expected = here(world, records)
    assert answers[1:] == expected[1:]
    assert {row["modality"] for row in answers} == {"with_image", "without_image"}
    [example] = json.loads((tmp_path / "example").read_text())
    assert example["modality"] == "with_image"
    assert example["prediction"] in ("yes", "no")


def test_the_same_is_loaded_without_mlflow_also_from_the_plain_folder(
    world: World, records: pd.DataFrame, exported: Exported, tmp_path: Path
) -> None:
    plain = export_model(world.ds.lake, world.ds.spec, tmp_path / "plain", format="folder")
    expected = here(world, records)
    for folder in (plain.folder, exported.folder):
        answers = load_exported(folder).predict(records)
        assert json.loads(answers.to_json(orient="records")) == expected
    assert plain.champions == exported.champions == {
        one["modality"]: one["version"] for one in world.ds.champions()
    }  # fmt: skip


def test_one_modality_alone_can_leave(world: World, records: pd.DataFrame, tmp_path: Path) -> None:
    lake, spec = world.ds.lake, world.ds.spec
    one = export_model(lake, spec, tmp_path / "one", modality=Modality.WITHOUT_IMAGE)
    assert list(one.champions) == ["without_image"]
    answers = load_exported(one.folder).predict(records)
    assert set(answers["modality"]) == {"without_image"}
    assert answers["prediction"].notna().all()


def test_its_signature_names_the_columns_and_its_example_is_invented(exported: Exported) -> None:
    from mlflow.models import Model

    model = Model.load(str(exported.folder))
    inputs = {one.name: one for one in model.signature.inputs}
    assert list(inputs) == ["pet", "age", "colour", "note", "image"]
    assert [one.required for one in inputs.values()] == [False, True, True, True, False]
    assert {one.name for one in model.signature.outputs} >= {"prediction", "confidence"}
    example = json.loads((exported.folder / "input_example.json").read_text())
    assert example["columns"] == list(inputs)
    requirements = (exported.folder / "requirements.txt").read_text()
    assert "mm-assets" in requirements
    assert "xgboost==" in requirements


@pytest.mark.parametrize("format_", ["mlflow", "folder"])
def test_damage_is_found_before_anything_is_loaded(
    world: World, tmp_path: Path, format_: str
) -> None:
    from mlflow.pyfunc import load_model

    folder = tmp_path / "export"
    export_model(world.ds.lake, world.ds.spec, folder, format=format_)
    load = load_model if format_ == "mlflow" else load_exported
    for name in ("model.ubj", "model.json", "00000001.json", "dataset.json"):
        path = next(folder.rglob(name))
        good = path.read_bytes()
        path.write_bytes(good[:-3] + b"???")
        with pytest.raises(ModelError) as caught:
            load(str(folder))
        assert caught.value.code in ("model_tampered", "export_unreadable"), name
        path.write_bytes(good)
    load(str(folder))


def test_nothing_is_overwritten_and_nothing_half_done_stays(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, spec = world.ds.lake, world.ds.spec
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("precious")
    with pytest.raises(UsageError, match="there already"):
        export_model(lake, spec, tmp_path / "mine")
    with pytest.raises(UsageError, match="no format"):
        export_model(lake, spec, tmp_path / "new", format="onnx")

    def cut(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mlflow.pyfunc.save_model", cut)
    with pytest.raises(KeyboardInterrupt):
        export_model(lake, spec, tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_without_mlflow_it_says_what_to_install_and_the_folder_still_leaves(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ModelError, match=r"needs the package mlflow") as caught:
        export_model(world.ds.lake, world.ds.spec, tmp_path / "new")
    assert "mm-assets[tracking]" in caught.value.todo
    assert not (tmp_path / "new").exists()
    export_model(world.ds.lake, world.ds.spec, tmp_path / "new", format="folder")


def test_without_a_champion_there_is_nothing_to_export(
    folder_settings: Settings, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="no champion yet") as caught:
        export_model(Lake(folder_settings), dataset(), tmp_path / "new")
    assert caught.value.code == "no_champion"


def test_a_regression_leaves_with_its_calibration(
    folder_settings: Settings, tmp_path: Path
) -> None:
    from mlflow.pyfunc import load_model

    lake = Lake(folder_settings)
    spec = dataset(
        problem_type="regression", classes=None, columns={"age": "number"}, image_name=None,
        model_without_image={"engine": "gradient_boosting"},
    )  # fmt: skip
    store = open_store(folder_settings)
    rows = [f"{number},{number % 30},{number % 30 * 2}" for number in range(150)]
    drop_zip(lake, "labelled.zip", {"t.csv": table("id,age,label", *rows)})
    processed(lake, store, spec, "labelled.zip")
    build_training_set(lake, store, spec, run_id="run")
    train_model(
        lake, ModelStore(lake, "pets"), spec, Modality.WITHOUT_IMAGE, run_id="run",
        progress=lambda _: None,
    )  # fmt: skip
    export_model(lake, spec, tmp_path / "price")
    answers = load_model(str(tmp_path / "price")).predict(pd.DataFrame({"age": [3.0, 12.0]}))
    assert answers["prediction"].tolist() == pytest.approx([6, 24], abs=3)
    assert answers["confidence"].between(0, 1).all()
    assert (answers["lower"] <= answers["prediction"]).all()
    assert (answers["prediction"] <= answers["upper"]).all()
    assert (answers["lower"] < answers["upper"]).all()
    assert answers["probabilities"].isna().all()


@pytest.mark.parametrize("image_name", ["{id}", "{label}/*", "{label}_{id}"])
def test_where_images_are_the_records_each_row_has_its_own_answer(
    folder_settings: Settings, tmp_path: Path, image_name: str
) -> None:
    engine = f"{__name__}:Size"
    spec = DatasetSpec.model_validate(
        {
            "dataset": "shots", "records": "images", "image_name": image_name,
            "problem_type": "binary", "model_with_image": {"engine": engine},
        }
    )  # fmt: skip
    lake = Lake(folder_settings)
    models = ModelStore(lake, "shots")
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "empty.txt").write_text("x")
    manifest = {
        "engine": {"engine": engine}, "problem_type": "binary", "classes": ["cat", "dog"],
        "columns": spec.features(Modality.WITH_IMAGE), "metrics": {}, "baseline": {}, "n": 1,
        "training_fingerprint": "0", "training_counts": {}, "spec_fingerprint": "0",
    }  # fmt: skip
    version = models.save("with_image", tmp_path / "files", manifest).version
    models.promote("with_image", version, "because")
    export_model(lake, spec, tmp_path / "shots", format="folder")
    loaded = load_exported(tmp_path / "shots")
    noise = np.random.default_rng(0).integers(0, 255, (120, 120, 3), dtype="uint8")
    # Of growing size, then one of them again, one that is none, and the first again.
    images: list[Any] = [png(noise[: 8 * n, : 8 * n]) for n in range(2, 15)]
    images += [images[3], b"junk", images[0]]
    answers = loaded.predict(pd.DataFrame({"image": images}, index=range(100, 116)))
    assert list(answers.index) == list(range(100, 116))
    assert answers["code"].tolist() == [None] * 14 + ["image_unreadable", None]
    said = [row and row["cat"] for row in answers["probabilities"]]
    assert said[:13] == sorted(said[:13])
    assert len(set(said[:13])) == 13
    assert (said[13], said[15]) == (said[3], said[0])
    with pytest.raises(UsageError, match="a row has none"):
        loaded.predict(pd.DataFrame({"image": [images[0], None]}))
