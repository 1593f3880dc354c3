"""One answer of several predictors: how much each counts, and how sure the whole may be.

Outputs are [records, classes] log probabilities, or [records, 1] values for regression.
"""

from __future__ import annotations

import numpy as np


def combined(
    outputs: list[np.ndarray], weights: list[float], classes: list[str] | None
) -> np.ndarray:
    """Probabilities (a logarithmic opinion pool) or values, as the weights have it."""
    total = np.einsum("m,mrc->rc", weights, np.stack(outputs))
    if classes is None:
        return total
    odds = np.exp(total - np.max(total, axis=1, keepdims=True)) if len(total) else total
    return odds / odds.sum(axis=1, keepdims=True)


def _loss(values: np.ndarray, truth: np.ndarray, classes: list[str] | None) -> float:
    """The mean log loss, or for regression the mean squared error."""
    if classes is None:
        return float(np.mean((values[:, 0] - truth) ** 2))
    right = values[np.arange(len(truth)), [classes.index(name) for name in truth]]
    return float(-np.mean(np.log(np.maximum(right, 1e-12))))


def shares_of(
    outputs: list[np.ndarray], truth: np.ndarray, classes: list[str] | None
) -> list[float]:
    """How much each of one or two predictors counts: the shares that fit the tuning records best.

    They add up to 1: weights that are free one by one fit the few tuning records better, and make
    the model too sure.
    """
    if len(outputs) == 1:
        return [1.0]
    from scipy.optimize import minimize_scalar

    def loss(share: float) -> float:  # convex in the share, for both kinds of problem
        return _loss(combined(outputs, [share, 1 - share], classes), truth, classes)

    share = float(minimize_scalar(loss, bounds=(0, 1), method="bounded").x)
    return [share, 1 - share]


def as_sure_as_right(
    outputs: list[np.ndarray], weights: list[float], truth: np.ndarray, classes: list[str] | None
) -> list[float]:
    """The weights times one factor, so that the model is as sure as the tuning records are right.

    This is temperature scaling (Guo et al. 2017, "On Calibration of Modern Neural Networks"), the
    factor being the inverse temperature. Label smoothing and shares that add up to 1 leave a model
    less sure than it could be. The factor's logarithm is drawn to 0 as by a normal prior of
    standard deviation 0.7: a few records that are all right must not make the model certain. Which
    class is the most probable does not change.
    """
    if classes is None:
        return weights
    from scipy.optimize import minimize_scalar

    def loss(logarithm: float) -> float:
        scaled = [weight * float(np.exp(logarithm)) for weight in weights]
        fit = _loss(combined(outputs, scaled, classes), truth, classes)
        return len(truth) * fit + logarithm**2

    factor = float(np.exp(minimize_scalar(loss, bounds=(-2.1, 2.1), method="bounded").x))
    return [weight * factor for weight in weights]
