"""What is computed without scikit-learn's checks is what scikit-learn computes."""

from __future__ import annotations

import random
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mm_assets.engines.automatic.views import _plain
from mm_assets.engines.shared import quick
from mm_assets.engines.sklearn_pipeline import _transformer

WORDS = ["red", "blue", "thing", "ou", "Straße", "été", "1", "x", "other"]
NUMBERS, CATEGORIES = ["even", "skewed", "whole"], ["brand", "kind", "constant"]


def prepared(count: int, seed: int) -> pd.DataFrame:
    """Prepared records: numbers may be missing; of `brand`, some values are rare or new."""
    draw = np.random.default_rng(seed)
    choose = random.Random(seed)
    frame = pd.DataFrame(
        {
            "even": draw.normal(5, 2, count),
            "skewed": np.exp(draw.normal(0, 2, count)) * draw.choice([1.0, -0.1], count),
            "whole": draw.integers(0, 3, count).astype(float),
            "brand": [f"b{choose.randrange(8) or choose.randrange(10**9)}" for _ in range(count)],
            "kind": [choose.choice(["a", "b", "(missing)"]) for _ in range(count)],
            "constant": ["new" if seed and n % 5 == 0 else "same" for n in range(count)],
            "title": [" ".join(choose.choices(WORDS, k=choose.randrange(9))) for _ in range(count)],
        }
    )
    frame.loc[draw.random(count) < 0.2, "even"] = np.nan
    frame.loc[draw.random(count) < 0.2, "skewed"] = np.nan
    if seed:  # what was never missing in training is missing now
        frame.loc[::3, "whole"] = np.nan
    return frame


def both(fitted: Any, frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = fitted.transform(frame)
    return quick.Table(fitted).rows(quick.columns_of(frame)), theirs


@pytest.mark.parametrize("count", [1, 70])
@pytest.mark.parametrize("names", [NUMBERS, CATEGORIES, [*NUMBERS, *CATEGORIES]])
def test_a_table_for_linear_models_has_scikit_learns_numbers(names: list[str], count: int) -> None:
    numbers = [name for name in names if name in NUMBERS]
    categories = [name for name in names if name in CATEGORIES]
    training = prepared(300, 0)
    fitted = _plain(training, numbers, categories).fit(training)
    assert ("skewed" in fitted.named_transformers_) == bool(numbers)
    ours, theirs = both(fitted, prepared(count, 1))
    np.testing.assert_array_equal(ours, theirs)


def test_a_table_for_any_steps_has_scikit_learns_numbers() -> None:
    kinds = dict.fromkeys(NUMBERS, "number") | dict.fromkeys(CATEGORIES, "category")
    training = prepared(300, 0)
    fitted = _transformer({**kinds, "title": "text"}).fit(training)
    ours, theirs = both(fitted, prepared(70, 1))
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("sublinear", [False, True])
def test_words_are_counted_and_weighed_as_scikit_learn_does(sublinear: bool) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    fitted = TfidfVectorizer(min_df=2, ngram_range=(1, 2), sublinear_tf=sublinear)
    fitted.fit(prepared(200, 0)["title"])
    for texts in (prepared(60, 1)["title"].tolist(), ["", "nothing known"]):
        ours, theirs = quick.Words(fitted).rows(texts), fitted.transform(texts)
        np.testing.assert_array_equal(ours.toarray(), theirs.toarray())
    assert quick.Words(fitted).rows([]).shape == (0, len(fitted.vocabulary_))


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("classes", [2, 3, None])
def test_linear_models_answer_as_scikit_learns_do(classes: int | None, sparse: bool) -> None:
    from scipy.sparse import csr_matrix
    from sklearn.linear_model import LogisticRegression, Ridge

    draw = np.random.default_rng(0)
    matrix = draw.normal(size=(90, 40)) * (draw.random((90, 40)) < 0.3)
    given: Any = csr_matrix(matrix) if sparse else matrix
    if classes is None:
        model = Ridge().fit(given, matrix[:, 0] + draw.normal(size=90))
        asked = model.predict
    else:
        model = LogisticRegression().fit(given, np.arange(90) % classes)
        asked = model.predict_proba
    for some in (given, given[:1]):
        np.testing.assert_allclose(quick.linear_answer(model, some), asked(some), rtol=1e-13)


@pytest.mark.parametrize("exponent", [-1.7, 0.0, 0.4, 1.0, 2.0, 3.1])
def test_numbers_are_turned_and_turned_back_as_scikit_learn_does(exponent: float) -> None:
    from sklearn.preprocessing import PowerTransformer

    theirs = PowerTransformer(standardize=False)
    theirs.lambdas_, theirs.n_features_in_ = np.array([exponent]), 1
    values = np.array([-30.0, -2.0, -1e-9, 0.0, 1e-9, 0.5, 3.0, 40.0])
    turned = quick.yeo_johnson(values, exponent)
    np.testing.assert_allclose(turned, theirs.transform(values[:, None])[:, 0], rtol=1e-13)
    back = quick.yeo_johnson_inverse(turned, exponent)
    np.testing.assert_allclose(back, theirs.inverse_transform(turned[:, None])[:, 0], atol=1e-13)
    np.testing.assert_allclose(back, values, rtol=1e-6, atol=1e-9)
