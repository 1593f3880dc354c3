"""Class weights: how much each record counts in learning, and probabilities without that bent.

A model that learns with weights answers for a world in which each class is as many times more
frequent as it weighs. Divided by the weights, and brought to a sum of 1 again, its probabilities
are those of the records as they come (Saerens et al. 2002, "Adjusting the outputs of a classifier
to new a priori probabilities"). So a confidence means the same with weights and without.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from mm_assets.contract.decisions import BALANCED
from mm_assets.engines.protocol import Task


def weights_for(
    given: str | Mapping[str, float] | None, labels: Iterable[str]
) -> dict[str, float] | None:
    """A weight for each class among the labels, so that they are 1 on average over the records.

    given: what the YAML says: `balanced`, or some classes' weights (the others weigh 1).
    """
    import pandas as pd

    counts = pd.Series(list(labels), dtype=object).value_counts().sort_index()
    if given is None or counts.empty:
        return None
    own = {} if given == BALANCED or isinstance(given, str) else given
    raw = {str(c): 1 / n if given == BALANCED else own.get(str(c), 1.0) for c, n in counts.items()}
    mean = sum(raw[str(name)] * n for name, n in counts.items()) / counts.sum()
    return {name: float(weight / mean) for name, weight in raw.items()}


def weights_of(labels: Iterable[str], weights: Mapping[str, float] | None) -> np.ndarray | None:
    """[records] the weight of each, by its label; a class without a weight counts 1."""
    if weights is None:
        return None
    return np.array([weights.get(label, 1.0) for label in labels], dtype=np.float64)


def unweighted(
    values: np.ndarray, classes: list[str] | None, weights: Mapping[str, float] | None
) -> np.ndarray:
    """[records, classes] probabilities of a model that learnt with weights, as they are without."""
    if weights is None or classes is None:
        return values
    shares = values / np.array([weights.get(name, 1.0) for name in classes])
    total = shares.sum(axis=1, keepdims=True)
    return shares / np.where(total > 0, total, 1.0)


def repeated(task: Task) -> Task:
    """The task with records repeated as often as they weigh, for a library that takes no weights.

    The lightest class stands once. What is left of a weight is that share of the class's records
    once more, evenly over them.
    """
    if task.class_weights is None or task.is_regression:
        return task
    frames = []
    for frame in (task.training, task.tuning):
        weights = weights_of(frame[task.label], task.class_weights)
        assert weights is not None  # noqa: S101
        times = weights / min(task.class_weights.values())
        frames.append(frame.iloc[_places(times, frame[task.label].to_numpy())])
    return replace(task, training=frames[0], tuning=frames[1], groups=None)


def _places(times: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Each place as often as it is to stand; fractions add up over the records of a class."""
    whole = np.zeros(len(times), dtype=np.intp)
    for label in set(labels):
        there = np.flatnonzero(labels == label)
        ends = np.arange(len(there) + 1) * times[there[0]]
        whole[there] = np.diff(np.floor(ends + 1e-9)).astype(np.intp)
    return np.repeat(np.arange(len(times)), whole)
