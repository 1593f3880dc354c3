"""What a model's manifest keeps so that each of its answers says how sure it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.errors import ModelError
from mm_assets.contract.review import Review, Tolerance
from mm_assets.doubt.confidence import VALUE, confidence_of
from mm_assets.doubt.intervals import Intervals
from mm_assets.doubt.promise import Curve, Promise, promise_of

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]

DIGITS = 6  # of a confidence or a share, as the table keeps them
MOST_POINTS = 5000  # that a manifest keeps


@dataclass(frozen=True)
class Sure:
    """How sure each answer of a batch is. lower, upper, width: for numbers, else None.

    width: of the interval, as a share of the number.
    """

    confidence: Floats
    lower: Floats | None = None
    upper: Floats | None = None
    width: Floats | None = None


@dataclass(frozen=True)
class Calibration:
    """How a model answered records that it did not learn from, and what follows.

    sureness: the power of the engine's probabilities. intervals: None for classes. source: "out of
    fold" or "tuning records", or in words what else it was learnt from. n: records.
    """

    curve: Curve
    intervals: Intervals | None = None
    sureness: float = 1.0
    source: str = ""
    n: int = 0
    document: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of_classes(
        cls,
        predicted: pd.DataFrame,
        truth: Any,
        chosen: Places,
        *,
        sureness: float,
        source: str,
        costs: Any = None,
    ) -> Calibration:
        """predicted: probabilities, already to the power of `sureness`; chosen: the column of each
        answer; truth: the labels, in the same order; costs: those of the YAML, by which the
        answers were decided."""
        said = predicted.columns.astype(str).to_numpy()[chosen]
        right = said == np.asarray(truth, dtype=object).astype(str)
        confidence = confidence_of(predicted, chosen).round(DIGITS)
        some = _some(np.lexsort((right, confidence)))
        document = {
            "source": source,
            "sureness": sureness,
            "costs": costs,
            "n": len(right),
            "confidence": confidence[some].tolist(),
            "right": "".join("1" if one else "0" for one in right[some]),
        }
        return cls.from_json(document)

    @classmethod
    def of_numbers(
        cls, predicted: Any, truth: Any, *, source: str, level: float, tolerance: Tolerance
    ) -> Calibration:
        """predicted, truth: numbers in the same order. Raises ModelError (calibration_empty,
        calibration_not_finite)."""
        values = np.asarray(predicted, dtype=np.float64).ravel()
        true = np.asarray(truth, dtype=np.float64).ravel()
        some = _some(np.lexsort((true, values)))
        document = {
            "source": source,
            "tolerance": list(tolerance),
            "n": len(values),
            "predicted": values[some].tolist(),
            "truth": true[some].tolist(),
        }
        return cls._numbers(document, level, tolerance)

    def sure(self, predicted: pd.DataFrame, chosen: Places | None) -> Sure:
        """How sure a batch of answers is; each by itself."""
        if self.intervals is not None:
            return _of_numbers(self.intervals, predicted[VALUE].to_numpy(dtype=np.float64))
        return Sure(confidence_of(predicted, chosen).round(DIGITS))

    def promise(self, review: Review) -> Promise:
        """Which answers go to review, by the YAML as it is now."""
        return promise_of(review, self.curve, of_numbers=self.intervals is not None)

    def to_json(self) -> dict[str, Any]:
        """What a manifest keeps; at most 5,000 records, thinned out evenly."""
        return dict(self.document)

    @classmethod
    def from_json(
        cls, document: Mapping[str, Any], level: float = 0.9, tolerance: Tolerance | None = None
    ) -> Calibration:
        """level, tolerance: of numbers, as the YAML has them now; None: as it was in training.

        Raises ModelError (calibration_invalid) if the document is not one of `to_json`.
        """
        try:
            if "predicted" in document:
                amount, is_share = document["tolerance"]
                near = tolerance or Tolerance(float(amount), bool(is_share))
                return cls._numbers(document, level, near)
            confidence = np.asarray(document["confidence"], dtype=np.float64)
            right = np.array([{"0": False, "1": True}[flag] for flag in document["right"]], bool)
            if len(confidence) != len(right):
                raise ValueError("lengths differ")
            source, n = str(document["source"]), int(document["n"])
            sureness = float(document["sureness"])
            return cls(Curve(confidence, right), None, sureness, source, n, document)
        except (AttributeError, KeyError, TypeError, ValueError, ModelError) as error:
            raise ModelError(
                code="calibration_invalid",
                what=f"the stored calibration cannot be read: {error}",
                todo="Train and promote the model again.",
            ) from None

    @classmethod
    def _numbers(
        cls, document: Mapping[str, Any], level: float, tolerance: Tolerance
    ) -> Calibration:
        values, true = (
            np.asarray(document[name], dtype=np.float64) for name in ("predicted", "truth")
        )
        intervals = Intervals.learn(values, true, level=level, tolerance=tolerance)
        sure = _of_numbers(intervals, values, intervals.others)
        right = np.abs(values - true) <= tolerance.reach(values)
        curve = Curve(sure.confidence, right, sure.width)
        return cls(curve, intervals, 1.0, str(document["source"]), int(document["n"]), document)

    @classmethod
    def of_manifest(cls, spec: DatasetSpec, manifest: Mapping[str, Any]) -> Calibration:
        """Of a stored model. One of classes that has none answers by its plain probabilities.

        Raises ModelError (calibration_missing, calibration_invalid).
        """
        nothing = Curve(np.empty(0), np.empty(0, dtype=bool))
        if document := manifest.get("calibration"):
            found = cls.from_json(document, spec.interval_level, spec.tolerance)
            # By other costs other answers are given, and how often those are right is not known.
            same = document.get("costs") == spec.costs
            return found if same else replace(found, curve=nothing)
        if spec.is_regression:
            raise ModelError(
                code="calibration_missing",
                what="the model predicts numbers but was stored without a calibration",
                todo="Train and promote the model again.",
            )
        return cls(nothing)


def _some(order: Places) -> Places:
    """At most as many records as a manifest keeps, evenly from `order`."""
    if len(order) <= MOST_POINTS:
        return order
    return order[np.linspace(0, len(order) - 1, MOST_POINTS).round().astype(np.intp)]


def _of_numbers(intervals: Intervals, values: Floats, size: Floats | None = None) -> Sure:
    lower, upper = intervals.of(values, size)
    width = intervals.width(values, lower, upper)
    confidence = intervals.confidence(values, size)
    return Sure(confidence.round(DIGITS), lower, upper, width.round(DIGITS))
