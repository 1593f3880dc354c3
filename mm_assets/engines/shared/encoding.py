"""How a frame becomes a matrix of numbers, for engines that see nothing else."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mm_assets.engines.protocol import Progress
from mm_assets.engines.shared.eyes import Eyes
from mm_assets.engines.shared.prepared import RARE, Prepared
from mm_assets.engines.shared.quick import Columns, Words
from mm_assets.engines.shared.several import embedded

LEVELS = 255  # categories of one column that are told apart
WORDS = 1000  # of one text column that are looked for
REASONS = 3
WORD = r"(?u)\b\w+\b"
_CODES = {"number": "q", "category": "c"}


@dataclass(frozen=True)
class Encoding:
    """What each column becomes, learnt from the training records.

    columns: those that are used, and their kinds. levels: a category column to those of its values
    that have a number; every other value is a missing one. words: a text column to its words, and
    weights: to their inverse document frequencies.
    """

    columns: dict[str, str]
    levels: dict[str, list[str]]
    words: dict[str, list[str]]
    weights: dict[str, list[float]]


def learn_encoding(learnt: Prepared) -> Encoding:
    from sklearn.feature_extraction.text import TfidfVectorizer

    encoding = Encoding(dict(learnt.used), {}, {}, {})
    for column, kind in learnt.used.items():
        if kind == "category":
            encoding.levels[column] = common_levels(learnt.training[column], LEVELS)
        elif kind == "text":
            vectorizer = TfidfVectorizer(max_features=WORDS, min_df=RARE, token_pattern=WORD)
            try:
                vectorizer.fit(learnt.training[column])
            except ValueError:  # no word stands in two records
                del encoding.columns[column]
                continue
            encoding.words[column] = vectorizer.get_feature_names_out().tolist()
            encoding.weights[column] = vectorizer.idf_.tolist()
    return encoding


def common_levels(values: pd.Series, most: int) -> list[str]:
    """The categories that are not rare, the most frequent first, equals by name."""
    counts = values.value_counts()
    counts = counts[counts >= RARE].sort_index().sort_values(ascending=False, kind="stable")
    return counts.index[:most].tolist()


class Encoder:
    """Turns prepared frames into matrices, each record for itself."""

    def __init__(self, encoding: Encoding, eyes: Eyes | None) -> None:
        self.encoding = encoding
        self._eyes = eyes
        self._codes = {
            column: {level: float(code) for code, level in enumerate(levels)}
            for column, levels in encoding.levels.items()
        }
        self._words = {
            column: Words(_vectorizer(words, encoding.weights[column]))
            for column, words in encoding.words.items()
        }
        # Of each feature of the matrix: its column, and its word if it is one.
        plain = [column for column, kind in encoding.columns.items() if kind in _CODES]
        self._plain = plain
        self._images = [column for column, kind in encoding.columns.items() if kind == "image"]
        width = eyes.width if eyes else 0
        self._features: list[tuple[str, str | None]] = [
            *((column, None) for column in plain),
            *((column, None) for column in self._images for _ in range(width)),
            *((column, word) for column, words in encoding.words.items() for word in words),
        ]
        # As XGBoost names them: q for a quantity, c for the number of a category.
        self.feature_types = [_CODES[encoding.columns[column]] for column in plain]
        self.feature_types += ["q"] * (len(self._features) - len(plain))

    def encode(self, columns: Columns, records: int, progress: Progress) -> Any:
        """[records, features]: a float array, NaN for missing; sparse if there are words."""
        if not records:
            return np.empty((0, len(self._features)))
        parts: list[np.ndarray] = [np.empty((records, 0))]
        for column in self._plain:
            values, codes = columns[column], self._codes.get(column)
            if codes is not None:
                values = np.array([codes.get(one, np.nan) for one in values])
            parts.append(values[:, None])
        parts += [self._embedded(columns[column], progress) for column in self._images]
        dense = np.concatenate(parts, axis=1)
        if not self._words:
            return dense
        from scipy import sparse

        # Every cell is kept, because a cell that is not there would be a missing value.
        rows, width = dense.shape
        places = np.tile(np.arange(width), rows), np.arange(rows + 1) * width
        whole = sparse.csr_matrix((dense.ravel(), *places), shape=dense.shape)
        words = [own.rows(columns[column]) for column, own in self._words.items()]
        return sparse.hstack([whole, *words], format="csr")

    def _embedded(self, images: np.ndarray, progress: Progress) -> np.ndarray:
        assert self._eyes is not None  # noqa: S101  a column of images is used only with some
        return embedded(self._eyes, images.tolist(), progress)

    def in_words(self, values: dict[Any, Any], shares: np.ndarray) -> str:
        """The loudest features of one record. shares: [features]; an image's count as one."""
        loudness: dict[tuple[str, str | None], float] = {}
        for feature, share in zip(self._features, shares, strict=True):
            loudness[feature] = loudness.get(feature, 0.0) + float(share)
        loudest = sorted(loudness.items(), key=lambda item: -abs(item[1]))[:REASONS]
        said = [
            f"{_shown(values[column], column, word, self.encoding.columns[column])} ({share:+.2g})"
            for (column, word), share in loudest
            if share
        ]
        return ", ".join(said) or "no column makes a difference"


def _shown(value: Any, column: str, word: str | None, kind: str) -> str:
    if kind == "image":
        return column
    if word is not None:
        there = isinstance(value, str) and word in re.findall(WORD, value.lower())
        return f'{column} {"" if there else "without "}"{word}"'
    if pd.isna(value):
        return f"{column} missing"
    return f"{column} {value:.4g}" if kind == "number" else f"{column} {str(value)[:40]}"


def _vectorizer(words: list[str], weights: list[float]) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(vocabulary=words, token_pattern=WORD)
    vectorizer.idf_ = np.array(weights)
    return vectorizer
