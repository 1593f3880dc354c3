"""Where the truth of a predicted number lies: conformal intervals, wide where errors are large.

Split conformal prediction on answers out of fold (Papadopoulos et al. 2002; Lei et al. 2018), with
errors divided by how large errors are near such a prediction, so that hard records get wide
intervals (normalised nonconformity, Papadopoulos et al. 2008), and each side by itself, because
errors of prices are not symmetric. What the packages crepes and MAPIE add to these few lines does
not fit here: an interval has to come from a manifest, without a pickle, and be each record's own.
It holds for records like those of training; others are marked (unlike.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mm_assets.contract.errors import ModelError
from mm_assets.contract.review import Tolerance

Floats = npt.NDArray[np.float64]

NEIGHBOURS = 50  # records that tell how large errors are near a prediction
MOST_KNOTS = 20
FEWEST_OTHERS = 20
STEADY = 0.1  # of the mean error, at least, however small errors were somewhere


@dataclass(frozen=True)
class Intervals:
    """level: the share of records whose truth is to lie inside. tolerance: how near is right.

    knots, sizes: how large an error usually is near a prediction, straight lines in between.
    scores: errors (truth - prediction) divided by that, ascending. lowest, highest: labels lie
    between them, None where there is no end (a price is not negative). usual: what a width is
    compared with where numbers may be 0 or negative. others: for each record learnt from, in the
    order given, how large an error would be by what the others tell.
    """

    level: float
    tolerance: Tolerance
    knots: Floats
    sizes: Floats
    scores: Floats
    lowest: float | None
    highest: float | None
    usual: float
    others: Floats

    @classmethod
    def learn(cls, predicted: Any, truth: Any, *, level: float, tolerance: Tolerance) -> Intervals:
        """From predictions of records that the model did not learn from, and their truth.

        Raises ModelError (calibration_empty, calibration_not_finite).
        """
        values = np.asarray(predicted, dtype=np.float64).ravel()
        true = np.asarray(truth, dtype=np.float64).ravel()
        if not len(values):
            raise ModelError(
                code="calibration_empty",
                what="there are no records to learn from how far off the model is",
                todo="Send more labelled records.",
            )
        if not (np.isfinite(values).all() and np.isfinite(true).all()) or not tolerance.amount >= 0:
            raise ModelError(
                code="calibration_not_finite",
                what="a prediction, its truth or the tolerance is not a finite number",
                todo="Check the labels and `regression_tolerance`.",
            )
        order = np.lexsort((true, values))
        values, errors = values[order], (true - values)[order]
        groups = int(np.clip(len(values) // NEIGHBOURS, 1, MOST_KNOTS))
        knots, sizes = _sizes(values, np.abs(errors), groups)
        others = _sizes_of_others(values, np.abs(errors), groups)
        one_sign = true.min() >= 0 or true.max() <= 0
        return cls(
            level=level,
            tolerance=tolerance,
            knots=knots,
            sizes=sizes,
            scores=np.sort(errors / others),
            lowest=0.0 if true.min() >= 0 else None,
            highest=0.0 if true.max() <= 0 < -true.min() else None,
            usual=0.0 if one_sign and true.any() else float(np.abs(true).mean()) or 1.0,
            others=others[np.argsort(order)],
        )

    def of(self, values: Any, size: Floats | None = None) -> tuple[Floats, Floats]:
        """The lower and upper end for each predicted value; size: another than is usual near it."""
        asked = np.asarray(values, dtype=np.float64).ravel()
        size = self._size(asked) if size is None else size
        low, high = self._ends()
        # No interval excludes its own prediction, however one-sided errors were.
        lower = asked + min(low, 0.0) * size
        upper = asked + max(high, 0.0) * size
        if self.lowest is not None:
            lower, upper = np.maximum(lower, self.lowest), np.maximum(upper, self.lowest)
        if self.highest is not None:
            lower, upper = np.minimum(lower, self.highest), np.minimum(upper, self.highest)
        return lower, upper

    def width(self, values: Any, lower: Floats, upper: Floats) -> Floats:
        """How wide each interval is, as a share of its number."""
        asked = np.abs(np.asarray(values, dtype=np.float64).ravel())
        least = self.usual or 1e-12
        found: Floats = (upper - lower) / np.maximum(asked, least)
        return found

    def confidence(self, values: Any, size: Floats | None = None) -> Floats:
        """The chance that the truth is within the tolerance of each value; 0 if not finite."""
        asked = np.asarray(values, dtype=np.float64).ravel()
        finite = np.isfinite(asked)
        asked = np.where(finite, asked, 0.0)
        reach = self.tolerance.reach(asked) / (self._size(asked) if size is None else size)
        high = np.searchsorted(self.scores, reach, side="right")
        low = np.searchsorted(self.scores, -reach, side="left")
        share: Floats = np.where(finite, (high - low) / len(self.scores), 0.0)
        return share

    def _size(self, values: Floats) -> Floats:
        found: Floats = np.interp(values, self.knots, self.sizes)
        return found

    def _ends(self) -> tuple[float, float]:
        """The scores between which the truth lies; the farthest ones where records are few."""
        n = len(self.scores)
        outside = int(np.floor((1 - self.level) / 2 * (n + 1)))  # on each side
        return float(self.scores[max(outside - 1, 0)]), float(self.scores[min(n - outside, n - 1)])


def _sizes_of_others(values: Floats, errors: Floats, groups: int) -> Floats:
    """How large an error usually is near each prediction, by a fifth of the records at a time:
    the other four tell, so that no record's own error widens its own measure."""
    if len(values) < FEWEST_OTHERS:
        found: Floats = np.interp(values, *_sizes(values, errors, groups))
        return found
    sizes = np.empty(len(values))
    place = np.arange(len(values)) % 5
    for part in range(5):
        own = place == part
        sizes[own] = np.interp(values[own], *_sizes(values[~own], errors[~own], groups))
    return sizes


def _sizes(values: Floats, errors: Floats, groups: int) -> tuple[Floats, Floats]:
    """How large errors are along the predictions (ascending): knots and a size above 0 for each."""
    places = [part for part in np.array_split(np.arange(len(values)), groups) if len(part)]
    # A few mistyped labels must not decide it, so the errors are cut where they are far.
    cut = np.minimum(errors, 10 * (np.median(errors) or errors.mean() or 1.0))
    knots = np.array([values[part].mean() for part in places])
    sizes = np.array([cut[part].mean() for part in places])
    steady = STEADY * float(cut.mean()) or 1e-9
    return knots, np.maximum(sizes, steady)
