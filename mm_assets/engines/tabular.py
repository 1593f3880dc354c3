"""What the engines that read a table share: records to learn from, hyperparameters, engine.json.

Below that, how a frame becomes a matrix of numbers, for engines that see nothing else. The checks
themselves are in guards.py. Nothing here knows of one particular engine.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from mm_assets.contract.errors import ModelError
from mm_assets.engines.backbones import FrozenBackbone
from mm_assets.engines.guards import (
    REGRESSION,
    has_images,
    prepared_frame,
    refuse,
    value_range,
    varies,
    with_known_classes,
)

ENGINE_FILE = "engine.json"
RARE = 2  # a category or word seen less often than this in training tells nothing
LEVELS = 255  # categories of one column that are told apart
WORDS = 1000  # of one text column that are looked for
REASONS = 3
_CODES = {"number": "q", "category": "c"}
WORD = r"(?u)\b\w+\b"
_IMAGES_AT_A_TIME = 500


@dataclass(frozen=True)
class Lesson:
    """Records that something can be learnt from, as `prepared_frame` makes them.

    used: the columns that tell records apart, and their kinds; the frames have no others. truth:
    [records] str, or float for regression. classes: sorted, None for regression.
    """

    training: pd.DataFrame
    tuning: pd.DataFrame
    training_truth: np.ndarray
    tuning_truth: np.ndarray
    used: dict[str, str]
    ranges: dict[str, list[float]]
    classes: list[str] | None


def lesson(
    training: pd.DataFrame,
    tuning: pd.DataFrame,
    columns: dict[str, str],
    label: str,
    problem_type: str,
    *,
    sees_images: bool,
) -> Lesson:
    """What is left once records without image, and columns that tell nothing, are left out.

    sees_images: whether the engine looks at the column of kind "image" itself.
    Raises ModelError: records_missing, classes_differ, label_missing, number_not_finite,
    image_missing, nothing_to_learn_from.
    """
    training, tuning, classes = labelled(training, tuning, columns, label, problem_type)
    ranges = {c: value_range(training[c]) for c, kind in columns.items() if kind == "number"}
    frames = [prepared_frame(part, columns, ranges) for part in (training, tuning)]
    used = {c: k for c, k in columns.items() if _tells(frames[0][c], k, sees_images)}
    if not used:
        refuse_to_learn()
    return Lesson(
        frames[0][list(used)], frames[1][list(used)],
        training[label].to_numpy(), tuning[label].to_numpy(),
        used, ranges, classes,
    )  # fmt: skip


def labelled(
    training: pd.DataFrame,
    tuning: pd.DataFrame,
    columns: dict[str, str],
    label: str,
    problem_type: str,
) -> tuple[pd.DataFrame, pd.DataFrame, list[str] | None]:
    """The records with every image they should have, and their classes in order."""
    training, tuning = (part[has_images(part, columns)] for part in (training, tuning))
    training, tuning = with_known_classes(training, tuning, label, problem_type)
    classes = None if problem_type == REGRESSION else sorted(set(training[label]))
    return training, tuning, classes


def _tells(values: pd.Series, kind: str, sees_images: bool) -> bool:
    if kind == "image" and not sees_images:
        return False
    if kind == "text" and not values.str.contains(r"\w").any():
        return False
    return varies(values, kind, RARE)


def refuse_to_learn() -> NoReturn:
    """For records in which nothing that an engine looks at differs."""
    refuse(
        "nothing_to_learn_from",
        "every column that the engine sees has the same value, or only rare ones, in all records",
        "Add columns that differ between records, or more records. Of an image this engine sees "
        "the `image_features`, and what its own hyperparameters say.",
    )


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a sentence: what was probably meant, or all that is known."""
    names = sorted(map(str, known))
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"the nearest known one is {close[0]!r}"
    return f"known are {', '.join(names)}" if names else "there are none"


def refuse_hyperparameter(name: str, known: Iterable[str], engine: str) -> NoReturn:
    """Raises ModelError(hyperparameter_unknown)."""
    refuse(
        "hyperparameter_unknown",
        f"the engine {engine} has no hyperparameter {name!r}; {nearest(name, known)}",
        "Correct its name under `hyperparameters` or `search` in the dataset's YAML.",
        f"the engine {engine}",
    )


def refuse_value(what: str, engine: str) -> NoReturn:
    """Raises ModelError(hyperparameter_invalid)."""
    refuse(
        "hyperparameter_invalid",
        what,
        "Correct it under `hyperparameters` or `search` in the dataset's YAML.",
        f"the engine {engine}",
    )


def first_line(error: BaseException) -> str:
    """What an exception of a library says, in one line."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no reason given'])[0]}"


def write_record(directory: Path, record: dict[str, Any]) -> None:
    """Write engine.json, which `read_record` gives back."""
    text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False)
    (directory / ENGINE_FILE).write_text(text, encoding="utf-8")


def read_record(directory: Path, engine: str, form: int) -> dict[str, Any]:
    """engine.json, if this engine wrote it in this form; else ValueError."""
    record = json.loads((directory / ENGINE_FILE).read_text(encoding="utf-8"))
    if (record["engine"], record["format"]) != (engine, form):
        raise ValueError(f"it is a model of {record['engine']}, format {record['format']}")
    return record


@contextlib.contextmanager
def reading(directory: Path) -> Iterator[None]:
    """Whatever goes wrong inside becomes ModelError(model_unreadable), except what misses words."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            code="model_unreadable",
            what=f"the model can't be loaded: {first_line(error)}",
            where=str(directory),
            todo="Load it with the versions it was trained with, or train anew.",
        ) from error


# -- from a frame to a matrix of numbers -----------------------------------------------------------


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


def learn_encoding(learnt: Lesson) -> Encoding:
    from sklearn.feature_extraction.text import TfidfVectorizer

    encoding = Encoding(dict(learnt.used), {}, {}, {})
    for column, kind in learnt.used.items():
        if kind == "category":
            counts = learnt.training[column].value_counts()
            counts = counts[counts >= RARE].sort_index().sort_values(ascending=False, kind="stable")
            encoding.levels[column] = counts.index[:LEVELS].tolist()
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


class Encoder:
    """Turns prepared frames into matrices, each record for itself."""

    def __init__(self, encoding: Encoding, backbone: FrozenBackbone | None) -> None:
        self.encoding = encoding
        self._backbone = backbone
        self._codes = {
            column: {level: float(code) for code, level in enumerate(levels)}
            for column, levels in encoding.levels.items()
        }
        self._vectorizers = {
            column: _vectorizer(words, encoding.weights[column])
            for column, words in encoding.words.items()
        }
        # Of each feature of the matrix: its column, and its word if it is one.
        plain = [column for column, kind in encoding.columns.items() if kind in _CODES]
        self._plain = plain
        self._images = [column for column, kind in encoding.columns.items() if kind == "image"]
        width = backbone.width if backbone else 0
        self._features: list[tuple[str, str | None]] = [
            *((column, None) for column in plain),
            *((column, None) for column in self._images for _ in range(width)),
            *((column, word) for column, words in encoding.words.items() for word in words),
        ]
        # As XGBoost names them: q for a quantity, c for the number of a category.
        self.feature_types = [_CODES[encoding.columns[column]] for column in plain]
        self.feature_types += ["q"] * (len(self._features) - len(plain))

    def encode(self, frame: pd.DataFrame, progress: Callable[[str], None]) -> Any:
        """[records, features]: a float array, NaN for missing; sparse if there are words."""
        if frame.empty:
            return np.empty((0, len(self._features)))
        parts: list[np.ndarray] = [np.empty((len(frame), 0))]
        for column in self._plain:
            codes = self._codes.get(column)
            values = frame[column] if codes is None else frame[column].map(codes)
            parts.append(values.to_numpy(dtype=np.float64)[:, None])
        parts += [self._embedded(frame[column], progress) for column in self._images]
        dense = np.concatenate(parts, axis=1)
        if not self._vectorizers:
            return dense
        from scipy import sparse

        # Every cell is kept, because a cell that is not there would be a missing value.
        rows, width = dense.shape
        places = np.tile(np.arange(width), rows), np.arange(rows + 1) * width
        whole = sparse.csr_matrix((dense.ravel(), *places), shape=dense.shape)
        words = [v.transform(frame[column]) for column, v in self._vectorizers.items()]
        return sparse.hstack([whole, *words], format="csr")

    def _embedded(self, images: pd.Series, progress: Callable[[str], None]) -> np.ndarray:
        assert self._backbone is not None  # noqa: S101  a column of images is used only with one
        parts = [np.empty((0, self._backbone.width), dtype=np.float32)]
        for start in range(0, len(images), _IMAGES_AT_A_TIME):
            some = images.iloc[start : start + _IMAGES_AT_A_TIME].tolist()
            parts.append(self._backbone.embed(some))
            progress(f"looked at {start + len(some)} of {len(images)} images")
        return np.concatenate(parts)

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
