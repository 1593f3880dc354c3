"""How a record looks to the members: as trees see it, as a linear model does, and its image.

Each view is learnt from the records of training without their labels, so that it may be made once
for all folds. It is a matrix with a row for each record, and depends on that record alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mm_assets.engines.shared.backbones import pixels
from mm_assets.engines.shared.encoding import WORD, common_levels
from mm_assets.engines.shared.prepared import RARE
from mm_assets.engines.shared.quick import Columns, Table, Words, columns_of
from mm_assets.engines.shared.several import Cell, are_images, mean_of_each

Floats = npt.NDArray[np.float64]

LEVELS = 250  # of a category, that trees tell apart; scikit-learn allows 255
SHOWN_LEVELS = 100  # of a category, that have a column of their own in a linear model
WORDS = 20_000  # and pairs of words, of all texts
TOPICS = 32  # of all texts, for trees
LOOKS, LAYOUT = 256, 64  # principal components of the image's vector, and of its thumbnail
SIDE = 16  # of a thumbnail, in pixels
_SKEWED = 1.0
_FAR = 8.0  # standard deviations
_DIGITS = 6  # of topics and parts: the last ones depend on the neighbours in a matrix product


class Views:
    """What was learnt of the columns. It is stored with joblib, as scikit-learn's own objects are.

    columns: those that tell records apart, to "number", "category", "text" or "image".
    """

    def __init__(self, columns: dict[str, str], seed: int) -> None:
        self.columns = columns
        self._seed = seed
        self.levels: dict[str, list[str]] = {}
        self.plain: Any = None  # numbers and categories, for linear models
        self.words: Any = None  # of texts
        self.topics: Any = None  # of texts, for trees
        self.looks: _Parts | None = None  # of the image's vector: what is in it
        self.layout: _Parts | None = None  # of the image's thumbnail: which colour is where

    def of(self, kind: str) -> list[str]:
        return [column for column, own in self.columns.items() if own == kind]

    @property
    def has_table(self) -> bool:
        return any(kind != "image" for kind in self.columns.values())

    @property
    def has_image(self) -> bool:
        return bool(self.of("image"))

    def learn(self, frame: pd.DataFrame) -> None:
        """frame: prepared records of training, all of them."""
        for column in self.of("category"):
            self.levels[column] = common_levels(frame[column], LEVELS)
        if self.of("number") or self.of("category"):
            self.plain = _plain(frame, self.of("number"), self.of("category")).fit(frame)
        if self.of("text"):
            self._learn_words(frame)

    def _learn_words(self, frame: pd.DataFrame) -> None:
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer

        words = TfidfVectorizer(
            max_features=WORDS, min_df=RARE, ngram_range=(1, 2), sublinear_tf=True,
            token_pattern=WORD,
        )  # fmt: skip
        try:
            matrix = words.fit_transform(_texts(columns_of(frame), self.of("text")))
        except ValueError:  # no word stands in two records
            self.columns = {c: k for c, k in self.columns.items() if k != "text"}
            return
        self.words = words
        rank = min(TOPICS, matrix.shape[1] - 1, matrix.shape[0] - 1)
        if rank > 0:
            self.topics = TruncatedSVD(rank, random_state=self._seed).fit(matrix)

    def learn_images(self, vectors: npt.NDArray[np.float32], images: Sequence[Cell]) -> None:
        """vectors: [records, width], of training; images: of the same records, normalised."""
        self.looks = _Parts(LOOKS, self._seed).learn(vectors)
        self.layout = _Parts(LAYOUT, self._seed).learn(thumbnails(images))

    def forget_images(self) -> None:
        """For a model whose members look at no image."""
        self.looks = self.layout = None

    def seen(self, columns: Columns, vectors: npt.NDArray[np.float32] | None = None) -> Seen:
        """Prepared records, and their images' vectors ([records, width]) where they are needed."""
        return Seen(self, columns, vectors)

    @property
    def ready(self) -> _Ready:
        """What was learnt, laid out for many calls; made when it is first asked for."""
        if (made := self.__dict__.get("_ready")) is None:
            made = self._ready = _Ready(self)
        return made

    def __getstate__(self) -> dict[str, Any]:
        return {name: own for name, own in self.__dict__.items() if name != "_ready"}


class _Ready:
    """Of views that have learnt: what each call would otherwise make anew."""

    def __init__(self, views: Views) -> None:
        self.codes = {
            column: {level: float(code) for code, level in enumerate(levels)}
            for column, levels in views.levels.items()
        }
        self.plain = None if views.plain is None else Table(views.plain)
        self.words = None if views.words is None else Words(views.words)
        topics = None if views.topics is None else views.topics.components_.T
        self.topics = None if topics is None else np.ascontiguousarray(topics)


class Seen:
    """Some records, each view of them made when it is first asked for. For one thread."""

    def __init__(
        self, views: Views, columns: Columns, vectors: npt.NDArray[np.float32] | None
    ) -> None:
        self._views, self._ready, self._columns, self.vectors = views, views.ready, columns, vectors
        self._records = len(next(iter(columns.values())))
        self._made: dict[str, Any] = {}

    def _once(self, name: str, make: Callable[[], Any]) -> Any:
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    @property
    def branches(self) -> Floats:
        """[records, features] for trees: NaN for missing; `categorical` says what is a code."""
        found: Floats = self._once("branches", self._branches)
        return found

    def _branches(self) -> Floats:
        columns = [self._columns[column] for column in self._views.of("number")]
        for column in self._views.of("category"):
            codes = self._ready.codes[column]
            columns.append(np.array([codes.get(one, np.nan) for one in self._columns[column]]))
        parts = [np.column_stack(columns)] if columns else []
        if self._ready.topics is not None:
            parts.append((self._words() @ self._ready.topics).round(_DIGITS))
        return np.hstack(parts) if parts else np.empty((self._records, 0))

    @property
    def categorical(self) -> list[bool]:
        """Of each feature of `branches`."""
        numbers, categories = len(self._views.of("number")), len(self._views.of("category"))
        topics = 0 if self._views.topics is None else self._views.topics.n_components
        return [False] * numbers + [True] * categories + [False] * topics

    @property
    def line(self) -> Any:
        """[records, features] for linear models, nothing missing; sparse if there are texts."""
        return self._once("line", self._line)

    def _line(self) -> Any:
        from scipy import sparse

        plain = None if self._ready.plain is None else self._ready.plain.rows(self._columns)
        if self._ready.words is None:
            return plain if plain is not None else np.empty((self._records, 0))
        words = self._words()
        parts = [words] if plain is None else [sparse.csr_matrix(plain), words]
        return sparse.hstack(parts, format="csr")

    def _words(self) -> Any:
        assert self._ready.words is not None  # noqa: S101  who asks has seen that there are some
        texts = _texts(self._columns, self._views.of("text"))
        return self._once("words", partial(self._ready.words.rows, texts))

    @property
    def looks(self) -> Floats:
        """[records, parts] of the image's vector; together of length 1 on the average."""
        assert self._views.looks is not None  # noqa: S101  only members that see images ask
        assert self.vectors is not None  # noqa: S101
        found: Floats = self._once("looks", partial(self._views.looks.of, self.vectors))
        return found

    @property
    def layout(self) -> Floats:
        """[records, parts] of the image's thumbnail; together of length 1 on the average."""
        found: Floats = self._once("layout", self._layout)
        return found

    def _layout(self) -> Floats:
        assert self._views.layout is not None  # noqa: S101
        (column,) = self._views.of("image")
        return self._views.layout.of(thumbnails(self._columns[column].tolist()))


class _Parts:
    """Principal components of rows of numbers, each of which had been brought to deviation 1."""

    def __init__(self, most: int, seed: int) -> None:
        self._most, self._seed = most, seed

    def learn(self, rows: npt.NDArray[np.float32]) -> _Parts:
        from sklearn.decomposition import PCA
        from sklearn.preprocessing import StandardScaler

        self._scaler = StandardScaler().fit(rows.astype(np.float64))
        rank = min(self._most, rows.shape[0] - 1, rows.shape[1])
        self._pca = PCA(max(rank, 1), svd_solver="randomized", random_state=self._seed)
        found = self._pca.fit_transform(self._scaled(rows))
        self._length = float(np.sqrt((found**2).sum(axis=1).mean())) or 1.0
        return self

    def of(self, rows: npt.NDArray[np.float32]) -> Floats:
        """[rows, parts], those that tell most first."""
        parts = self._pca.components_.T
        found: Floats = self._scaled(rows) @ parts - self._pca.mean_[None] @ parts
        return (found / self._length).round(_DIGITS)

    def _scaled(self, rows: npt.NDArray[np.float32]) -> Floats:
        # As StandardScaler's and PCA's own `transform`, which check for longer than they compute.
        given = rows.astype(np.float64)
        return np.clip((given - self._scaler.mean_) / self._scaler.scale_, -_FAR, _FAR)


def thumbnails(images: Sequence[Cell]) -> npt.NDArray[np.float32]:
    """[records, numbers]: the image of each at 16 x 16 pixels, or the mean of its images; zeros
    where there is none."""
    found = np.zeros((len(images), SIDE * SIDE * 3), dtype=np.float32)
    there = [place for place, cell in enumerate(images) if are_images(cell)]
    if there:
        some = [images[place] for place in there]
        found[there] = mean_of_each(some, partial(pixels, size=(SIDE, SIDE)))
    return found


def _texts(columns: Columns, names: list[str]) -> list[str]:
    """One text a record; a blank line between columns keeps their words from making pairs."""
    rows = zip(*(columns[name] for name in names), strict=True)
    return ["\n\n".join(map(str, row)) for row in rows]


def _plain(frame: pd.DataFrame, numbers: list[str], categories: list[str]) -> Any:
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, PowerTransformer, StandardScaler

    skewed = [one for one in numbers if abs(_skewness(frame[one])) > _SKEWED]
    even = [one for one in numbers if one not in skewed]

    def filled(last: Any) -> Any:
        return make_pipeline(SimpleImputer(strategy="median", add_indicator=True), last)

    steps = [
        ("even", filled(StandardScaler()), even),
        ("skewed", filled(PowerTransformer()), skewed),
        (
            "category",
            OneHotEncoder(
                handle_unknown="infrequent_if_exist", min_frequency=RARE,
                max_categories=SHOWN_LEVELS, sparse_output=False,
            ),
            categories,
        ),
    ]  # fmt: skip
    return ColumnTransformer([step for step in steps if step[2]], sparse_threshold=0)


def _skewness(values: pd.Series) -> float:
    found: Any = values.skew()
    return float(found) if np.isfinite(found) else 0.0
