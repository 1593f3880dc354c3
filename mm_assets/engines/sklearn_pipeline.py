"""The sklearn engine: a pipeline of scikit-learn's steps, or of any that keep to its interface.

Before the steps of the YAML comes a fixed preparation, so that any estimator works: numbers are
imputed (median) and scaled, categories become one column each, texts their tf-idf, and with
`image_pixels` images their pixels. A model is a joblib file, which is unpickled: it must be
verified first, as the model store does.
"""

from __future__ import annotations

import contextlib
import importlib
import time
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from mm_assets.contract.errors import ModelError
from mm_assets.engines.protocol import Progress, Task
from mm_assets.engines.shared.backbones import pixels
from mm_assets.engines.shared.encoding import WORD
from mm_assets.engines.shared.engine_file import read_record, reading, write_record
from mm_assets.engines.shared.guards import check_columns, prepared_columns
from mm_assets.engines.shared.prepared import prepare
from mm_assets.engines.shared.quick import Columns, Table, columns_of
from mm_assets.engines.shared.refusals import (
    first_line,
    refuse,
    refuse_hyperparameter,
    refuse_value,
)
from mm_assets.engines.shared.several import mean_of_each
from mm_assets.engines.shared.together import Together
from mm_assets.engines.shared.weights import unweighted, weights_of

ENGINE = "sklearn"
FORMAT = 1
MODEL_FILE = "model.joblib"
LEVELS = 100  # categories of one column that get a column of their own
WORDS = 2000
LARGEST_SIDE = 256


class SklearnEngine:
    """Trains the pipeline that `hyperparameters` name.

    `steps`: import paths, or `{class: path, parameter: value, …}`; the last is the estimator.
    `image_pixels`: the side to which images are brought, of several the mean; without it they are
    not looked at.
    Every other key is a parameter of the pipeline, as sklearn's `make_pipeline` names it. Tuning
    records and `time_limit` are not used. Every `random_state` that is not given is `seed`.
    """

    weighs_classes = True
    pools_images = True

    def __init__(
        self,
        *,
        hyperparameters: dict[str, Any] | None = None,
        time_limit: float | None = None,
        seed: int = 0,
    ) -> None:
        self.hyperparameters = dict(hyperparameters or {})
        self.time_limit = time_limit
        self.seed = seed

    def train(self, task: Task, directory: Path, progress: Progress) -> None:
        """As `Engine.train`; records without an image, where there should be one, are left out.

        All features are in memory as one dense matrix of float64.
        Raises ModelError: what `prepare` raises, hyperparameter_unknown, hyperparameter_invalid,
        engine_step_missing, engine_step_unfit, engine_step_failed.
        """
        import sklearn

        joblib = importlib.import_module("joblib")
        started = time.monotonic()
        given = dict(self.hyperparameters)
        side = _side(given.pop("image_pixels", None))
        steps = _steps(given.pop("steps", None), given, self.seed)
        _check_last(steps, task.is_regression, weighted=task.class_weights is not None)
        learnt = prepare(task, sees_images=side is not None)
        preparation = _Preparation(_transformer(learnt.used), learnt.used, side)
        progress(f"training {_name(steps)} on {len(learnt.training)} records")
        matrix = preparation.fit(learnt.training)
        weights = weights_of(learnt.training_truth, task.class_weights)
        _fit(steps, matrix, learnt.training_truth, progress, weights)
        # Trees that are added up by several threads at once are added up in any order.
        _set_everywhere(steps, "n_jobs", 1)
        joblib.dump((preparation.transformer, steps), directory / MODEL_FILE, compress=3)
        write_record(
            directory,
            {
                "format": FORMAT,
                "engine": ENGINE,
                "seed": self.seed,
                "columns": [[column, kind] for column, kind in task.columns.items()],
                "used": learnt.used,
                "number_ranges": learnt.ranges,
                "image_pixels": side,
                "classes": learnt.classes,
                "class_weights": task.class_weights and dict(task.class_weights),
                "versions": {"scikit-learn": sklearn.__version__},
            },
        )
        progress(f"trained in {time.monotonic() - started:.0f} s")

    def load(self, directory: Path) -> SklearnPredictor:
        """What `train` wrote, from wherever it lies now. This unpickles: verify the files first.

        Raises ModelError (model_unreadable).
        """
        joblib = importlib.import_module("joblib")
        with reading(directory):
            record = read_record(directory, ENGINE, FORMAT)
            transformer, steps = joblib.load(directory / MODEL_FILE)
            return SklearnPredictor(transformer, steps, record)


class SklearnPredictor:
    """A loaded model. `classes` are the probability columns in order, None for regression."""

    def __init__(self, transformer: Any, steps: Any, record: dict[str, Any]) -> None:
        self.classes: list[str] | None = record["classes"]
        self.columns: dict[str, str] = dict(record["columns"])
        self._preparation = _Preparation(transformer, record["used"], record["image_pixels"])
        self._steps = steps
        self._ranges: dict[str, list[float]] = record["number_ranges"]
        self._weights: dict[str, float] | None = record.get("class_weights")
        pools = importlib.import_module("threadpoolctl").ThreadpoolController()
        self._openmp = pools.select(user_api="openmp")  # has a number of threads for each thread
        blas = pools.select(user_api="blas")
        self._alone = Together(lambda: _in_one_thread(blas))

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """As `Predictor.predict`; a record's answer is the same in any batch within 1e-9.

        Raises ModelError (model_columns_differ, number_not_finite, image_missing).
        """
        check_columns(frame, self.columns)
        prepared = prepared_columns(frame, self.columns, self._ranges)
        names = self.classes or ["value"]
        if frame.empty:
            return pd.DataFrame(np.empty((0, len(names))), index=frame.index, columns=names)
        with self._alone, self._openmp.limit(limits=1):
            matrix = self._preparation.apply(prepared)
            if self.classes is None:
                values = np.asarray(self._steps.predict(matrix), dtype=np.float64).reshape(-1, 1)
            else:
                places = [list(self._steps.classes_).index(name) for name in self.classes]
                values = np.asarray(self._steps.predict_proba(matrix), dtype=np.float64)[:, places]
                values = unweighted(values, self.classes, self._weights)
        return pd.DataFrame(values, index=frame.index, columns=names)


@contextlib.contextmanager
def _in_one_thread(blas: Any) -> Iterator[None]:
    """Without warnings, too."""
    with blas.limit(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


# -- the steps ------------------------------------------------------------------------------------


def _steps(listed: Any, parameters: dict[str, Any], seed: int) -> Any:
    """The pipeline that is not trained yet."""
    from sklearn.pipeline import make_pipeline

    if not isinstance(listed, list) or not listed:
        refuse_value("`steps` is no list of import paths", ENGINE)
    pipeline = make_pipeline(*(_step(one) for one in listed))
    for name, step in pipeline.steps[:-1]:
        if not (hasattr(step, "fit") and hasattr(step, "transform")):
            _unfit(name, "it is not the last step, and cannot transform", "Take it out.")
    known = ["steps", "image_pixels", *(p for p in pipeline.get_params() if "__" in p)]
    for name in parameters:
        if name not in known:
            refuse_hyperparameter(name, known, ENGINE)
    pipeline.set_params(**parameters)
    _set_everywhere(pipeline, "random_state", seed, only_none=True)
    return pipeline


def _step(listed: Any) -> Any:
    """One step from its import path, or from its path under `class` and its parameters."""
    options = dict(listed) if isinstance(listed, dict) else {"class": listed}
    path = options.pop("class", None)
    made = _imported(path)
    try:
        step = made(**options)
    except TypeError as error:
        known = made._get_param_names() if hasattr(made, "_get_param_names") else []  # noqa: SLF001
        unknown = [name for name in options if name not in known]
        if known and unknown:
            refuse_hyperparameter(f"{path}: {unknown[0]}", [f"{path}: {k}" for k in known], ENGINE)
        refuse_value(f"{path} can't be made: {first_line(error)}", ENGINE)
    if not hasattr(step, "get_params"):
        _unfit(str(path), "it has no get_params", "Name a class that is made for sklearn.")
    return step


def _imported(path: Any) -> Any:
    module, _, name = str(path).rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        refuse(
            "engine_step_missing",
            f"the step {path} cannot be imported: {error}",
            "Write the whole import path of a class, such as sklearn.linear_model.Ridge, and "
            "install its package.",
            f"the engine {ENGINE}",
        )


def _check_last(pipeline: Any, is_regression: bool, *, weighted: bool) -> None:
    from sklearn.base import is_classifier
    from sklearn.utils.validation import has_fit_parameter

    name, last = pipeline.steps[-1]
    if weighted and not has_fit_parameter(last, "sample_weight"):
        _unfit(
            name,
            "the last step takes no weights (its fit has no sample_weight)",
            "Take `class_weights` out and write `costs` instead, or choose another step.",
        )
    if not is_regression:
        if not hasattr(last, "predict_proba"):
            _unfit(
                name,
                "the last step gives no probabilities (it has no predict_proba)",
                "Choose a classifier that does, or set the parameter that makes it give them.",
            )
    elif is_classifier(last) or not hasattr(last, "predict"):
        _unfit(name, "the last step predicts no numbers", "End the steps with a regressor.")


def _unfit(step: str, what: str, todo: str) -> NoReturn:
    refuse("engine_step_unfit", f"{step}: {what}", todo, f"the engine {ENGINE}")


def _set_everywhere(pipeline: Any, parameter: str, value: Any, *, only_none: bool = False) -> None:
    """Set a parameter of every step, and of what is inside the steps, that has it."""
    there = pipeline.get_params(deep=True)
    wanted = {
        name: value
        for name, present in there.items()
        if name.rpartition("__")[2] == parameter and not (only_none and present is not None)
    }
    pipeline.set_params(**wanted)


def _name(pipeline: Any) -> str:
    return type(pipeline.steps[-1][1]).__name__


def _fit(
    pipeline: Any,
    matrix: np.ndarray,
    truth: np.ndarray,
    progress: Progress,
    weights: np.ndarray | None,
) -> None:
    name = pipeline.steps[-1][0]
    weighted = {} if weights is None else {f"{name}__sample_weight": weights}
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            pipeline.fit(matrix, truth, **weighted)
        except Exception as error:  # steps may be anybody's
            raise ModelError(
                code="engine_step_failed",
                what=f"the steps can't learn from these records: {first_line(error)}",
                where=f"the engine {ENGINE}",
                todo="Change the steps or their parameters.",
            ) from error
    for line in dict.fromkeys(str(warning.message).strip().split("\n")[0] for warning in warned):
        progress(f"warning: {line}")


# -- the fixed preparation ------------------------------------------------------------------------


def _side(given: Any) -> int | None:
    if given is not None and not (type(given) is int and 1 <= given <= LARGEST_SIDE):
        refuse_value(f"image_pixels: {given!r} is no whole number up to {LARGEST_SIDE}", ENGINE)
    return given


class _Preparation:
    """Turns prepared frames into matrices: [records, features] float64, nothing missing.

    transformer: of the columns without images, None if there are none. side: of the images.
    """

    def __init__(self, transformer: Any, used: dict[str, str], side: int | None) -> None:
        self.transformer = transformer
        self._columns = [column for column, kind in used.items() if kind != "image"]
        self._table: Table | None = None
        self._images = [column for column, kind in used.items() if kind == "image"]
        self._size = (side or 0, side or 0)

    def fit(self, frame: pd.DataFrame) -> np.ndarray:
        if self.transformer is not None:
            self.transformer.fit(frame[self._columns])
        return self.apply(columns_of(frame))

    def apply(self, columns: Columns) -> np.ndarray:
        if self._table is None and self._columns:
            self._table = Table(self.transformer)
        parts = [self._table.rows(columns)] if self._table is not None else []
        parts += [
            mean_of_each(columns[column].tolist(), partial(pixels, size=self._size)).astype(float)
            for column in self._images
        ]
        return np.concatenate(parts, axis=1, dtype=np.float64)


def _transformer(used: dict[str, str]) -> Any:
    """For all columns but images; None if there are no others."""
    from sklearn.compose import ColumnTransformer
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    of = {kind: [c for c, k in used.items() if k == kind] for kind in ("number", "category")}
    number = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    category = OneHotEncoder(handle_unknown="ignore", max_categories=LEVELS, sparse_output=False)
    parts = [("number", number, of["number"]), ("category", category, of["category"])]
    parts = [part for part in parts if part[2]]
    for place, column in enumerate(c for c, kind in used.items() if kind == "text"):
        words = TfidfVectorizer(max_features=WORDS, token_pattern=WORD)
        parts.append((f"text {place}", words, column))  # type: ignore[arg-type]
    return ColumnTransformer(parts, sparse_threshold=0) if parts else None
