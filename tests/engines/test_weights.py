"""Class weights change what is learnt, and never what a probability means."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_assets.engines.gradient_boosting import GradientBoostingEngine
from mm_assets.engines.protocol import Task
from mm_assets.engines.shared.weights import repeated, unweighted, weights_for, weights_of
from mm_assets.engines.sklearn_pipeline import SklearnEngine
from tests.engines.frames import refused

LABELS = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=60)
LOGISTIC = "sklearn.linear_model.LogisticRegression"


def rare_task(n: int, share: float = 0.06, seed: int = 0) -> tuple[Task, pd.DataFrame]:
    """A rare class that one number tells something of, and more such records to judge by."""
    random = np.random.default_rng(seed)
    label = np.where(random.random(n + 4000) < share, "rare", "usual")
    frame = pd.DataFrame(
        {"size": random.normal(size=n + 4000) + 1.5 * (label == "rare"), "label": label}
    )
    cut = n * 4 // 5
    task = Task(frame[:cut], frame[cut:n], {"size": "number"}, "label", "binary")
    return task, frame[n:].reset_index(drop=True)


@given(LABELS, st.sampled_from([None, "balanced", {"a": 20.0}, {"b": 0.5, "c": 3.0}]))
def test_weights_are_1_on_average_and_balanced_ones_make_classes_count_the_same(
    labels: list[str], given_: Any
) -> None:
    weights = weights_for(given_, labels)
    if given_ is None:
        assert weights is None
        assert weights_of(labels, weights) is None
        return
    assert weights is not None
    assert set(weights) == set(labels)
    each = weights_of(labels, weights)
    assert each is not None
    assert each.mean() == pytest.approx(1)
    if given_ == "balanced":
        sums = [each[np.array(labels) == name].sum() for name in set(labels)]
        assert sums == pytest.approx([len(labels) / len(sums)] * len(sums))
    elif {"a", "b"} <= set(labels):
        assert weights["a"] / weights["b"] == pytest.approx(given_.get("a", 1) / given_.get("b", 1))


@given(LABELS, st.dictionaries(st.sampled_from("abc"), st.floats(0.1, 9), min_size=3, max_size=3))
def test_records_are_repeated_as_often_as_they_weigh(
    labels: list[str], weights: dict[str, float]
) -> None:
    frame = pd.DataFrame({"n": range(len(labels)), "label": labels})
    task = Task(frame, frame.iloc[:1], {"n": "number"}, "label", "multiclass", None, weights)
    again = repeated(task).training
    lightest = min(weights.values())
    for name in set(labels):
        rows = again[again["label"] == name]
        assert abs(len(rows) - labels.count(name) * weights[name] / lightest) < 1 + 1e-6
        assert set(rows["n"]) == set(frame["n"][frame["label"] == name])
    assert repeated(replace(task, class_weights=None)).training is frame


def test_probabilities_bent_by_weights_are_straightened() -> None:
    honest = np.array([[0.9, 0.1], [0.5, 0.5], [1.0, 0.0]])
    weights = {"a": 0.5, "b": 4.0}
    bent = honest * [0.5, 4.0]
    bent /= bent.sum(axis=1, keepdims=True)
    assert unweighted(bent, ["a", "b"], weights) == pytest.approx(honest)
    assert unweighted(bent, ["a", "b"], None) is bent


@pytest.mark.parametrize("engine", [
    GradientBoostingEngine(hyperparameters={"n_jobs": 1, "max_depth": 3}),
    SklearnEngine(hyperparameters={"steps": [LOGISTIC]}),
])  # fmt: skip
def test_a_model_that_learnt_with_weights_is_as_sure_as_it_is_right(
    tmp_path: Path, engine: Any
) -> None:
    task, later = rare_task(3000)
    sure = {}
    for name, given_ in (("plain", None), ("weighted", "balanced")):
        folder = tmp_path / name
        folder.mkdir()
        labels = [*task.training["label"], *task.tuning["label"]]
        engine.train(replace(task, class_weights=weights_for(given_, labels)), folder, print)
        sure[name] = engine.load(folder).predict(later[["size"]])["rare"]
    share = (later["label"] == "rare").mean()
    assert sure["plain"].mean() == pytest.approx(share, abs=0.015)
    assert sure["weighted"].mean() == pytest.approx(share, abs=0.015)
    assert not np.allclose(sure["plain"], sure["weighted"], atol=1e-4)  # it did learn otherwise


def test_a_step_that_takes_no_weights_is_refused(tmp_path: Path) -> None:
    engine = SklearnEngine(hyperparameters={"steps": ["sklearn.neighbors.KNeighborsClassifier"]})
    task = replace(rare_task(200)[0], class_weights={"rare": 5.0, "usual": 0.7})
    error = refused(lambda: engine.train(task, tmp_path, print))
    assert error.code == "engine_step_unfit"
    assert "takes no weights" in error.what
    assert "`costs`" in error.todo
