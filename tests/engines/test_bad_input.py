"""What every engine must make of data that nobody hopes for: words, and nothing half-done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mm_assets.contract.dataset import Modality
from mm_assets.contract.errors import ModelError
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.registry.loading import load_model
from mm_assets.registry.store import ModelStore
from mm_assets.tables.open import open_store
from mm_assets.training.splits import split_of
from mm_assets.training.train import TrainingResult, train_model
from mm_assets.training.training_set import build_training_set
from tests.make import csv_table, dataset, drop_zip, processed

ENGINES: dict[str, dict[str, Any]] = {
    "autogluon": {"engine": "autogluon", "hyperparameters": {"optim.max_epochs": 1}},
    "gradient_boosting": {"engine": "gradient_boosting", "hyperparameters": {"n_estimators": 20}},
    "sklearn": {
        "engine": "sklearn",
        "hyperparameters": {"steps": ["sklearn.linear_model.LogisticRegression"]},
    },
    "rules": {
        "engine": "rules",
        "hyperparameters": {"rules": [{"when": "size > 5", "then": "dog"}], "otherwise": "cat"},
    },
}
Row = tuple[str, str, str]  # size, kind, label
WITHOUT = Modality.WITHOUT_IMAGE


def trained(
    settings: Settings, engine: str, row: Callable[[int], Row], count: int = 120, **keys: Any
) -> tuple[TrainingResult, Any]:
    """Train on rows made by their number; the result, and the model that was stored."""
    spec = dataset(
        columns={"size": "number", "kind": "category"},
        classes=None,
        model_without_image=ENGINES[engine],
        **keys,
    )
    lake, store = Lake(settings), open_store(settings)
    rows = [(f"r{i}", *row(i)) for i in range(count)]
    drop_zip(lake, "u.zip", {"t.csv": csv_table(("id", "size", "kind", "label"), rows)})
    processed(lake, store, spec, "u.zip")
    build_training_set(lake, store, spec, run_id="run")
    models = ModelStore(lake, "pets")
    result = train_model(lake, models, spec, WITHOUT, run_id="run", progress=lambda _: None)
    stored = models.promote(WITHOUT, result.version, "test")
    return result, load_model(models, spec, WITHOUT, stored)


def usual(i: int) -> Row:
    return str(i % 11), "ab"[i % 2], "dog" if i % 11 > 5 else "cat"


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return request.param


def refused(settings: Settings, engine: str, row: Callable[[int], Row], **keys: Any) -> str:
    with pytest.raises(ModelError) as caught:
        trained(settings, engine, row, **keys)
    assert caught.value.todo
    assert list(Lake(settings).list("datasets/pets/models/")) == []
    return caught.value.code


def test_one_class_is_refused(folder_settings: Settings, engine: str) -> None:
    assert refused(folder_settings, engine, lambda i: (*usual(i)[:2], "cat")) == "one_class"


def test_fewer_rows_than_classes_are_refused(folder_settings: Settings, engine: str) -> None:
    code = refused(
        folder_settings, engine, lambda i: (*usual(i)[:2], f"class {i}"), problem_type="multiclass"
    )
    # No record to tune on is of a class that training knows; rules name classes nobody has.
    assert code in ("records_missing", "rule_class_unknown")


def test_three_classes_are_no_binary_problem(folder_settings: Settings, engine: str) -> None:
    code = refused(folder_settings, engine, lambda i: (*usual(i)[:2], ("cat", "dog", "cow")[i % 3]))
    assert code == "classes_differ"


def test_a_class_that_only_the_held_out_records_have_counts_as_wrong(
    folder_settings: Settings, engine: str
) -> None:
    held_out = [i for i in range(120) if split_of(f"r{i}", 0.2) == "holdout"][:3]

    def row(i: int) -> Row:
        return (*usual(i)[:2], "cow") if i in held_out else usual(i)

    result, model = trained(folder_settings, engine, row, problem_type="multiclass")
    assert set(model.classes) == {"cat", "dog"}
    n = result.evaluation.n
    assert result.evaluation.metrics["accuracy"] <= (n - 3) / n


def test_a_constant_column_is_no_obstacle(folder_settings: Settings, engine: str) -> None:
    result, _ = trained(folder_settings, engine, lambda i: (usual(i)[0], "same", usual(i)[2]))
    assert result.evaluation.n > 10


def test_constant_columns_alone_are_refused(folder_settings: Settings, engine: str) -> None:
    if engine == "rules":
        pytest.skip("a rule that always says the same is what its author wrote")
    code = refused(folder_settings, engine, lambda i: ("1", "same", usual(i)[2]))
    assert code == "nothing_to_learn_from"


def test_ten_thousand_categories_are_taken(folder_settings: Settings, engine: str) -> None:
    count = 400 if engine == "autogluon" else 12_000
    result, model = trained(
        folder_settings, engine, lambda i: (usual(i)[0], f"kind {i % 10_000}", usual(i)[2]), count
    )
    assert set(model.classes) == {"cat", "dog"}
    if engine != "autogluon":  # one epoch teaches a network little
        assert result.evaluation.metrics["accuracy"] > 0.95


def test_an_engine_that_is_not_there_leaves_nothing(folder_settings: Settings) -> None:
    ENGINES["missing"] = {"engine": "no.such.module:Engine"}
    try:
        assert refused(folder_settings, "missing", usual) == "engine_missing"
    finally:
        del ENGINES["missing"]


def test_a_package_that_is_not_installed_is_named_with_how_to_get_it(
    folder_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "xgboost", None)  # what Python does where it is not installed
    assert refused(folder_settings, "gradient_boosting", usual) == "package_missing"


@pytest.mark.parametrize(
    ("search", "code"),
    [
        ({"max_dept": {"low": 2, "high": 4}}, "search_space_unfit"),
        ({"max_depth": {"choices": ["deep", "deeper"]}}, None),
    ],
)
def test_a_search_space_that_does_not_fit_is_refused_or_its_trials_fail(
    folder_settings: Settings, search: dict[str, Any], code: str | None
) -> None:
    ENGINES["tuned"] = {**ENGINES["gradient_boosting"], "tuning": {"search": search, "trials": 3}}
    try:
        if code:
            assert refused(folder_settings, "tuned", usual) == code
        else:
            result, _ = trained(folder_settings, "tuned", usual)
            states = result.tunings["gradient_boosting"].trials["state"].to_pylist()
            assert states.count("finished") == 1  # the YAML as it stands
    finally:
        del ENGINES["tuned"]
