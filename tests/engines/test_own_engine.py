"""An engine of one's own, named in YAML by its Python path."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from mm_assets.contract.dataset import Modality
from mm_assets.contract.engine_spec import ENGINES
from mm_assets.contract.errors import ModelError
from mm_assets.contract.settings import Settings
from mm_assets.engines.make import CLASSES, make_engine
from mm_assets.lake.lake import Lake
from mm_assets.registry.loading import load_model
from mm_assets.registry.store import ModelStore
from mm_assets.tables.open import open_store
from mm_assets.training.train import train_model
from mm_assets.training.training_set import build_training_set
from tests.engines.frames import COLUMNS, learn, records, refused
from tests.kill.engine import NearestMean
from tests.make import csv_table, dataset, drop_zip, processed

PAGE = Path(__file__).parents[2] / "docs" / "engines.md"


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The YAML's name of the engine that the page on engines shows in whole."""
    page = PAGE.read_text(encoding="utf-8")
    [code] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    [name] = re.findall(r"engine: (nearest:\w+)", page)
    (tmp_path / "nearest.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_the_example_of_the_page_is_trained_promoted_and_predicts(
    folder_settings: Settings, example: str
) -> None:
    chosen = {"engine": example, "hyperparameters": {"sureness": 2}}
    spec = dataset(columns={"age": "number"}, model_without_image=chosen)
    lake, store = Lake(folder_settings), open_store(folder_settings)
    rows = [(str(i), str(20 * (i % 2) + i % 7), ("cat", "dog")[i % 2]) for i in range(90)]
    drop_zip(lake, "u.zip", {"t.csv": csv_table(("id", "age", "label"), rows)})
    processed(lake, store, spec, "u.zip")
    build_training_set(lake, store, spec, run_id="run")
    models, said = ModelStore(lake, "pets"), []
    result = train_model(
        lake, models, spec, Modality.WITHOUT_IMAGE, run_id="run", progress=said.append
    )
    assert (result.engine, result.evaluation.metrics["accuracy"]) == (example, 1.0)
    assert any("2 means of " in words for words in said)
    assert result.champion is not None
    model = load_model(models, spec, Modality.WITHOUT_IMAGE, result.champion)
    frame = records(3)[["price"]].rename(columns={"price": "age"}).assign(age=[1.0, None, 25.0])
    predicted = model.predict(frame)
    assert predicted.index.equals(frame.index)
    assert predicted.sum(axis=1).tolist() == pytest.approx([1, 1, 1])
    assert predicted.idxmax(axis=1).tolist()[::2] == ["cat", "dog"]
    assert model.reasons(frame) == ["nearest in age"] * 3


def test_the_example_of_the_page_refuses_in_words_what_it_cannot_learn(
    tmp_path: Path, example: str
) -> None:
    engine = make_engine(dataset(model_without_image={"engine": example}).model_without_image[0])
    only = {"brand": COLUMNS["brand"]}
    error = refused(lambda: learn(engine, tmp_path, records(20), columns=only))
    assert error.code == "nothing_to_learn_from"


@pytest.mark.parametrize("name", ENGINES)
def test_each_engine_that_a_yaml_may_name_is_made_with_the_keys_it_has(name: str) -> None:
    backbone = {"image_backbone": "./mine"} if "image_backbone" in ENGINES[name] else {}
    preset = {"preset": "pretrained"} if "preset" in ENGINES[name] else {}
    keys = {"engine": name, "seed": 3, **backbone, **preset}
    engine = make_engine(dataset(model_with_image=keys).model_with_image[0])
    assert f"{type(engine).__module__}:{type(engine).__name__}" == CLASSES[name]
    assert {key: getattr(engine, key) for key in keys if key != "engine"} == {
        key: value for key, value in keys.items() if key != "engine"
    }


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("gradient_boosting", "preset", "high"),
        ("rules", "image_backbone", "./mine"),
        ("sklearn", "text_backbone", "./mine"),
    ],
)
def test_a_key_that_an_engine_does_not_have_is_refused(name: str, key: str, value: str) -> None:
    with pytest.raises(ValidationError, match=f"the engine {name} has no `{key}`; take it out"):
        dataset(model_with_image={"engine": name, key: value})


def test_the_class_that_the_yaml_names_is_made_with_its_options() -> None:
    chosen = {"engine": "tests.kill.engine:NearestMean", "seed": 3}
    engine = make_engine(dataset(model_with_image=chosen).model_with_image[0])
    assert type(engine).__name__ == NearestMean.__name__
    assert type(engine).__module__ == "tests.kill.engine"


@pytest.mark.parametrize("path", ["no.such.module:Engine", "tests.kill.engine:NoSuchClass"])
def test_an_engine_that_cannot_be_imported_is_said_in_words(path: str) -> None:
    spec = dataset(model_without_image={"engine": path})
    with pytest.raises(ModelError) as caught:
        make_engine(spec.model_without_image[0])
    assert caught.value.code == "engine_missing"
    assert path in caught.value.what


@pytest.mark.parametrize("name", ["catboost", "a b:C", "module:", ":Class", "os.system('x'):C"])
def test_a_name_that_is_no_path_is_refused_with_what_to_write(name: str) -> None:
    with pytest.raises(ValidationError, match=r"package\.module:ClassName"):
        dataset(model_with_image={"engine": name})
