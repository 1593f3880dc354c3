"""The gradient boosting engine: XGBoost on numbers, categories and the words of texts.

An image counts by its numbers (`image_features`), and through a frozen backbone if
`image_backbone` names one. What belongs here: how XGBoost is asked. How a frame becomes its matrix
is in shared/encoding.py. A model is XGBoost's own file, engine.json and perhaps a copy of the
backbone: only weights, no code.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mm_assets.contract.packages import optional
from mm_assets.engines.protocol import Progress, Task, Vectors
from mm_assets.engines.shared.encoding import Encoder, Encoding, learn_encoding
from mm_assets.engines.shared.engine_file import read_record, reading, write_record
from mm_assets.engines.shared.eyes import keep_eyes, kept_eyes
from mm_assets.engines.shared.guards import check_columns, prepared_columns
from mm_assets.engines.shared.prepared import Prepared, prepare
from mm_assets.engines.shared.quick import Columns, columns_of
from mm_assets.engines.shared.refusals import (
    first_line,
    refuse_hyperparameter,
    refuse_to_learn,
    refuse_value,
)
from mm_assets.engines.shared.weights import unweighted, weights_of

ENGINE = "gradient_boosting"
FORMAT = 1
MODEL_FILE = "model.ubj"
BACKBONE = "image_backbone"  # the folder, if there is one; the embedded backbone needs none

_SHOWN_ROUNDS = 50
_FEW = 1000  # records that one thread predicts sooner than several that wait for each other
_RECORDS_AT_A_TIME = 256  # when reasons are asked for: a matrix for each class

_DEFAULTS = {"learning_rate": 0.1, "n_estimators": 1000, "early_stopping_rounds": 50}
_OF_THE_ROUNDS = ("n_estimators", "early_stopping_rounds")  # not of the booster
_SHORT = {
    "eta": "learning_rate", "gamma": "min_split_loss", "alpha": "reg_alpha",
    "lambda": "reg_lambda", "num_boost_round": "n_estimators", "nthread": "n_jobs",
}  # fmt: skip
_KNOWN = (
    "base_score", "colsample_bylevel", "colsample_bynode", "colsample_bytree", "device",
    "early_stopping_rounds", "eval_metric", "grow_policy", "learning_rate", "max_bin",
    "max_cat_threshold", "max_cat_to_onehot", "max_delta_step", "max_depth", "max_leaves",
    "min_child_weight", "min_split_loss", "n_estimators", "n_jobs", "num_parallel_tree",
    "objective", "reg_alpha", "reg_lambda", "sampling_method", "scale_pos_weight", "subsample",
    "tree_method",
)  # fmt: skip
_OBJECTIVES = (
    "reg:squarederror", "reg:absoluteerror", "reg:pseudohubererror", "reg:squaredlogerror",
    "count:poisson", "reg:gamma", "reg:tweedie",
)  # fmt: skip


class GradientBoostingEngine:
    """Trains XGBoost, and stops when the tuning records no longer gain by another round.

    `hyperparameters` are XGBoost's own (`max_depth`, `learning_rate`, `n_estimators`, …).
    `image_backbone` is `embedded`, or a timm name on the hub or a local folder, whose weights
    become a part of the model; `vectors` has what is known of images. `time_limit` (seconds) ends
    the rounds. Training is repeatable for a `seed` on one kind of processor.
    """

    weighs_classes = True
    pools_images = True

    def __init__(
        self,
        *,
        image_backbone: str | None = None,
        hyperparameters: dict[str, Any] | None = None,
        time_limit: float | None = None,
        seed: int = 0,
        vectors: Vectors | None = None,
    ) -> None:
        self.image_backbone = image_backbone
        self.vectors = vectors
        self.hyperparameters = dict(hyperparameters or {})
        self.time_limit = time_limit
        self.seed = seed

    def train(self, task: Task, directory: Path, progress: Progress) -> None:
        """As `Engine.train`; records without an image, where there should be one, are left out.

        Raises ModelError: what `prepare` raises, hyperparameter_unknown, hyperparameter_invalid,
        backbone_incomplete, backbone_differs, backbone_unreachable, package_missing.
        """
        xgboost, started = _xgboost(), time.monotonic()
        own = self._checked(task.is_regression)
        learnt = prepare(task, sees_images=bool(self.image_backbone))
        settings = {**own, **_objective(learnt.classes, own), "seed": self.seed, "verbosity": 0}
        _try(xgboost, settings, learnt.classes)  # before images are looked at for an hour
        encoder, eyes = self._encoder(learnt, directory)
        progress(f"training on {len(learnt.training)} records, tuning on {len(learnt.tuning)}")
        training, tuning = (
            _matrix(
                xgboost,
                encoder,
                columns_of(frame),
                len(frame),
                progress,
                _targets(truth, learnt.classes),
                weights=weights_of(truth, task.class_weights),
            )
            for frame, truth in (
                (learnt.training, learnt.training_truth),
                (learnt.tuning, learnt.tuning_truth),
            )
        )
        watch = _watch(xgboost, started, self.time_limit, progress)
        booster = _boosted(xgboost, settings, training, tuning, watch)
        booster.save_model(directory / MODEL_FILE)
        write_record(
            directory,
            {
                "format": FORMAT,
                "engine": ENGINE,
                "seed": self.seed,
                "columns": [[column, kind] for column, kind in task.columns.items()],
                "number_ranges": learnt.ranges,
                "encoding": asdict(encoder.encoding),
                "classes": learnt.classes,
                "eyes": eyes,
                "class_weights": task.class_weights and dict(task.class_weights),
                "rounds": booster.num_boosted_rounds(),
                "versions": {"xgboost": xgboost.__version__},
            },
        )
        seconds = time.monotonic() - started
        progress(f"trained in {seconds:.0f} s: {booster.num_boosted_rounds()} rounds kept")

    def _checked(self, is_regression: bool) -> dict[str, Any]:
        """The hyperparameters under XGBoost's present names, with ours where none is given."""
        named: dict[str, Any] = {}
        for given, value in self.hyperparameters.items():
            name = _SHORT.get(given, given)
            if name not in _KNOWN:
                refuse_hyperparameter(given, {*_KNOWN, *_SHORT}, ENGINE)
            if name in named:
                refuse_value(f"{given!r} and another name of it are both given", ENGINE)
            if not isinstance(value, str | int | float):
                refuse_value(f"{given}: {value!r} is no number and no word", ENGINE)
            named[name] = value
        chosen = {**_DEFAULTS, **named}
        for name in _OF_THE_ROUNDS:
            if type(chosen[name]) is not int or chosen[name] < 1:
                refuse_value(f"{name}: {chosen[name]!r} is no whole number above 0", ENGINE)
        if "objective" in chosen:
            if not is_regression:
                refuse_value("the objective follows from a problem of classes: take it out", ENGINE)
            if chosen["objective"] not in _OBJECTIVES:
                refuse_value(f"use an objective of {', '.join(_OBJECTIVES)}", ENGINE)
        return chosen

    def _encoder(self, learnt: Prepared, directory: Path) -> tuple[Encoder, str | None]:
        """The encoder, and the identity of the eyes that it has, if any."""
        encoding = learn_encoding(learnt)
        if not encoding.columns:
            refuse_to_learn()
        if not (self.image_backbone and "image" in learnt.used.values()):
            return Encoder(encoding, None), None
        identity = keep_eyes(self.image_backbone, directory / BACKBONE)
        return Encoder(encoding, kept_eyes(identity, directory / BACKBONE, self.vectors)), identity

    def load(self, directory: Path) -> GradientBoostingPredictor:
        """What `train` wrote, from wherever it lies now.

        Raises ModelError (model_unreadable, backbone_incomplete, backbone_differs,
        package_missing).
        """
        xgboost = _xgboost()
        with reading(directory):
            record = read_record(directory, ENGINE, FORMAT)
            booster = xgboost.Booster(model_file=directory / MODEL_FILE)
            encoding = Encoding(**record["encoding"])
            eyes = None
            if "image" in encoding.columns.values():
                eyes = kept_eyes(record.get("eyes"), directory / BACKBONE, self.vectors)
            return GradientBoostingPredictor(booster, Encoder(encoding, eyes), record)


class GradientBoostingPredictor:
    """A loaded model. `classes` are the probability columns in order, None for regression."""

    def __init__(self, booster: Any, encoder: Encoder, record: dict[str, Any]) -> None:
        self.classes: list[str] | None = record["classes"]
        self.columns: dict[str, str] = dict(record["columns"])
        booster.set_param({"nthread": 1})
        self._boosters = {1: booster}  # by their number of threads
        self._lock = threading.Lock()
        self._encoder = encoder
        self._ranges: dict[str, list[float]] = record["number_ranges"]
        self._weights: dict[str, float] | None = record.get("class_weights")

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """As `Predictor.predict`. A record gets the same prediction alone and in any batch.

        Raises ModelError (model_columns_differ, number_not_finite, image_missing).
        """
        said = self._asked(frame).astype(np.float64)
        if self.classes is None:
            return pd.DataFrame({"value": said}, index=frame.index)
        if said.ndim == 1:  # binary: of the second class
            said = np.stack([1 - said, said], axis=1)
        values = said.reshape(-1, len(self.classes))
        total = values.sum(axis=1, keepdims=True)  # within a float32 of 1
        values = unweighted(values / total, self.classes, self._weights)
        return pd.DataFrame(values, index=frame.index, columns=self.classes)

    def reasons(self, frame: pd.DataFrame) -> list[str]:
        """The values that speak loudest for (+) or against (-) each record's prediction.

        By their SHAP values (Lundberg et al. 2020): in units of the label for regression, else in
        log odds.
        """
        if self.classes is None:
            return self.reasons_for(frame, [])
        most_probable = self.predict(frame).to_numpy().argmax(axis=1)
        return self.reasons_for(frame, [self.classes[place] for place in most_probable])

    def reasons_for(self, frame: pd.DataFrame, said: list[str]) -> list[str]:
        """The same for or against the classes that are said, one for each record."""
        parts = [
            self._reasons(frame.iloc[start : start + _RECORDS_AT_A_TIME],
                          said[start : start + _RECORDS_AT_A_TIME])
            for start in range(0, len(frame), _RECORDS_AT_A_TIME)
        ]  # fmt: skip
        return [text for part in parts for text in part]

    def _reasons(self, frame: pd.DataFrame, said: list[str]) -> list[str]:
        shares = self._asked(frame, pred_contribs=True)
        if self.classes is not None:
            chosen = np.array([self.classes.index(name) for name in said])
            if shares.ndim == 2:
                shares = shares * np.where(chosen == 1, 1, -1)[:, None]
            else:
                shares = shares[np.arange(len(frame)), chosen]
        return [
            self._encoder.in_words(values, row)
            for values, row in zip(frame.to_dict("records"), shares[:, :-1], strict=True)
        ]

    def _matrix(self, frame: pd.DataFrame) -> Any:
        check_columns(frame, self.columns)
        prepared = prepared_columns(frame, self.columns, self._ranges)
        return _matrix(
            _xgboost(), self._encoder, prepared, len(frame), lambda _: None,
            threads=_threads(len(frame)),
        )  # fmt: skip

    def _asked(self, frame: pd.DataFrame, **options: bool) -> Any:
        """XGBoost's answer. Of a booster that others ask, the number of threads may not change."""
        threads = _threads(len(frame))
        with self._lock:
            if threads not in self._boosters:
                self._boosters[threads] = self._boosters[1].copy()
                self._boosters[threads].set_param({"nthread": threads})
            booster = self._boosters[threads]
        return booster.predict(self._matrix(frame), **options)


# -- how XGBoost is asked -------------------------------------------------------------------------


def _threads(records: int) -> int:
    return 1 if records <= _FEW else 0  # 0: as many as there are processors


def _xgboost() -> Any:
    return optional("xgboost", "gradient-boosting", f"engine {ENGINE}")


def _matrix(
    xgboost: Any,
    encoder: Encoder,
    columns: Columns,
    records: int,
    progress: Progress,
    targets: np.ndarray | None = None,
    threads: int = 0,
    weights: np.ndarray | None = None,
) -> Any:
    return xgboost.DMatrix(
        encoder.encode(columns, records, progress),
        label=targets,
        weight=weights,
        feature_types=encoder.feature_types,
        enable_categorical=True,
        nthread=threads,
    )


def _objective(classes: list[str] | None, chosen: dict[str, Any]) -> dict[str, Any]:
    if classes is None:
        return {"objective": chosen.get("objective", _OBJECTIVES[0])}
    if len(classes) == 2:
        return {"objective": "binary:logistic"}
    return {"objective": "multi:softprob", "num_class": len(classes)}


def _targets(truth: np.ndarray, classes: list[str] | None) -> np.ndarray:
    if classes is None:
        return truth.astype(np.float64)
    places = {name: place for place, name in enumerate(classes)}
    return np.array([places[name] for name in truth], dtype=np.float64)


def _try(xgboost: Any, settings: dict[str, Any], classes: list[str] | None) -> None:
    """One round on two made-up records, which XGBoost refuses if it refuses a setting."""
    chosen = {name: value for name, value in settings.items() if name not in _OF_THE_ROUNDS}
    with _said_by(xgboost):
        trial = xgboost.DMatrix(np.eye(2), label=[1, 2] if classes is None else [0, 1])
        xgboost.train(chosen, trial, 1)


def _boosted(xgboost: Any, settings: dict[str, Any], training: Any, tuning: Any, watch: Any) -> Any:
    """The rounds, up to the best one by the tuning records."""
    chosen = {name: value for name, value in settings.items() if name not in _OF_THE_ROUNDS}
    patience = settings["early_stopping_rounds"]
    stopping = xgboost.callback.EarlyStopping(rounds=patience, save_best=True)
    with _said_by(xgboost):
        return xgboost.train(
            chosen,
            training,
            settings["n_estimators"],
            evals=[(tuning, "tuning")],
            verbose_eval=False,
            callbacks=[stopping, watch],
        )


@contextlib.contextmanager
def _said_by(xgboost: Any) -> Iterator[None]:
    """What XGBoost itself refuses is, after our own checks, a hyperparameter's value."""
    try:
        yield
    except (xgboost.core.XGBoostError, ValueError, TypeError) as error:
        words = re.sub(r"^\w+: (\[[\d:]+\] \S+: )?", "", first_line(error))
        refuse_value(f"XGBoost says: {words}", ENGINE)


def _watch(xgboost: Any, started: float, time_limit: float | None, progress: Progress) -> Any:
    class Watch(xgboost.callback.TrainingCallback):  # type: ignore[misc] # imported late
        """Says now and then how it goes, and stops between rounds when the time is over."""

        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:  # noqa: ARG002
            if (epoch + 1) % _SHOWN_ROUNDS == 0:
                name, scores = list(evals_log["tuning"].items())[-1]
                progress(f"round {epoch + 1}, tuning {name} {scores[-1]:.4f}")
            over = time_limit is not None and time.monotonic() - started > time_limit
            if over:
                progress(f"time is over after round {epoch + 1}")
            return over

    return Watch()
