"""The rivals: what a person writes in minutes with scikit-learn, and our engines.

The former learn from all records that they are given, with plain defaults, and take the
logarithm of a skewed positive label, without those a hundred times the median, as anyone does who
looks at a histogram. Ours are asked by name through `make_engine`, with a fifth of those records to
tune on. All see images through the same kept vectors, so seconds do not hold the first look at one.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.quality.sets import LABEL, DataSet
from benchmarks.quality.vectors import KeptVectors
from mm_assets.contract.dataset import IMAGE
from mm_assets.contract.engine_spec import EngineSpec
from mm_assets.doubt.confidence import VALUE
from mm_assets.engines.make import make_engine
from mm_assets.engines.protocol import Task
from mm_assets.engines.shared.backbones import EMBEDDED, pixels
from mm_assets.engines.shared.eyes import Eyes

PIXELS = 16  # the side to which boosting sees images
WORDS = 200  # the commonest ones, which boosting sees
ABSURD = 100  # times the median: a skewed label that nobody would believe
SKEWED = 1.0  # from this skewness on a positive label is learnt as its logarithm


@dataclass(frozen=True)
class Answer:
    """What a rival said of the held-out records, as a predictor's answer, and how long it took."""

    predicted: pd.DataFrame
    train_seconds: float
    predict_seconds: float


# A rival: the set, its training records, the held-out ones' features, seed, minutes to an answer.
Rival = Callable[[DataSet, pd.DataFrame, pd.DataFrame, int, float], Answer]


def every_rival() -> dict[str, Rival]:
    """By name, the quick ones first; `automatic` is ours to be judged."""
    return {
        "guess": _plain(_guess),
        "boosting_table": _plain(_boosting, sees_images=False),
        "linear_table": _plain(_linear, sees_images=False),
        "boosting": _plain(_boosting),
        "linear": _plain(_linear),
        "autogluon": _engine("autogluon"),
        "automatic": _engine("automatic"),
    }


# -- ours -----------------------------------------------------------------------------------------


def _engine(name: str) -> Rival:
    def ask(
        chosen: DataSet, training: pd.DataFrame, held_out: pd.DataFrame, seed: int, minutes: float
    ) -> Answer:
        learn, tune = parted(training, chosen, 0.2, seed)
        task = Task(learn, tune, chosen.columns, LABEL, chosen.problem_type)
        spec = EngineSpec(engine=name, seed=seed, time_limit_seconds=minutes * 60)
        engine = make_engine(spec, vectors=KeptVectors())
        with tempfile.TemporaryDirectory(prefix="mm-quality-") as folder:
            began = time.monotonic()
            engine.train(task, Path(folder), lambda _: None)
            trained = time.monotonic()
            predictor = engine.load(Path(folder))
            loaded = time.monotonic()
            predicted = predictor.predict(held_out)
            return Answer(predicted, trained - began, time.monotonic() - loaded)

    return ask


def parted(
    records: pd.DataFrame, chosen: DataSet, share: float, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All but a share of the records, and that share; with the same classes in both."""
    from sklearn.model_selection import train_test_split

    classes = None if chosen.is_regression else records[LABEL]
    kept, aside = train_test_split(
        records, test_size=share, random_state=seed, stratify=classes, shuffle=True
    )
    return kept, aside


# -- what a person writes in minutes --------------------------------------------------------------

# Makes an estimator of scikit-learn for these columns.
Recipe = Callable[[DataSet, int], Any]


def _plain(recipe: Recipe, *, sees_images: bool = True) -> Rival:
    """Without images, what knows no column at all can only guess."""

    def ask(
        chosen: DataSet, training: pd.DataFrame, held_out: pd.DataFrame, seed: int, minutes: float
    ) -> Answer:
        del minutes  # none of them takes long
        if not sees_images:
            kept = {column: kind for column, kind in chosen.columns.items() if kind != IMAGE}
            chosen = replace(chosen, columns=kept)
        began = time.monotonic()
        model = (recipe if chosen.columns else _guess)(chosen, seed)
        if chosen.is_regression and is_skewed(training[LABEL].to_numpy()):
            model = _of_logarithm(model)
            training = training[training[LABEL] < ABSURD * training[LABEL].median()]
        features = list(chosen.columns)
        model.fit(training[features], training[LABEL].to_numpy())
        trained = time.monotonic()
        if chosen.is_regression:
            said = pd.DataFrame({VALUE: model.predict(held_out[features])})
        else:
            said = pd.DataFrame(model.predict_proba(held_out[features]), columns=model.classes_)
        said.index = held_out.index
        return Answer(said, trained - began, time.monotonic() - trained)

    return ask


def is_skewed(values: np.ndarray) -> bool:
    """Whether all are above 0 and far more lie a little above it than far above it."""
    from scipy.stats import skew

    return bool((values > 0).all() and skew(values) > SKEWED)


def _of_logarithm(model: Any) -> Any:
    from sklearn.compose import TransformedTargetRegressor

    return TransformedTargetRegressor(model, func=np.log, inverse_func=np.exp)


def _guess(chosen: DataSet, seed: int) -> Any:
    from sklearn.dummy import DummyClassifier, DummyRegressor

    del seed
    return DummyRegressor() if chosen.is_regression else DummyClassifier(strategy="prior")


def _of_kind(chosen: DataSet, kind: str) -> list[str]:
    return [column for column, one in chosen.columns.items() if one == kind]


def _boosting(chosen: DataSet, seed: int) -> Any:
    """Histogram boosting on numbers, ordinal categories, the commonest words, 16 x 16 pixels."""
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, OrdinalEncoder

    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    words = make_pipeline(
        FunctionTransformer(_texts), CountVectorizer(max_features=WORDS), FunctionTransformer(_full)
    )
    columns = make_column_transformer(
        ("passthrough", _of_kind(chosen, "number")),
        (codes, _of_kind(chosen, "category")),
        *((words, [column]) for column in _of_kind(chosen, "text")),
        (FunctionTransformer(_pixels), _of_kind(chosen, IMAGE)),
    )
    learner = HistGradientBoostingRegressor if chosen.is_regression else (
        HistGradientBoostingClassifier)  # fmt: skip
    return make_pipeline(columns, learner(random_state=seed))


def _linear(chosen: DataSet, seed: int) -> Any:
    """Ridge or logistic regression on scaled numbers, one-hot, tf-idf and ImageNet features."""
    from sklearn.compose import make_column_transformer
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegressionCV, RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    words = make_pipeline(FunctionTransformer(_texts), TfidfVectorizer())
    columns = make_column_transformer(
        (numbers, _of_kind(chosen, "number")),
        (OneHotEncoder(handle_unknown="ignore"), _of_kind(chosen, "category")),
        *((words, [column]) for column in _of_kind(chosen, "text")),
        (make_pipeline(FunctionTransformer(_seen), StandardScaler()), _of_kind(chosen, IMAGE)),
    )
    if chosen.is_regression:
        return make_pipeline(columns, RidgeCV(np.logspace(-2, 5, 15)))
    learner = LogisticRegressionCV(
        Cs=np.logspace(-3, 1, 5), cv=3, scoring="neg_log_loss", tol=1e-3, random_state=seed,
        l1_ratios=(0,), use_legacy_attributes=False,
    )  # fmt: skip
    return make_pipeline(columns, learner)


def _texts(frame: pd.DataFrame) -> list[str]:
    return [text if isinstance(text, str) else "" for text in frame.iloc[:, 0]]


def _full(matrix: Any) -> Any:
    return matrix.toarray()


def _pixels(frame: pd.DataFrame) -> np.ndarray:
    """[records, 16 * 16 * 3]; a grey image's three channels are one."""
    values = np.stack([pixels(data, (PIXELS, PIXELS)) for data in frame.iloc[:, 0]])
    if (values == values[..., :1]).all():
        values = values[..., :1]
    return values.reshape(len(values), -1)


def _seen(frame: pd.DataFrame) -> np.ndarray:
    """[records, 1280]: what EfficientNet-Lite0, trained on ImageNet, makes of the images."""
    return Eyes(EMBEDDED, KeptVectors()).embed(frame.iloc[:, 0].tolist())
