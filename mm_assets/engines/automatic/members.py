"""The members that learn from views of the records: linear models and boosted trees.

A member is its models of the folds, and answers with their mean. So what is known of it out of
fold is known of what answers. To learn one is to try its variants (how strongly it is held back,
on which scale a number is learnt) on the folds, and to keep the best.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mm_assets.contract.errors import ModelError
from mm_assets.engines.automatic.scales import IDENTITY, Scale
from mm_assets.engines.automatic.views import Seen
from mm_assets.engines.shared.quick import linear_answer
from mm_assets.engines.shared.weights import unweighted

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]

LINEAR, TREES = "linear", "trees"
LINEAR_IMAGE, TREES_IMAGE = "linear with image", "trees with image"
SEES_IMAGE = (LINEAR_IMAGE, TREES_IMAGE)
AUTOGLUON = "autogluon"  # the one that learns from no views; also its folder

# How strongly linear models are held back: scikit-learn's C, and alpha (for a label of deviation 1)
_CS = (1.0, 0.3, 0.1, 0.03, 0.01, 3.0, 10.0, 30.0)
_ALPHAS = (10.0, 1.0, 100.0, 1000.0, 0.1, 10_000.0)
_LOUD = 4.0  # how loud an image is beside a column of the table, in a linear model
_TREE_LOOKS, _TREE_LAYOUT = 48, 32  # components that trees see
_ITERATIONS = 300
_LEAVES = (15, 5, 31)  # of a tree
_WORTH_BENDING = 1.01  # by which the error on another scale has to be less
_PATIENCE = 40  # rounds without gain
_FEW_ASKED = 1_000  # records that one thread answers sooner
_FEW = 20_000  # records that one thread learns from sooner than several that wait for each other


class OutOfTime(Exception):  # noqa: N818  it is no fault
    """The budget is spent."""


@dataclass(frozen=True)
class Lesson:
    """What all members learn from: the records that they see, and how they are judged.

    truth: [records] the places of the classes, or numbers inside the fence. weights: [records].
    folds: rows to learn from and rows to be asked about. losses: [some rows] of an answer to them.
    scales: that are tried, of a number. until: on the monotonic clock; None: no end.
    """

    seen: Seen
    truth: npt.NDArray[Any]
    weights: Floats
    classes: list[str] | None  # None: a number
    class_weights: dict[str, float] | None
    folds: list[tuple[Rows, Rows]]
    loss: Callable[[Floats, Rows], float]
    scales: Sequence[Scale]
    seed: int
    until: float | None

    @property
    def n_classes(self) -> int:
        return len(self.classes or ())

    def check_time(self) -> None:
        if self.until is not None and time.monotonic() > self.until:
            raise OutOfTime


@dataclass(frozen=True)
class Learnt:
    """A member: its models of the folds, and what it said out of fold ([records, classes])."""

    name: str
    models: list[Any]
    scale: Scale | None
    said: Floats
    note: str


def learn(name: str, lesson: Lesson) -> Learnt:
    """The best of the member's variants. Raises OutOfTime if not one was learnt on every fold."""
    rows = np.sort(np.concatenate([asked for _, asked in lesson.folds]))
    matrix = matrix_of(name, lesson.seen)
    best: Learnt | None = None
    lowest = np.inf
    try:
        for group in _variants(name, lesson):
            worse = 0
            for variant in group:
                found = _on_folds(name, matrix, lesson, variant)
                loss = lesson.loss(found.said[rows], rows) * _doubt(variant.scale)
                if best is None or loss < lowest:
                    best, lowest, worse = found, loss, 0
                else:
                    worse += 1
                if worse > 1:  # the path has turned
                    break
    except OutOfTime:
        if best is None:
            raise
    if best is None:
        raise OutOfTime
    return best


def _doubt(scale: Scale | None) -> float:
    """Another scale than the label's own has to be worth it: it bends the mean of what is said."""
    return 1.0 if scale is None or scale.kind == IDENTITY else _WORTH_BENDING


def _on_folds(name: str, matrix: Any, lesson: Lesson, variant: Variant) -> Learnt:
    target = lesson.truth if variant.scale is None else variant.scale.forward(lesson.truth)
    said = np.full((len(lesson.truth), max(lesson.n_classes, 1)), np.nan)
    models = []
    for rows, asked in lesson.folds:
        known, watched = (
            Part(matrix[some], target[some], lesson.weights[some])
            for some in (rows, _of_known_classes(lesson, rows, asked))
        )
        model = variant.make()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of convergence; how good it is, is measured
            variant.fit(model, known, watched)
        said[asked] = answer_of(
            model, matrix[asked], lesson.classes, variant.scale, lesson.class_weights
        )
        models.append(model)
        lesson.check_time()
    return Learnt(name, models, variant.scale, said, variant.note)


def _of_known_classes(lesson: Lesson, rows: Rows, asked: Rows) -> Rows:
    """Those of the rows to watch whose class is among those to learn from."""
    if not lesson.n_classes:
        return asked
    return asked[np.isin(lesson.truth[asked], lesson.truth[rows])]


def answer_of(
    model: Any,
    matrix: Any,
    classes: list[str] | None,
    scale: Scale | None,
    class_weights: dict[str, float] | None,
) -> Floats:
    """[records, classes] probabilities, or [records, 1] numbers."""
    if scale is not None:
        return scale.inverse(_said(model, matrix).ravel())[:, None]
    assert classes is not None  # noqa: S101  a number has a scale
    found = np.zeros((matrix.shape[0], len(classes)))
    found[:, model.classes_.astype(int)] = _said(model, matrix)
    return unweighted(found, classes, class_weights)


def _said(model: Any, matrix: Any) -> Floats:
    """[records, classes] or [records]: as its `predict_proba` or `predict`, which check for longer
    than they compute where records are few.
    """
    if hasattr(model, "coef_"):
        return linear_answer(model, matrix)
    threads = 1 if matrix.shape[0] <= _FEW_ASKED else model.n_jobs or 0  # 0: all processors
    said = np.asarray(model.booster_.predict(matrix, num_threads=threads), dtype=np.float64)
    if said.ndim == 1 and hasattr(model, "classes_"):  # of the second class
        return np.stack([1.0 - said, said], axis=1)
    return said


def mean_answer(
    models: Sequence[Any],
    matrix: Any,
    classes: list[str] | None,
    scale: Scale | None,
    class_weights: dict[str, float] | None,
) -> Floats:
    """What a member says: the mean of what its models of the folds say."""
    said = [answer_of(model, matrix, classes, scale, class_weights) for model in models]
    return np.mean(said, axis=0)


def matrix_of(name: str, seen: Seen) -> Any:
    """What this member sees of records."""
    from scipy import sparse

    if name == LINEAR:
        return seen.line
    if name == TREES:
        return seen.branches
    if name == TREES_IMAGE:
        return np.hstack(
            [seen.branches, seen.looks[:, :_TREE_LOOKS], seen.layout[:, :_TREE_LAYOUT]]
        )
    image = _LOUD * np.hstack([seen.looks, seen.layout])
    if sparse.issparse(seen.line):
        return sparse.hstack([seen.line, sparse.csr_matrix(image)], format="csr")
    return np.hstack([seen.line, image])


# -- variants -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """Some rows of what a member learns from."""

    matrix: Any
    target: npt.NDArray[Any]
    weights: Floats


def _plain_fit(model: Any, known: Part, asked: Part) -> None:  # noqa: ARG001  it doesn't stop early
    model.fit(known.matrix, known.target, sample_weight=known.weights)


@dataclass(frozen=True)
class Variant:
    make: Callable[[], Any]
    scale: Scale | None
    note: str
    fit: Callable[[Any, Part, Part], None] = _plain_fit


def _variants(name: str, lesson: Lesson) -> Iterator[list[Variant]]:
    """Groups of variants, a safe one first. In a group they go on in one direction."""
    scales: Sequence[Scale | None] = list(lesson.scales) if not lesson.n_classes else [None]
    linear = name in (LINEAR, LINEAR_IMAGE)
    for scale in scales:
        on = "" if scale is None or len(scales) == 1 else f", scale {scale.kind}"
        if linear:
            yield from _linear_variants(lesson, scale, on)
        else:
            yield from _trees_variants(name, lesson, scale, on)


def _linear_variants(lesson: Lesson, scale: Scale | None, on: str) -> Iterator[list[Variant]]:
    from sklearn.linear_model import LogisticRegression, Ridge

    def made(strength: float) -> Callable[[], Any]:
        if scale is not None:
            return lambda: Ridge(alpha=strength, random_state=lesson.seed)
        return lambda: LogisticRegression(
            C=strength, max_iter=_ITERATIONS, random_state=lesson.seed
        )

    tried, letter = (_ALPHAS, "alpha") if scale is not None else (_CS, "C")
    named = [Variant(made(one), scale, f"{letter} {one:g}{on}") for one in tried]
    weaker = sorted(range(1, len(tried)), key=lambda place: tried[place])
    below = [named[place] for place in reversed(weaker) if tried[place] < tried[0]]
    above = [named[place] for place in weaker if tried[place] > tried[0]]
    yield [named[0]]
    yield below
    yield above


def _trees_variants(
    name: str, lesson: Lesson, scale: Scale | None, on: str
) -> Iterator[list[Variant]]:
    for leaves in _LEAVES if name == TREES else _LEAVES[:1]:
        yield [_trees_variant(lesson, scale, leaves, on)]


def _trees_variant(lesson: Lesson, scale: Scale | None, leaves: int, on: str) -> Variant:
    lightgbm = boosting_library()
    records = len(lesson.folds[0][0])
    categorical = np.flatnonzero(lesson.seen.categorical).tolist()
    settings = {
        "n_estimators": 2000,
        "learning_rate": 0.1 if lesson.n_classes > 2 else 0.05,  # each round is a tree a class
        "num_leaves": leaves,
        "min_child_samples": 5 if records < 200 else 8 if records < 1000 else 20,
        "subsample": 0.8,
        "subsample_freq": 1,
        "colsample_bytree": 0.8,
        "max_bin": 127,
        **({"categorical_feature": categorical} if categorical else {}),
        "random_state": lesson.seed,
        "n_jobs": 1 if records < _FEW else None,
        "deterministic": True,
        "force_row_wise": True,
        "verbose": -1,
    }

    def check_time(_: Any) -> None:
        lesson.check_time()

    def fit(model: Any, known: Part, asked: Part) -> None:
        model.fit(
            known.matrix, known.target, sample_weight=known.weights,
            eval_set=[(asked.matrix, asked.target)], eval_sample_weight=[asked.weights],
            callbacks=[lightgbm.early_stopping(_PATIENCE, verbose=False), check_time],
        )  # fmt: skip

    kind = lightgbm.LGBMClassifier if scale is None else lightgbm.LGBMRegressor
    return Variant(lambda: kind(**settings), scale, f"{leaves} leaves{on}", fit)


def boosting_library() -> Any:
    """LightGBM. Raises ModelError (package_missing) where its OpenMP library is not found."""
    import importlib

    try:
        return importlib.import_module("lightgbm")
    except OSError as error:
        raise ModelError(
            code="package_missing",
            what=f"LightGBM can't be loaded: {error}",
            where="the engine automatic, its boosted trees",
            todo="Install OpenMP: `apt install libgomp1`, or on a Mac `brew install libomp`.",
        ) from error
