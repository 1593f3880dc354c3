"""How good a model is on held-out records, against the simplest guess and against the champion.

What belongs here: metrics. What does not: the split, the model itself, and the gate (`gate.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mm_assets.contract.decisions import LOWER_IS_BETTER
from mm_assets.contract.errors import ModelError
from mm_assets.doubt.confidence import VALUE, confidence_of
from mm_assets.training.decision import DecisionRule, chosen

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]

ACCURACY = "accuracy"
MEAN_ABSOLUTE_ERROR = "mean_absolute_error"
SMALLEST_PROBABILITY = 1e-15  # a certain and wrong answer costs much in log loss, not infinitely
CALIBRATION_BINS = 10


@dataclass(frozen=True)
class Evaluation:
    """What a model reached on `n` held-out records. No metric is ever NaN; such ones are absent.

    `metric` names the primary metric: what decides which model is better.
    `baseline` holds the same metrics of the simplest guess from the training labels.
    """

    metric: str
    metrics: dict[str, float]
    baseline: dict[str, float]
    n: int
    classes: list[str] | None

    @property
    def score(self) -> float:
        """The primary metric, turned so that higher is better."""
        return self.turned(self.metrics[self.metric])

    @property
    def baseline_score(self) -> float:
        """The baseline's primary metric, turned so that higher is better."""
        return self.turned(self.baseline[self.metric])

    def turned(self, figure: float) -> float:
        """A figure of the primary metric, turned so that higher is better."""
        sign = -1.0 if self.metric in LOWER_IS_BETTER else 1.0
        return sign * figure


def evaluate(
    truth: pd.Series,
    predicted: pd.DataFrame,
    *,
    problem_type: str,
    training_labels: pd.Series,
    metric: str | None = None,
    rule: DecisionRule | None = None,
    positive_class: str | None = None,
) -> Evaluation:
    """Compare predictions with the truth of held-out records, in the same order and index.

    `predicted` has a column of probabilities for each class, or the one column "value"
    (regression). A true class that the model does not know counts as wrong, with probability 0.
    `metric` is the primary one; by default accuracy or, for regression, the mean absolute error.
    rule: how classes are decided; where it holds costs, `expected_cost` is the mean one.
    positive_class: of which precision, recall, f1 and average_precision are measured, too.
    Raises ModelError where there is nothing to evaluate, the predictions are not usable, or the
    held-out records do not yield the metric.
    """
    _check(truth, predicted, training_labels)
    if problem_type == "regression":
        evaluation = _evaluate_regression(truth, predicted, training_labels)
    else:
        evaluation = _evaluate_classes(truth, predicted, training_labels, rule, positive_class)
    evaluation = replace(evaluation, metric=metric or evaluation.metric)
    for figures in (evaluation.metrics, evaluation.baseline):
        if evaluation.metric not in figures:
            raise ModelError(
                code="metric_not_measurable",
                what=f"{evaluation.metric} cannot be measured on these {evaluation.n} records",
                where="evaluation",
                todo="Send more labelled records, so that every class is held out, or choose "
                "another `metric` in the dataset's YAML.",
            )
    return evaluation


def figure_on(
    truth: pd.Series,
    predicted: pd.DataFrame,
    metric: str,
    *,
    rule: DecisionRule | None = None,
    positive_class: str | None = None,
) -> Callable[[Rows], float]:
    """One metric of some of the records, asked for many times; NaN where they do not yield it."""
    if list(predicted.columns) == [VALUE]:
        number, value = (one.to_numpy(dtype=np.float64) for one in (truth, predicted[VALUE]))
        return lambda rows: _errors(number[rows], value[rows]).get(metric, np.nan)
    every, true, probabilities = _coded(truth, predicted)
    known, said = len(predicted.columns), chosen(predicted, rule)
    if metric == "expected_cost" and rule is not None:
        costs = rule.matrix(every, every[:known])[true, said]
        return lambda rows: float(costs[rows].mean())
    if positive_class in every and metric in ("f1", "average_precision"):
        place = every.index(str(positive_class))
        there, found, score = true == place, said == place, probabilities[:, place]
        return lambda rows: _of_positive(there[rows], found[rows], score[rows]).get(metric, np.nan)
    if metric == ACCURACY:
        return lambda rows: float((said[rows] == true[rows]).mean())

    def general(rows: Rows) -> float:
        found = _class_metrics(probabilities[rows], true[rows], known, said[rows])
        return found.get(metric, np.nan)

    return general


def calibration_bins(confidence: Floats, right: npt.NDArray[np.bool_]) -> list[dict[str, float]]:
    """Ten equal bins of confidence: count, mean confidence and share that was right of each.

    Empty bins are left out. `low` and `high` are the bin's edges.
    """
    numbers = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    return [
        {
            "low": number / CALIBRATION_BINS,
            "high": (number + 1) / CALIBRATION_BINS,
            "count": float(inside.sum()),
            "confidence": float(confidence[inside].mean()),
            "right": float(right[inside].mean()),
        }
        for number in range(CALIBRATION_BINS)
        if (inside := numbers == number).any()
    ]


def calibration_error(confidence: Floats, right: npt.NDArray[np.bool_]) -> float:
    """Expected calibration error (Naeini et al. 2015, Guo et al. 2017): |confidence - share right|
    averaged over the bins, weighted by their counts. 0 is perfect."""
    return off_by(calibration_bins(confidence, right))


def off_by(bins: Sequence[Mapping[str, float]]) -> float:
    """`calibration_error` from its bins."""
    total = sum(b["count"] for b in bins)
    return sum(b["count"] * abs(b["confidence"] - b["right"]) for b in bins) / total


def reliability(
    truth: pd.Series, predicted: pd.DataFrame, rule: DecisionRule | None = None
) -> list[dict[str, float]]:
    """`calibration_bins` of held-out records; predicted: a column of probabilities a class."""
    places = chosen(predicted, rule)
    said = predicted.columns.astype(str).to_numpy()[places]
    right = said == truth.astype(str).to_numpy()
    return calibration_bins(confidence_of(predicted, chosen=places), right)


# -- classification -------------------------------------------------------------------------------


def _evaluate_classes(
    truth: pd.Series,
    predicted: pd.DataFrame,
    training_labels: pd.Series,
    rule: DecisionRule | None,
    positive_class: str | None,
) -> Evaluation:
    classes, names = [str(name) for name in predicted.columns], [str(name) for name in truth]
    every, true, probabilities = _coded(truth, predicted)
    said = chosen(predicted, rule)
    metrics = _class_metrics(probabilities, true, len(classes), said)
    if rule is not None and rule.costs:
        metrics["expected_cost"] = float(rule.matrix(every, classes)[true, said].mean())
    if positive_class in every:
        place = every.index(str(positive_class))
        metrics |= _of_positive(true == place, said == place, probabilities[:, place])
    trained = [str(name) for name in training_labels]
    return Evaluation(
        metric=ACCURACY,
        metrics=metrics,
        baseline=_class_baseline(names, trained, rule, positive_class),
        n=len(names),
        classes=classes,
    )


def _coded(
    truth: pd.Series, predicted: pd.DataFrame
) -> tuple[list[str], npt.NDArray[np.int_], Floats]:
    """The model's classes, then unknown ones; the place of each true one; [records, classes]."""
    classes, names = [str(name) for name in predicted.columns], [str(name) for name in truth]
    unknown = sorted(set(names) - set(classes))
    every = classes + unknown
    number = {name: index for index, name in enumerate(every)}
    true = np.array([number[name] for name in names], dtype=np.int_)
    return every, true, _probabilities(predicted, len(unknown))


def _class_metrics(
    probabilities: Floats, true: npt.NDArray[np.int_], known: int, said: npt.NDArray[np.intp]
) -> dict[str, float]:
    """[records, classes] probabilities and the classes said against the true classes; the first
    `known` ones are those of the model."""
    confidence = probabilities[np.arange(len(true)), said]
    metrics = {
        ACCURACY: float((said == true).mean()),
        **_class_averages(true, said),
        "log_loss": _log_loss(probabilities[np.arange(len(true)), true]),
        "brier_score": _brier_score(probabilities, true),
        "expected_calibration_error": calibration_error(confidence, said == true),
    }
    if probabilities.shape[1] == known and len(np.unique(true)) == known > 1:
        metrics["roc_auc"] = _roc_auc(probabilities, true)
    return _finite(metrics)


def _probabilities(predicted: pd.DataFrame, unknown: int) -> Floats:
    values = predicted.to_numpy(dtype=np.float64)
    if (values < -1e-6).any() or (np.abs(values.sum(axis=1) - 1) > 1e-3).any():
        raise ModelError(
            code="prediction_not_probabilities",
            what="the predicted probabilities of a record are negative or do not add up to 1",
            todo="This is a fault of the engine: report it.",
        )
    values = np.clip(values, 0.0, None)
    values = values / values.sum(axis=1, keepdims=True)
    return np.hstack([values, np.zeros((len(values), unknown))])


def _class_averages(true: npt.NDArray[np.int_], chosen: npt.NDArray[np.int_]) -> dict[str, float]:
    """Balanced accuracy over the true classes; F1 over all that are true or predicted."""
    recalls, f1_scores = [], []
    for index in np.union1d(true, chosen):
        is_true, is_chosen = true == index, chosen == index
        hits = float((is_true & is_chosen).sum())
        f1_scores.append(2 * hits / float(is_true.sum() + is_chosen.sum()))
        if is_true.any():
            recalls.append(hits / float(is_true.sum()))
    return {"balanced_accuracy": float(np.mean(recalls)), "macro_f1": float(np.mean(f1_scores))}


def _log_loss(of_truth: Floats) -> float:
    return float(-np.log(np.clip(of_truth, SMALLEST_PROBABILITY, 1.0)).mean())


def _brier_score(probabilities: Floats, true: npt.NDArray[np.int_]) -> float:
    """Brier (1950); halved for two classes, as is usual, so that it lies between 0 and 1."""
    distances = ((probabilities - np.eye(probabilities.shape[1])[true]) ** 2).sum(axis=1)
    return float(distances.mean()) / (2.0 if probabilities.shape[1] == 2 else 1.0)


def _roc_auc(probabilities: Floats, true: npt.NDArray[np.int_]) -> float:
    """Two classes: of the second; more: each against the rest, averaged."""
    last = probabilities.shape[1]
    columns = [1] if last == 2 else range(last)
    return float(np.mean([_area(probabilities[:, index], true == index) for index in columns]))


def _area(scores: Floats, positive: npt.NDArray[np.bool_]) -> float:
    """The chance that a positive scores above a negative, ties half (Mann and Whitney 1947)."""
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    hits = int(positive.sum())
    above = float(ranks[positive].sum()) - hits * (hits + 1) / 2
    return above / (hits * (len(scores) - hits))


def _of_positive(
    true: npt.NDArray[np.bool_], said: npt.NDArray[np.bool_], scores: Floats
) -> dict[str, float]:
    """How well one class is found; what is 0 of 0 is left out, as is what no record is."""
    hits, there, found = float((true & said).sum()), float(true.sum()), float(said.sum())
    metrics = {"precision": hits / found} if found else {}
    if there:
        metrics |= {
            "recall": hits / there,
            "f1": 2 * hits / (there + found),
            "average_precision": _average_precision(scores, true),
        }
    return metrics


def _average_precision(scores: Floats, positive: npt.NDArray[np.bool_]) -> float:
    """The mean precision over the positives, going down the scores, ties together."""
    values, place, counts = np.unique(-scores, return_inverse=True, return_counts=True)
    hits = np.bincount(place, weights=positive, minlength=len(values))
    return float((hits * np.cumsum(hits) / np.cumsum(counts)).sum() / hits.sum())


def _class_baseline(
    truth: list[str], training: list[str], rule: DecisionRule | None, positive_class: str | None
) -> dict[str, float]:
    """Always the most frequent training class, or the one that costs least, with the training
    shares as probabilities. How well the positive class is found: as if it were always said."""
    names, counts = np.unique(np.array(training, dtype=object).astype(str), return_counts=True)
    known: list[str] = names.tolist()
    every = known + sorted(set(truth) - set(known))
    shares = np.zeros(len(every))
    shares[: len(known)] = counts / counts.sum()
    true = np.array([every.index(name) for name in truth])
    costs = rule.matrix(every, known) if rule is not None and rule.costs else None
    constant = shares.argmax() if costs is None else (shares @ costs).argmin()
    said = np.full(len(truth), constant)
    metrics = _class_metrics(np.tile(shares, (len(truth), 1)), true, len(known), said)
    if costs is not None:
        metrics["expected_cost"] = float(costs[true, said].mean())
    if positive_class in every:
        always, same = np.ones(len(true), dtype=np.bool_), np.zeros(len(true))
        metrics |= _of_positive(true == every.index(positive_class), always, same)
    return metrics


# -- regression -----------------------------------------------------------------------------------


def _evaluate_regression(
    truth: pd.Series, predicted: pd.DataFrame, training_labels: pd.Series
) -> Evaluation:
    if list(predicted.columns) != [VALUE]:
        raise ModelError(
            code="prediction_columns",
            what=f'a regression predicts the one column "value", not {list(predicted.columns)}',
            todo="Check `problem_type` in the dataset's YAML.",
        )
    true = truth.to_numpy(dtype=np.float64)
    return Evaluation(
        metric=MEAN_ABSOLUTE_ERROR,
        metrics=_errors(true, predicted[VALUE].to_numpy(dtype=np.float64)),
        baseline=_number_baseline(true, training_labels.to_numpy(dtype=np.float64)),
        n=len(true),
        classes=None,
    )


def _number_baseline(true: Floats, training: Floats) -> dict[str, float]:
    """The best single number of the training labels: their median where absolute errors count,
    which a few mistyped ones do not move, and their mean where squared ones do."""
    median, mean = (_errors(true, np.full(len(true), f(training))) for f in (np.median, np.mean))
    return {**mean, MEAN_ABSOLUTE_ERROR: median[MEAN_ABSOLUTE_ERROR]}


def _errors(true: Floats, predicted: Floats) -> dict[str, float]:
    differences = predicted - true
    metrics = {
        MEAN_ABSOLUTE_ERROR: float(np.abs(differences).mean()),
        "root_mean_squared_error": float(np.sqrt((differences**2).mean())),
    }
    spread = float(((true - true.mean()) ** 2).sum())
    if spread > 0:
        metrics["r2"] = 1.0 - float((differences**2).sum()) / spread
    return _finite(metrics)


# -- both -----------------------------------------------------------------------------------------


def _check(truth: pd.Series, predicted: pd.DataFrame, training_labels: pd.Series) -> None:
    problem = None
    if not len(truth):
        problem = "holdout_empty", "there are no held-out records to evaluate on"
    elif not len(training_labels):
        problem = "training_empty", "there are no training labels to make a baseline of"
    elif truth.isna().any() or training_labels.isna().any():
        problem = "label_missing", "a record without a label reached the evaluation"
    elif not truth.index.equals(predicted.index):
        problem = "evaluation_misaligned", "the predictions are not those of the held-out records"
    elif not predicted.shape[1] or not predicted.columns.is_unique:
        problem = "prediction_columns", "the predictions need columns, each named once"
    elif not np.isfinite(predicted.to_numpy(dtype=np.float64)).all():
        problem = "prediction_not_finite", "the model predicted something that is not a number"
    if problem is None:
        return
    todo = "This is a fault of the engine: report it."
    if problem[0] in ("holdout_empty", "training_empty"):
        todo = "Send more labelled records, or change `holdout_share` in the dataset's YAML."
    raise ModelError(code=problem[0], what=problem[1], where="evaluation", todo=todo)


def _finite(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if np.isfinite(value)}
