"""From a task to the records that the members learn from, and the folds they are asked in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from mm_assets.engines.automatic.scales import fence
from mm_assets.engines.protocol import Task
from mm_assets.engines.shared.guards import (
    has_images,
    prepared_frame,
    value_range,
    with_known_classes,
)
from mm_assets.engines.shared.prepared import tells

Folds = list[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]


@dataclass(frozen=True)
class Records:
    """A task's records: those of training, then those of tuning.

    frame: prepared, only the columns that tell records apart (`used`); an image may be None.
    truth: [records] the places of the classes, or numbers, kept inside the fence. trusted: whether
    they lie inside it; others neither teach nor judge. weights: [records] in learning, with mean 1.
    imaged: whether a record has an image; all, where the task has no column of images. image: that
    column, if any record of training has one.
    """

    frame: pd.DataFrame
    used: dict[str, str]
    ranges: dict[str, list[float]]
    truth: npt.NDArray
    trusted: npt.NDArray[np.bool_]
    weights: npt.NDArray[np.float64]
    classes: list[str] | None
    imaged: npt.NDArray[np.bool_]
    image: str | None


def records_of(task: Task) -> Records:
    """Raises ModelError: what `with_known_classes` and `prepared_frame` raise."""
    with_known_classes(task)
    whole = pd.concat([task.training, task.tuning], ignore_index=True)
    ranges = {c: value_range(whole[c]) for c, kind in task.columns.items() if kind == "number"}
    frame = prepared_frame(whole, task.columns, ranges, image_needed=False)
    imaged = has_images(whole, task.columns)
    image = next((c for c, kind in task.columns.items() if kind == "image"), None)
    used = {
        column: kind
        for column, kind in task.columns.items()
        if (kind == "image" and imaged.any()) or (kind != "image" and tells(frame[column], kind))
    }
    labels = whole[task.label]
    if task.is_regression:
        classes = None
        numbers = labels.to_numpy(dtype=np.float64)
        truth = np.clip(numbers, *fence(numbers))
        trusted = truth == numbers
    else:
        classes = sorted(set(labels))
        truth = labels.map({name: place for place, name in enumerate(classes)}).to_numpy(np.intp)
        trusted = np.ones(len(truth), dtype=bool)
    return Records(
        frame=frame[list(used)],
        used=used,
        ranges=ranges,
        truth=truth,
        trusted=trusted,
        weights=_weights(task, labels),
        classes=classes,
        imaged=imaged,
        image=image if image in used else None,
    )


def _weights(task: Task, labels: pd.Series) -> npt.NDArray[np.float64]:
    if task.is_regression or not task.class_weights:
        return np.ones(len(labels))
    weights = labels.map(dict(task.class_weights)).fillna(1.0).to_numpy(np.float64)
    return weights / weights.mean()


def folds_of(truth: npt.NDArray, of_classes: bool, folds: int, seed: int) -> Folds:
    """Rows to learn from and rows to be asked about: every row is asked about in one fold.

    But a class of one record has that in all that is learnt from. folds: 0 for what suits.
    """
    from sklearn.model_selection import KFold, StratifiedKFold

    rows = np.arange(len(truth))
    alone = np.zeros(len(truth), dtype=bool)
    if of_classes:
        counts = np.bincount(truth)
        alone = counts[truth] < 2
    some = rows[~alone]
    number = min(folds or _suiting(len(some)), len(some))
    if of_classes:
        number = max(2, min(number, int(np.bincount(truth[some]).max(initial=2))))
        parts = StratifiedKFold(number, shuffle=True, random_state=seed)
    else:
        parts = KFold(max(2, number), shuffle=True, random_state=seed)
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a class with fewer records than folds is in some of them
        found = [(some[known], some[asked]) for known, asked in parts.split(some, truth[some])]
    return [(np.sort(np.concatenate([known, rows[alone]])), asked) for known, asked in found]


def _suiting(records: int) -> int:
    """More folds waste fewer records, and cost more: what matters when there are few."""
    return 8 if records < 500 else 5 if records < 20_000 else 3
