"""Evaluation agrees with scikit-learn, is never NaN, and the gate lets only better models pass."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mm_assets.contract.errors import ModelError
from mm_assets.training.evaluation import Evaluation, evaluate
from mm_assets.training.evaluation_pictures import (
    calibration_picture,
    confusion_picture,
    residual_picture,
)
from mm_assets.training.gate import gate


def some_classes(
    classes: int, n: int = 200, seed: int = 0, sharpness: float = 1.0
) -> tuple[pd.Series, pd.DataFrame]:
    random = np.random.default_rng(seed)
    names = [f"class {number}" for number in range(classes)]
    true = random.integers(0, classes, n)
    scores = random.normal(size=(n, classes))
    scores[np.arange(n), true] += sharpness
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    index = [f"id-{number}" for number in range(n)]
    truth = pd.Series([names[number] for number in true], index=index)
    return truth, pd.DataFrame(probabilities, index=index, columns=names)


def classified(truth: pd.Series, predicted: pd.DataFrame, training: Any = None) -> Evaluation:
    labels = truth if training is None else pd.Series(training)
    return evaluate(truth, predicted, problem_type="multiclass", training_labels=labels)


def estimated(truth: list[float], values: list[float], training: list[float]) -> Evaluation:
    return evaluate(
        pd.Series(truth, dtype=float),
        pd.DataFrame({"value": values}),
        problem_type="regression",
        training_labels=pd.Series(training, dtype=float),
    )


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_the_metrics_of_classes_are_those_of_scikit_learn(classes: int) -> None:
    from sklearn import metrics

    truth, predicted = some_classes(classes)
    chosen = predicted.idxmax(axis=1)
    binary = classes == 2
    expected = {
        "accuracy": metrics.accuracy_score(truth, chosen),
        "balanced_accuracy": metrics.balanced_accuracy_score(truth, chosen),
        "macro_f1": metrics.f1_score(truth, chosen, average="macro"),
        "log_loss": metrics.log_loss(truth, predicted.to_numpy(), labels=list(predicted)),
        "brier_score": metrics.brier_score_loss(
            truth == "class 1" if binary else truth,
            predicted["class 1"] if binary else predicted.to_numpy(),
        ),
        "roc_auc": metrics.roc_auc_score(
            truth, predicted["class 1"] if binary else predicted.to_numpy(), multi_class="ovr"
        ),
    }
    evaluation = classified(truth, predicted)
    got = dict(evaluation.metrics)
    assert 0 < got.pop("expected_calibration_error") < 0.5
    assert got == pytest.approx(expected)
    assert evaluation.classes == list(predicted.columns)
    assert evaluation.score == evaluation.metrics["accuracy"]


def test_the_area_under_the_curve_counts_ties_half() -> None:
    from sklearn.metrics import roc_auc_score

    random = np.random.default_rng(3)
    score = random.integers(0, 4, 300) / 4
    truth = pd.Series(np.where(random.random(300) < 0.3 + score / 3, "yes", "no"))
    evaluation = classified(truth, pd.DataFrame({"no": 1 - score, "yes": score}))
    assert evaluation.metrics["roc_auc"] == pytest.approx(roc_auc_score(truth == "yes", score))


def test_the_metrics_of_numbers_are_those_of_scikit_learn() -> None:
    from sklearn import metrics

    random = np.random.default_rng(0)
    truth, values = random.normal(size=100), random.normal(size=100)
    evaluation = estimated(list(truth), list(values), [1.0, 3.0])
    assert evaluation.metrics == pytest.approx(
        {
            "mean_absolute_error": metrics.mean_absolute_error(truth, values),
            "root_mean_squared_error": metrics.root_mean_squared_error(truth, values),
            "r2": metrics.r2_score(truth, values),
        }
    )
    assert evaluation.baseline_score == pytest.approx(-np.abs(truth - 2.0).mean())
    assert evaluation.score == -evaluation.metrics["mean_absolute_error"]


def test_the_baseline_knows_the_training_labels_only() -> None:
    truth, predicted = some_classes(2, n=10)
    truth[:] = ["class 0"] * 7 + ["class 1"] * 3
    evaluation = classified(truth, predicted, ["class 1"] * 3 + ["class 0"])
    assert evaluation.baseline["accuracy"] == 0.3
    assert evaluation.baseline["log_loss"] == pytest.approx(
        -(7 * math.log(0.25) + 3 * math.log(0.75)) / 10
    )


def test_a_class_that_the_model_does_not_know_counts_as_wrong() -> None:
    truth = pd.Series(["a", "b", "new", "new"])
    predicted = pd.DataFrame({"a": [1.0, 0.0, 1.0, 0.0], "b": [0.0, 1.0, 0.0, 1.0]})
    metrics = classified(truth, predicted, ["a", "b"]).metrics
    assert metrics["accuracy"] == 0.5
    assert metrics["balanced_accuracy"] == pytest.approx(2 / 3)
    assert metrics["log_loss"] == pytest.approx(-math.log(1e-15) / 2)
    assert metrics["brier_score"] == pytest.approx(1.0)  # two are right, two are as wrong as can be
    assert "roc_auc" not in metrics


def test_the_area_under_the_curve_is_left_out_when_a_class_is_absent() -> None:
    _, predicted = some_classes(3, n=4)
    for names in (["class 0"] * 4, ["class 0", "class 1"] * 2):
        metrics = classified(pd.Series(names, index=predicted.index), predicted).metrics
        assert "roc_auc" not in metrics


def test_perfect_confidence_has_no_calibration_error_and_boasting_has() -> None:
    truth = pd.Series(["a", "b"] * 50)
    boasting = pd.DataFrame({"a": [1.0] * 100, "b": [0.0] * 100})
    modest = pd.DataFrame({"a": [0.5] * 100, "b": [0.5] * 100})
    assert classified(truth, boasting).metrics["expected_calibration_error"] == 0.5
    assert classified(truth, modest).metrics["expected_calibration_error"] == 0.0


@given(st.integers(1, 5), st.integers(1, 12), st.integers(0, 99), st.booleans())
def test_no_metric_of_classes_is_ever_nan_or_infinite(
    classes: int, n: int, seed: int, certain: bool
) -> None:
    truth, predicted = some_classes(classes, n, seed, sharpness=-1.0)
    if certain:
        predicted = (predicted.eq(predicted.max(axis=1), axis=0)).astype(float)
    training = ["class 0", "another"]
    evaluation = classified(truth, predicted, training)
    for values in (evaluation.metrics, evaluation.baseline):
        assert all(math.isfinite(value) for value in values.values())
        assert all(0 <= values[name] <= 1 for name in values.keys() & {"accuracy", "roc_auc"})


@given(st.lists(st.tuples(*[st.floats(-1e150, 1e150)] * 2), min_size=1, max_size=20))
def test_no_metric_of_numbers_is_ever_nan_or_infinite(pairs: list[tuple[float, float]]) -> None:
    truth, values = zip(*pairs, strict=True)
    evaluation = estimated(list(truth), list(values), [0.0])
    for metrics in (evaluation.metrics, evaluation.baseline):
        assert "mean_absolute_error" in metrics
        assert all(math.isfinite(value) for value in metrics.values())


def test_one_held_out_number_has_no_r2() -> None:
    assert "r2" not in estimated([1.0], [2.0], [3.0]).metrics


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"truth": pd.Series([], dtype=object), "predicted": pd.DataFrame({"a": []})},
         "holdout_empty"),
        ({"training_labels": pd.Series([], dtype=object)}, "training_empty"),
        ({"truth": pd.Series(["a", None])}, "label_missing"),
        ({"truth": pd.Series(["a", "b"], index=[1, 0])}, "evaluation_misaligned"),
        ({"predicted": pd.DataFrame({"a": [1.0]})}, "evaluation_misaligned"),
        ({"predicted": pd.DataFrame(index=[0, 1])}, "prediction_columns"),
        ({"predicted": pd.DataFrame([[1, 0], [1, 0]], columns=["a", "a"])}, "prediction_columns"),
        ({"predicted": pd.DataFrame({"a": [1.0, np.nan]})}, "prediction_not_finite"),
        ({"predicted": pd.DataFrame({"a": [0.5, 0.2]})}, "prediction_not_probabilities"),
        ({"predicted": pd.DataFrame({"a": [2.0, 2], "b": [-1.0, -1]})},
         "prediction_not_probabilities"),
        ({"truth": pd.Series([1.0, 2.0]), "training_labels": pd.Series([1.0]),
          "problem_type": "regression"}, "prediction_columns"),
    ],
)  # fmt: skip
def test_what_cannot_be_evaluated_says_so(change: dict[str, Any], code: str) -> None:
    good: dict[str, Any] = {
        "truth": pd.Series(["a", "b"]),
        "predicted": pd.DataFrame({"a": [0.5, 0.1], "b": [0.5, 0.9]}),
        "problem_type": "multiclass",
        "training_labels": pd.Series(["a", "b"]),
    }
    arguments = {**good, **change}
    with pytest.raises(ModelError) as caught:
        evaluate(arguments.pop("truth"), arguments.pop("predicted"), **arguments)
    assert caught.value.code == code


# -- the gate -------------------------------------------------------------------------------------


def accuracy(value: float, baseline: float = 0.5, n: int = 100) -> Evaluation:
    return Evaluation("accuracy", {"accuracy": value}, {"accuracy": baseline}, n, ["a", "b"])


def mean_error(value: float, baseline: float = 10.0, n: int = 100) -> Evaluation:
    name = "mean_absolute_error"
    return Evaluation(name, {name: value}, {name: baseline}, n, None)


@pytest.mark.parametrize(
    ("candidate", "champion", "tolerance", "promote", "reason"),
    [
        (accuracy(0.6), None, 0.01, True,
         "0.6 on 100 held-out records beats 0.5 of the simplest guess; there was no champion"),
        (accuracy(0.5), None, 0.01, False,
         "Not promoted: accuracy 0.5 on 100 held-out records is no better than 0.5 of the simp"),
        (accuracy(0.4), accuracy(0.3), 0.01, False, "no better than 0.5 of the simplest guess"),
        (accuracy(0.9), accuracy(0.8), 0.01, True, "as good as the champion's 0.8 or better"),
        (accuracy(0.8), accuracy(0.8), 0.0, True, "as good as the champion's 0.8 or better"),
        (accuracy(0.89), accuracy(0.9), 0.01, True, "within 0.01 of the champion's 0.9"),
        (accuracy(0.88), accuracy(0.9), 0.01, False, "worse than the champion's 0.9 by more than"),
        (mean_error(5.0), None, 0.01, True, "mean absolute error 5 on 100 held-out records beats"),
        (mean_error(5.0), mean_error(4.0), 0.25, True, "within 1 of the champion's 4"),
        (mean_error(5.1), mean_error(4.0), 0.25, False, "worse than the champion's 4 by more than"),
        (mean_error(11.0), mean_error(12.0), 0.1, False, "no better than 10 of the simplest guess"),
        (mean_error(0.1), mean_error(0.0), 0.5, False, "worse than the champion's 0 by more than"),
    ],
)  # fmt: skip
def test_the_gate_decides_and_gives_its_reason_in_figures(
    candidate: Evaluation, champion: Evaluation | None, tolerance: float, promote: bool, reason: str
) -> None:
    decision = gate(candidate, champion, tolerance)
    assert decision.promote is promote
    assert reason in decision.reason


shares = st.integers(0, 200).map(lambda number: number / 200)
tolerances = st.floats(0, 0.5)


@given(shares, shares, shares, shares, tolerances, tolerances, st.booleans())
def test_a_better_model_or_a_wider_tolerance_never_closes_the_gate(
    one: float, other: float, held: float, guess: float, t1: float, t2: float, regression: bool
) -> None:
    make = mean_error if regression else accuracy
    worse, better = sorted([make(one, guess), make(other, guess)], key=lambda e: e.score)
    narrow, wide = sorted([t1, t2])
    for champion in (None, make(held, guess)):
        if gate(worse, champion, narrow).promote:
            assert gate(better, champion, narrow).promote
            assert gate(worse, champion, wide).promote
            assert gate(worse, None, narrow).promote


def test_the_gate_does_not_compare_what_was_measured_on_other_records() -> None:
    for champion in (accuracy(0.8, n=99), mean_error(1.0)):
        with pytest.raises(ModelError) as caught:
            gate(accuracy(0.9), champion, 0.01)
        assert caught.value.code == "gate_not_comparable"


# -- pictures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [1, 13, 40])
def test_the_confusion_of_few_and_of_many_classes_can_be_drawn(classes: int) -> None:
    truth, predicted = some_classes(classes, n=300)
    truth.iloc[:5] = ["unseen $\\x$", "日本", "", "unseen $\\x$", "x" * 200]
    picture = Image.open(io.BytesIO(confusion_picture(truth, predicted)))
    assert max(picture.size) < 1400


def test_calibration_and_residuals_can_be_drawn_even_for_one_record() -> None:
    for n in (1, 500):
        truth, predicted = some_classes(3, n=n)
        assert calibration_picture(truth, predicted) == calibration_picture(truth, predicted)
        numbers = predicted["class 0"]
        picture = residual_picture(numbers, pd.DataFrame({"value": numbers * 0.5}))
        assert picture.startswith(b"\x89PNG")


def test_a_mistyped_label_moves_neither_the_baseline_nor_the_picture_of_the_others() -> None:
    training = [100.0, 110.0, 120.0, 130.0, 140_000.0]
    figures = estimated([100.0, 140.0], [101.0, 139.0], training)
    assert figures.baseline["mean_absolute_error"] == 20  # of the median, 120
    assert figures.baseline["root_mean_squared_error"] > 20_000  # of the mean
    true = pd.Series(np.linspace(100.0, 200.0, 60))
    mistyped = true.where(true.index != 7, true * 1000)
    near, far = (
        residual_picture(truth, pd.DataFrame({"value": true + 3.0})) for truth in (true, mistyped)
    )
    dots = [(np.asarray(Image.open(io.BytesIO(png)).convert("RGB")) != 255).any(axis=2)
            for png in (near, far)]  # fmt: skip
    spread = [np.count_nonzero(one[60:300].any(axis=1)) for one in dots]
    assert spread[1] > 0.9 * spread[0]


def test_the_gate_writes_thousands_out() -> None:
    figures = estimated([250_000.0, 310_000.0], [290_000.0, 270_000.0], [100_000.0, 500_000.0])
    told = gate(figures, None, 0.0).reason
    assert "40,000" in told
    assert "e+" not in told
