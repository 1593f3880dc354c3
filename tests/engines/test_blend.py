"""How predictors are blended, and how sure their blend may be."""

from __future__ import annotations

import numpy as np
import pytest

from mm_assets.engines.autogluon.blend import as_sure_as_right, combined, shares_of

CLASSES = ["cat", "dog"]


def told(right: float, sure: float, n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Log probabilities of a predictor that is right so often and says it is so sure; the truth."""
    chance = np.random.default_rng(seed)
    truth = chance.integers(0, 2, n)
    said = np.where(chance.random(n) < right, truth, 1 - truth)
    odds = np.log(np.where(np.arange(2) == said[:, None], sure, 1 - sure))
    return odds, np.array(CLASSES)[truth]


@pytest.mark.parametrize("right", [0.7, 0.9])
@pytest.mark.parametrize("sure", [0.55, 0.7, 0.9, 0.99])
def test_with_many_records_the_blend_is_as_sure_as_it_is_right(right: float, sure: float) -> None:
    outputs, truth = told(right, sure, 5000)
    weights = as_sure_as_right([outputs], [1.0], truth, CLASSES)
    values = combined([outputs], weights, CLASSES)
    reached = np.exp(2.1) * np.log(sure / (1 - sure)) >= np.log(right / (1 - right))
    if reached:  # the factor has bounds
        assert values.max(axis=1).mean() == pytest.approx(right, abs=0.02)
    assert (values.argmax(axis=1) == outputs.argmax(axis=1)).all()


def test_a_few_records_that_are_all_right_do_not_make_the_model_certain() -> None:
    outputs, truth = told(1.0, 0.7, 10)
    [weight] = as_sure_as_right([outputs], [1.0], truth, CLASSES)
    assert 1 < weight < 4
    assert combined([outputs], [weight], CLASSES).max() < 0.97


def test_a_model_that_is_too_sure_becomes_less_so() -> None:
    outputs, truth = told(0.6, 0.99, 200)
    [weight] = as_sure_as_right([outputs], [1.0], truth, CLASSES)
    assert weight < 0.3


def test_shares_of_two_predictors_keep_their_proportion() -> None:
    good, truth = told(0.9, 0.8, 500)
    useless = np.log(np.full((500, 2), 0.5))
    shares = shares_of([good, useless], truth, CLASSES)
    assert sum(shares) == pytest.approx(1)
    weights = as_sure_as_right([good, useless], shares, truth, CLASSES)
    assert weights[0] / sum(weights) == pytest.approx(shares[0])


def test_numbers_are_blended_and_left_as_they_are() -> None:
    chance = np.random.default_rng(1)
    truth = chance.normal(size=400)
    outputs = [(truth + chance.normal(scale=s, size=400))[:, None] for s in (0.1, 1.0)]
    shares = shares_of(outputs, truth, None)
    assert shares[0] > 0.9
    assert as_sure_as_right(outputs, shares, truth, None) == shares
