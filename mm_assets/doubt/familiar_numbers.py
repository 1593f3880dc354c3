"""Which numbers are far outside of what a column held in training.

A limit on each side, at a multiple of the distances from the median that training saw: beyond it
an ordinary record is to be rare, however long the column's tail is. The tail's weight is read off
the largest tenth of the distances (Hill 1975; but for the very largest, so that a few mistyped
values do not make it heavy), and followed outward (Weissman 1978).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

RARE = 0.01  # of ordinary records, of all columns together, may lie beyond limits by their tails
MISTYPED = 0.001  # of a column's values may be mistyped, and one in any case
LEFT_OUT = 0.005  # of the records, in all columns together, may be taken for mistyped
TAIL = 0.1  # of the distances tell how heavy the tail is
FEWEST = 4  # distances that can tell it
ROOM = 1.5  # a limit lies at least so many times as far out as what training saw
LIGHTEST, HEAVIEST = 0.2, 1.0  # tails, as powers
SKEWED = 1.5  # so much further the larger values lie from the median than the smaller ones


@dataclass(frozen=True)
class Range:
    """lower, upper: the limits. smallest, largest: what training saw between them."""

    lower: float
    upper: float
    smallest: float
    largest: float

    def far(self, values: Floats) -> npt.NDArray[np.bool_]:
        """Missing values are not far."""
        found: npt.NDArray[np.bool_] = (values < self.lower) | (values > self.upper)
        return found

    @property
    def words(self) -> str:
        return f"{self.smallest:.6g} to {self.largest:.6g}"

    def to_json(self) -> list[float]:
        return [self.lower, self.upper, self.smallest, self.largest]


def learn_ranges(columns: Mapping[str, Floats]) -> dict[str, Range]:
    """Of each column with a number. columns: the values of all training records, NaN for missing.

    The order of the records makes no difference.
    """
    sides: list[tuple[float, str, int, float, float]] = []
    middles: dict[str, tuple[Floats, float]] = {}
    rare = RARE / max(1, len(columns))
    for column, raw in columns.items():
        values = np.sort(raw[np.isfinite(raw)])
        if not len(values):
            continue
        middle = float(np.median(values))
        middles[column] = values, middle
        for sign in (-1, 1):
            distances = np.sort((values - middle) * sign)[::-1]
            strict, wide = _limits(distances, middle, rare)
            cost = float((distances > strict).mean())
            sides.append((cost, column, sign, strict, wide))
    limits: dict[tuple[str, int], float] = {}
    spent = 0.0
    for cost, column, sign, strict, wide in sorted(sides):
        # What lies outside is mistyped, or the column's own way: too much of it is the latter.
        spent += cost
        limits[column, sign] = strict if spent <= LEFT_OUT else wide
    return {
        column: _range(values, middle, limits[column, -1], limits[column, 1])
        for column, (values, middle) in middles.items()
    }


def _limits(distances: Floats, middle: float, rare: float) -> tuple[float, float]:
    """How far from the median is far, without values that may be mistyped, and with all of them.

    distances: of one side, descending; those of the other side are negative.
    """
    n = len(distances)
    mistyped = max(1, int(np.ceil(MISTYPED * n)))
    largest = max(0.0, float(distances[0]))
    kept = max(0.0, float(distances[min(mistyped, n - 1)]))
    positive = distances[distances > 0]
    least = 0.0
    if len(positive) < FEWEST:  # nearly always the same number
        least = abs(middle) or 1.0
    else:
        place = min(max(int(TAIL * n), mistyped + 1), len(positive) - 1)
        anchor = float(positive[place])
        weight = float(np.log(positive[min(mistyped, place - 1) : place] / anchor).mean())
        weight = min(max(weight, LIGHTEST), HEAVIEST)
        least = anchor * (max(1.0, place / n / rare)) ** weight
    return max(least, ROOM * kept), max(least, ROOM * largest)


def _range(values: Floats, middle: float, below: float, above: float) -> Range:
    lower, upper = middle - below, middle + above
    tenth, ninth = np.quantile(values, [0.1, 0.9])
    skewed = ninth - middle > SKEWED * (middle - tenth)
    if values[0] >= 0 and skewed:  # of what is counted or paid for, nothing is negative
        lower = max(lower, -np.finfo(np.float64).tiny)
    between = values[(values >= lower) & (values <= upper)]
    return Range(float(lower), float(upper), float(between[0]), float(between[-1]))


def ranges_of(document: Mapping[str, Any]) -> dict[str, Range]:
    """As `Range.to_json` wrote them. Raises TypeError or ValueError."""
    return {column: Range(*map(float, said)) for column, said in document.items()}
