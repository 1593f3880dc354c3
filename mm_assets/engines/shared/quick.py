"""Numbers of one record at once: what scikit-learn's fitted steps compute, without their checks.

For one record the sums take microseconds, and what scikit-learn makes sure of before each of them
takes a millisecond. Learning stays with scikit-learn; what was learnt is laid out here once, and
threads that ask share it. What belongs here: the steps that our engines make. Steps that a user
names are asked as they are.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]
_TINY = float(np.finfo(np.float64).eps)
Columns = Mapping[str, np.ndarray]  # of records; numbers as float64, all else as objects


def columns_of(frame: pd.DataFrame) -> dict[str, np.ndarray]:
    return {str(name): frame[name].to_numpy() for name in frame.columns}


class Table:
    """A fitted ColumnTransformer of imputed numbers, categories as columns of 0 and 1, and words.

    Its parts: SimpleImputer before StandardScaler or PowerTransformer, OneHotEncoder, or
    TfidfVectorizer of one column.
    """

    def __init__(self, fitted: Any) -> None:
        parts = [part for part in fitted.transformers_ if not isinstance(part[1], str)]
        self._parts = [_part(step, columns) for _, step, columns in parts]

    def rows(self, columns: Columns) -> Floats:
        """[records, features]"""
        return np.hstack([part.rows(columns) for part in self._parts])


class Words:
    """A fitted TfidfVectorizer with L2 norm."""

    def __init__(self, fitted: Any) -> None:
        self._analysed = fitted.build_analyzer()
        self._places: dict[str, int] = fitted.vocabulary_
        self._weights: Floats = fitted.idf_
        self._sublinear: bool = fitted.sublinear_tf

    def rows(self, texts: Iterable[str]) -> Any:
        """[texts, words] as a sparse matrix."""
        from scipy import sparse

        places, counts, ends = array("i"), array("i"), [0]
        for text in texts:
            counted: dict[int, int] = {}
            for word in self._analysed(text):
                place = self._places.get(word)
                if place is not None:
                    counted[place] = counted.get(place, 0) + 1
            ordered = sorted(counted)
            places.extend(ordered)
            counts.extend([counted[place] for place in ordered])
            ends.append(len(places))
        columns, data = np.array(places, dtype=np.int32), np.array(counts, dtype=np.float64)
        if self._sublinear:
            data = np.log(data) + 1.0
        data *= self._weights[columns]
        row_of = np.repeat(np.arange(len(ends) - 1), np.diff(ends))
        lengths = np.sqrt(np.bincount(row_of, data * data, minlength=len(ends) - 1))
        data /= lengths[row_of]
        shape = len(ends) - 1, len(self._weights)
        return sparse.csr_matrix((data, columns, np.array(ends, dtype=np.int32)), shape=shape)


def linear_answer(model: Any, matrix: Any) -> Floats:
    """As scikit-learn's own: of a LogisticRegression [records, classes], of a Ridge [records].

    matrix: [records, features] dense, or sparse in rows.
    """
    weights: Floats = model.coef_
    if not isinstance(matrix, np.ndarray) and weights.ndim == 2 and len(weights) > 1:
        matrix, weights = _narrow(matrix, weights)
    scores: Floats = matrix @ weights.T + model.intercept_
    if not hasattr(model, "classes_"):
        return scores
    if scores.shape[1] == 1:
        from scipy.special import expit

        second: Floats = expit(scores[:, 0])
        return np.stack([1 - second, second], axis=1)
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    odds: Floats = scores / scores.sum(axis=1, keepdims=True)
    return odds


def _narrow(matrix: Any, weights: Floats) -> tuple[Any, Floats]:
    """Without the features that none of the records has: a product would copy all weights."""
    from scipy import sparse

    there, places = np.unique(matrix.indices, return_inverse=True)
    few = sparse.csr_matrix(
        (matrix.data, places.astype(np.int32), matrix.indptr), shape=(matrix.shape[0], len(there))
    )
    return few, weights[:, there]


# -- parts of a table -----------------------------------------------------------------------------


class _Numbers:
    """Medians where numbers are missing (and perhaps that they are), then mean 0, deviation 1."""

    def __init__(self, steps: Any, columns: Sequence[str]) -> None:
        imputer, last = (step for _, step in steps)
        self._columns = list(columns)
        self._medians: Floats = imputer.statistics_
        indicator = imputer.indicator_
        self._noted = None if indicator is None else indicator.features_
        self._exponents: Floats | None = getattr(last, "lambdas_", None)
        scaler = last if self._exponents is None else last._scaler  # noqa: SLF001  not told else
        self._mean, self._deviation = scaler.mean_, scaler.scale_

    def rows(self, columns: Columns) -> Floats:
        given = np.column_stack([columns[name] for name in self._columns])
        gone = np.isnan(given)
        rows = np.where(gone, self._medians, given)
        if self._noted is not None:
            rows = np.hstack([rows, gone[:, self._noted]])
        if self._exponents is not None:
            for place, exponent in enumerate(self._exponents):
                rows[:, place] = yeo_johnson(rows[:, place], exponent)
        rows -= self._mean
        rows /= self._deviation
        return rows


class _Categories:
    """A column for each category; rare ones share one, and unknown ones have it or none."""

    def __init__(self, encoder: Any, columns: Sequence[str]) -> None:
        rare = getattr(encoder, "infrequent_categories_", [None] * len(columns))
        shares = encoder.handle_unknown == "infrequent_if_exist"
        self._places: list[tuple[str, dict[str, int], int]] = []
        self._width = sum(
            len(known) if few is None else len(known) - len(few) + 1
            for known, few in zip(encoder.categories_, rare, strict=True)
        )
        start = 0
        for name, known, few in zip(columns, encoder.categories_, rare, strict=True):
            together = set() if few is None else set(few)
            alone = [value for value in known if value not in together]
            last = start + len(alone)
            places = {value: start + place for place, value in enumerate(alone)}
            places |= dict.fromkeys(together, last)
            self._places.append((name, places, last if shares and together else self._width))
            start = last + bool(together)

    def rows(self, columns: Columns) -> Floats:
        records = len(columns[self._places[0][0]])
        rows = np.zeros((records, self._width + 1))  # the last one for what has no column
        every = np.arange(records)
        for name, places, other in self._places:
            rows[every, [places.get(value, other) for value in columns[name]]] = 1.0
        return rows[:, : self._width]


class _Texts:
    def __init__(self, vectorizer: Any, column: str) -> None:
        self._column, self._words = column, Words(vectorizer)

    def rows(self, columns: Columns) -> Floats:
        rows: Floats = self._words.rows(columns[self._column]).toarray()
        return rows


def _part(step: Any, columns: Any) -> _Numbers | _Categories | _Texts:
    if hasattr(step, "steps"):
        return _Numbers(step.steps, columns)
    if hasattr(step, "vocabulary_"):
        return _Texts(step, columns)
    return _Categories(step, columns)


# -- a power --------------------------------------------------------------------------------------


def yeo_johnson(values: Floats, exponent: float) -> Floats:
    """Yeo and Johnson 2000, "A new family of power transformations"."""
    turned = np.empty_like(values)
    up = values >= 0
    turned[up] = _raised(np.log1p(values[up]), exponent)
    turned[~up] = -_raised(np.log1p(-values[~up]), 2 - exponent)
    return turned


def _raised(logarithms: Floats, exponent: float) -> Floats:
    if abs(exponent) < _TINY:
        return logarithms
    return np.expm1(exponent * logarithms) / exponent


def yeo_johnson_inverse(turned: Floats, exponent: float) -> Floats:
    """What `yeo_johnson` turned; NaN for what it never gives."""
    values = np.empty_like(turned)
    up = turned >= 0
    values[up] = _lowered(turned[up], exponent)
    values[~up] = -_lowered(-turned[~up], 2 - exponent)
    return values


def _lowered(turned: Floats, exponent: float) -> Floats:
    if abs(exponent) < _TINY:
        return np.expm1(turned)
    return np.power(turned * exponent + 1, 1 / exponent) - 1
