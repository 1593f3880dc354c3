"""How sure a model that was just trained may be, and whether that holds on the held-out records."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.review import Tolerance
from mm_assets.doubt.calibration import Calibration, Sure
from mm_assets.doubt.confidence import VALUE, as_sure, sureness_of
from mm_assets.doubt.promise import Bools
from mm_assets.training.decide import Unseen
from mm_assets.training.decision import DecisionRule, chosen

if TYPE_CHECKING:
    import pandas as pd

_NOT_LEARNT = ("rules",)  # a person wrote what they say


def as_sure_as_right(spec: DatasetSpec, engine: str, unseen: Unseen) -> tuple[float, Unseen]:
    """The power of a model's probabilities that fits those answers, and the answers so."""
    if spec.is_regression or engine in _NOT_LEARNT:
        return 1.0, unseen
    sureness = sureness_of(unseen.said, unseen.labels)
    return sureness, replace(unseen, said=as_sure(unseen.said, sureness))


def calibrated(
    spec: DatasetSpec,
    unseen: Unseen,
    rule: DecisionRule | None,
    sureness: float,
    tolerance: Tolerance,
) -> Calibration:
    """tolerance: for numbers, how near the truth is right."""
    if spec.is_regression:
        return Calibration.of_numbers(
            unseen.said[VALUE], unseen.truth, source=unseen.source,
            level=spec.interval_level, tolerance=tolerance,
        )  # fmt: skip
    places = chosen(unseen.said, rule)
    return Calibration.of_classes(
        unseen.said, unseen.labels, places,
        sureness=sureness, source=unseen.source, costs=spec.costs,
    )  # fmt: skip


def answered(
    calibration: Calibration,
    predicted: pd.DataFrame,
    truth: pd.Series,
    rule: DecisionRule | None,
) -> tuple[Sure, Bools]:
    """How sure each answer is, and which ones are right: for numbers, within the tolerance."""
    if calibration.intervals is not None:
        values = predicted[VALUE].to_numpy(dtype=np.float64)
        near = calibration.intervals.tolerance.reach(values)
        right = np.abs(values - truth.to_numpy(dtype=np.float64)) <= near
        return calibration.sure(predicted, None), right
    places = chosen(predicted, rule)
    said = predicted.columns.astype(str).to_numpy()[places]
    return calibration.sure(predicted, places), said == truth.astype(str).to_numpy()


def kept_promise(
    spec: DatasetSpec,
    calibration: Calibration,
    predicted: pd.DataFrame,
    truth: pd.Series,
    rule: DecisionRule | None,
) -> dict[str, Any]:
    """What was promised, and what the held-out records say to it.

    `words`; `share`, `accuracy`, `at_least`, `target`, `reached`, `limit`, `by`, `n` of the promise
    (promise.py); `held_out`: `n`, `share` in review, `accuracy` of the rest, `errors` and
    `errors_caught` by review; for numbers also `level`, `coverage` and the median `width`.
    """
    promise = calibration.promise(spec.review)
    sure, right = answered(calibration, predicted, truth, rule)
    asked = promise.to_review(sure.confidence, sure.width)
    rest, wrong = right[~asked], ~right
    held_out: dict[str, Any] = {
        "n": len(right),
        "share": float(asked.mean()),
        "accuracy": float(rest.mean()) if len(rest) else None,
        "errors": int(wrong.sum()),
        "errors_caught": int((wrong & asked).sum()),
    }
    if sure.lower is not None and sure.upper is not None and sure.width is not None:
        true = truth.to_numpy(dtype=np.float64)
        inside = (sure.lower <= true) & (true <= sure.upper)
        held_out |= {
            "level": spec.interval_level,
            "coverage": float(inside.mean()),
            "width": float(np.median(sure.width)),
        }
    return {
        "words": promise.words,
        "by": promise.by,
        "limit": promise.limit,
        "share": promise.share,
        "accuracy": promise.accuracy,
        "at_least": promise.at_least,
        "target": promise.target,
        "reached": promise.reached,
        "n": promise.n,
        "held_out": held_out,
    }
