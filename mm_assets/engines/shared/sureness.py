"""Probabilities to a power: above 1 a model is surer than before, below 1 less sure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

SMALLEST = 1e-7  # probability; none is ever certain


def as_sure(values: Floats, power: float) -> Floats:
    """[records, classes] to the power, adding up to 1; what is the most probable does not change.

    `power` is the inverse temperature of Guo et al. 2017.
    """
    logarithms = power * np.log(np.maximum(values, SMALLEST))
    odds = np.exp(logarithms - logarithms.max(axis=1, keepdims=True))
    total: Floats = odds / odds.sum(axis=1, keepdims=True)
    return total
