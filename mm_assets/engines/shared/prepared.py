"""From a task to records that something can be learnt from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from mm_assets.engines.protocol import Task
from mm_assets.engines.shared.guards import (
    has_images,
    prepared_frame,
    value_range,
    varies,
    with_known_classes,
)
from mm_assets.engines.shared.refusals import refuse_to_learn

RARE = 2  # a category or word seen less often than this in training tells nothing


@dataclass(frozen=True)
class Prepared:
    """A task's records as `prepared_frame` makes them.

    used: the columns that tell records apart, and their kinds; the frames have no others. truth:
    [records] str, or float for regression. ranges: of every column of numbers. classes: sorted,
    None for regression.
    """

    training: pd.DataFrame
    tuning: pd.DataFrame
    training_truth: np.ndarray
    tuning_truth: np.ndarray
    used: dict[str, str]
    ranges: dict[str, list[float]]
    classes: list[str] | None


def prepare(task: Task, *, sees_images: bool) -> Prepared:
    """What is left once records without image, and columns that tell nothing, are left out.

    sees_images: whether the engine looks at the column of kind "image" itself.
    Raises ModelError: records_missing, classes_differ, label_missing, number_not_finite,
    image_missing, nothing_to_learn_from.
    """
    task = with_known_classes(with_images(task))
    ranges = ranges_of(task)
    training, tuning = (
        prepared_frame(f, task.columns, ranges) for f in (task.training, task.tuning)
    )
    used = {c: k for c, k in task.columns.items() if tells(training[c], k, sees_images)}
    if not used:
        refuse_to_learn()
    return Prepared(
        training[list(used)], tuning[list(used)],
        task.training[task.label].to_numpy(), task.tuning[task.label].to_numpy(),
        used, ranges, classes_of(task),
    )  # fmt: skip


def with_images(task: Task) -> Task:
    """The task without records that lack an image; all of it, where no column is of images."""
    training, tuning = (f[has_images(f, task.columns)] for f in (task.training, task.tuning))
    return replace(task, training=training, tuning=tuning, groups=None)


def classes_of(task: Task) -> list[str] | None:
    """The classes of the training records in order; None for regression."""
    return None if task.is_regression else sorted(set(task.training[task.label]))


def ranges_of(task: Task) -> dict[str, list[float]]:
    """The range of each column of numbers, as `value_range` has it."""
    numbers = [column for column, kind in task.columns.items() if kind == "number"]
    return {column: value_range(task.training[column]) for column in numbers}


def tells(values: pd.Series, kind: str, sees_images: bool = False) -> bool:
    """Whether a prepared column tells records apart."""
    if kind == "image" and not sees_images:
        return False
    if kind == "text" and not values.str.contains(r"\w").any():
        return False
    return varies(values, kind, RARE)
