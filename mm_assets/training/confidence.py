"""How sure a model is of one prediction, between 0 and 1, the same scale for every problem.

Classification: the probability of the class that is the answer. Regression: the chance that the
truth lies within `tolerance` of the predicted value, read off the held-out records with similar
predictions.

The latter turns split conformal prediction round (Papadopoulos et al. 2002, "Inductive confidence
machines for regression"; Lei et al. 2018, "Distribution-free predictive inference for regression"):
there the coverage is given and held-out errors yield the width of the interval; here the width is
given and held-out errors yield the coverage. Taking only the nearest predictions makes it local,
because errors are seldom the same everywhere. It says nothing about inputs unlike any seen before;
for those there is the drift check.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mm_assets.contract.errors import ModelError

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]

NEIGHBOURS = 50
MINIMUM_NEIGHBOURS = 10
MAXIMUM_POINTS = 2000  # what a manifest holds, however many records were held out
VALUE = "value"


def confidence_of(
    predicted: pd.DataFrame,
    calibration: Calibration | None = None,
    chosen: npt.NDArray[np.intp] | None = None,
) -> Floats:
    """The confidence of each prediction, in the order of `predicted`.

    `predicted` has a column of probabilities for each class, or the one column "value"
    (regression), which needs the model's `calibration`. chosen: the column that is each record's
    answer (decision.py), whose probability it is then; by default the most probable one.
    """
    if list(predicted.columns) != [VALUE]:
        if chosen is not None:
            values = predicted.to_numpy(dtype=np.float64)
            own: Floats = values[np.arange(len(values)), chosen]
            return own.clip(0.0, 1.0)
        highest: Floats = predicted.to_numpy(dtype=np.float64).max(axis=1, initial=0.0)
        return highest.clip(0.0, 1.0)
    if calibration is None:
        raise ModelError(
            code="calibration_missing",
            what="the model predicts numbers but was stored without a calibration",
            todo="Train and promote the model again.",
        )
    return calibration.confidence(predicted[VALUE].to_numpy(dtype=np.float64))


@dataclass(frozen=True)
class Calibration:
    """Held-out predictions, ascending, and whether the truth lay within `tolerance` of each.

    Depends on the held-out records as a set, not on their order; each answer depends on its own
    value alone.
    """

    predicted: Floats
    within: npt.NDArray[np.bool_]
    tolerance: float
    neighbours: int = NEIGHBOURS

    @classmethod
    def from_holdout(
        cls, predicted: Any, truth: Any, tolerance: float, neighbours: int = NEIGHBOURS
    ) -> Calibration:
        """Calibrate on held-out records: predicted values and true values, in the same order.

        `tolerance` is in the unit of the label: the dataset's `regression_tolerance`, or else the
        baseline's mean absolute error (`Evaluation.baseline["mean_absolute_error"]`).
        More than 2,000 records are thinned out evenly over the predicted values.
        """
        values = np.asarray(predicted, dtype=np.float64).ravel()
        errors = np.abs(values - np.asarray(truth, dtype=np.float64).ravel())
        if not len(values):
            raise ModelError(
                code="holdout_empty",
                what="there are no held-out records to calibrate confidence on",
                todo="Raise `holdout_share`, or send more labelled records.",
            )
        if not np.isfinite(errors).all() or not tolerance >= 0:
            raise ModelError(
                code="calibration_not_finite",
                what="a held-out prediction, its truth or the tolerance is not a finite number",
                todo="Check the labels of the held-out records and `regression_tolerance`.",
            )
        order = np.lexsort((errors, values))
        if len(order) > MAXIMUM_POINTS:
            kept = np.linspace(0, len(order) - 1, MAXIMUM_POINTS).round().astype(np.intp)
            order = order[kept]
        return cls(
            predicted=values[order],
            within=errors[order] <= tolerance,
            tolerance=float(tolerance),
            neighbours=max(neighbours, MINIMUM_NEIGHBOURS),
        )

    def confidence(self, values: Any) -> Floats:
        """The share of the nearest held-out records that were within tolerance, for each value.

        Records that share the predicted value of the farthest neighbour all count. A value that
        is not finite gets 0.
        """
        asked = np.asarray(values, dtype=np.float64).ravel()
        finite = np.isfinite(asked)
        points, k = self.predicted, min(self.neighbours, len(self.predicted))
        # The k nearest stand side by side. Window i is left for window i + 1 once point i + k is
        # nearer than point i, so the windows' turning points, which ascend, are their midpoints.
        turning = points[:-k] / 2 + points[k:] / 2
        first = np.searchsorted(turning, np.where(finite, asked, 0.0), side="left")
        low = np.searchsorted(points, points[first], side="left")
        high = np.searchsorted(points, points[first + k - 1], side="right")
        hits = np.concatenate(([0], np.cumsum(self.within)))
        share: Floats = np.where(finite, (hits[high] - hits[low]) / (high - low), 0.0)
        return share

    def to_json(self) -> dict[str, Any]:
        """A document for the model's manifest; `from_json` gives an equal calibration."""
        return {
            "predicted": self.predicted.tolist(),
            "within": "".join("1" if hit else "0" for hit in self.within),
            "tolerance": self.tolerance,
            "neighbours": self.neighbours,
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Calibration:
        """Raises ModelError if the document is not one that `to_json` wrote."""
        try:
            predicted = np.asarray(document["predicted"], dtype=np.float64)
            within = np.array([{"0": False, "1": True}[flag] for flag in document["within"]])
            tolerance, neighbours = float(document["tolerance"]), int(document["neighbours"])
            if not (predicted.ndim == 1 and len(predicted) == len(within) >= 1 <= neighbours):
                raise ValueError("lengths differ")
            if not np.isfinite(predicted).all() or (np.diff(predicted) < 0).any():
                raise ValueError("the values do not ascend")
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(
                code="calibration_invalid",
                what=f"the stored calibration cannot be read: {error}",
                todo="Train and promote the model again.",
            ) from None
        return cls(predicted, within, tolerance, neighbours)
