"""How far records are from each other by their columns (Gower 1971): 0 for equal, at most 1.

Numbers differ by a share of how far they spread, categories entirely or not at all, a value and
none entirely. Texts are left out. Every column counts the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mm_assets.contract.dataset import ColumnKind, DatasetSpec

Floats = npt.NDArray[np.float64]
EDGES = (5, 95)  # percentiles between which a number spreads


class Alike:
    """Of records that are held together; others are set beside them."""

    def __init__(self, spec: DatasetSpec, features: Sequence[Mapping[str, Any]]) -> None:
        """features: typed values of each record; a column that is not there is missing."""
        self._numbers = [n for n, kind in spec.kinds.items() if kind == ColumnKind.NUMBER]
        self._categories = [n for n, kind in spec.kinds.items() if kind == ColumnKind.CATEGORY]
        self._codes: list[dict[Any, int]] = [{} for _ in self._categories]
        self.count = len(features)
        self._of_numbers = self._read_numbers(features)
        self._of_categories = np.array(
            [[self._code(place, name, one, learn=True) for one in features]
             for place, name in enumerate(self._categories)], dtype=np.int64,
        ).reshape(len(self._categories), self.count)  # fmt: skip
        self._spread = np.array([_spread(row) for row in self._of_numbers])

    @property
    def columns(self) -> int:
        """How many columns tell records apart."""
        return len(self._numbers) + len(self._categories)

    def distances(self, features: Mapping[str, Any]) -> Floats:
        """Of a record from each that is held."""
        numbers = self._read_numbers([features])[:, 0]
        codes = [self._code(n, name, features) for n, name in enumerate(self._categories)]
        return self._from(numbers, np.array(codes, dtype=np.int64))

    def from_one(self, place: int) -> Floats:
        """Of a record that is held from each of them."""
        return self._from(self._of_numbers[:, place], self._of_categories[:, place])

    def _from(self, numbers: Floats, codes: npt.NDArray[np.int64]) -> Floats:
        if not self.columns:
            return np.zeros(self.count)
        total = (self._of_categories != codes[:, None]).sum(axis=0).astype(np.float64)
        for own, value, spread in zip(self._of_numbers, numbers, self._spread, strict=True):
            off = np.minimum(np.abs(own - value) / spread, 1.0)
            total += np.where(np.isnan(own) & np.isnan(value), 0.0, np.nan_to_num(off, nan=1.0))
        return np.asarray(total / self.columns)

    def _read_numbers(self, features: Sequence[Mapping[str, Any]]) -> Floats:
        rows = [[_number(one.get(name)) for one in features] for name in self._numbers]
        return np.array(rows, dtype=np.float64).reshape(len(self._numbers), len(features))

    def _code(
        self, place: int, name: str, features: Mapping[str, Any], *, learn: bool = False
    ) -> int:
        """The number of a category's value; -1 for one that no record has that is held."""
        codes, value = self._codes[place], features.get(name)
        return codes.setdefault(value, len(codes)) if learn else codes.get(value, -1)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


def _spread(numbers: Floats) -> float:
    known = numbers[np.isfinite(numbers)]
    if not len(known):
        return 1.0
    low, high = np.percentile(known, EDGES)
    return float(high - low) or float(np.ptp(known)) or 1.0
