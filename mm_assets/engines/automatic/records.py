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
from mm_assets.engines.shared.refusals import refuse

FEW_GROUPS = 1_000
Folds = list[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]


@dataclass(frozen=True)
class Records:
    """A task's records: those of training, then those of tuning.

    frame: prepared, only the columns that tell records apart (`used`); an image may be None.
    truth: [records] the places of the classes, or numbers, kept inside the fence. trusted: whether
    they lie inside it; others neither teach nor judge. weights: [records] in learning, with mean 1.
    imaged: whether a record has an image; all, where the task has no column of images. image: that
    column, if any record of training has one. groups: [records] the number of each one's group.
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
    groups: npt.NDArray[np.intp]

    @property
    def has_tuples(self) -> bool:
        """Whether records have all their images in one cell."""
        return self.image is not None and any(
            isinstance(cell, tuple) for cell in self.frame[self.image]
        )


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
        groups=_groups(task, len(whole)),
    )


def _groups(task: Task, records: int) -> npt.NDArray[np.intp]:
    if task.groups is None:
        return np.arange(records)
    return pd.factorize(np.array(task.groups, dtype=object))[0]


def _weights(task: Task, labels: pd.Series) -> npt.NDArray[np.float64]:
    if task.is_regression or not task.class_weights:
        return np.ones(len(labels))
    weights = labels.map(dict(task.class_weights)).fillna(1.0).to_numpy(np.float64)
    return weights / weights.mean()


def folds_of(
    truth: npt.NDArray,
    of_classes: bool,
    folds: int,
    seed: int,
    groups: npt.NDArray[np.intp] | None = None,
) -> Folds:
    """Rows to learn from and rows to be asked about: every row is asked about in one fold.

    But a class of one record, or of one group, is in all that is learnt from. folds: 0 for what
    suits. groups: of each row; none is on both sides of a fold. Raises ModelError (too_few_groups).
    """
    from sklearn.model_selection import KFold, StratifiedKFold

    rows = np.arange(len(truth))
    if groups is not None and len(np.unique(groups)) < len(rows):
        return _folds_of_groups(truth, of_classes, folds, seed, groups)
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


def _folds_of_groups(
    truth: npt.NDArray, of_classes: bool, folds: int, seed: int, groups: npt.NDArray[np.intp]
) -> Folds:
    """The same where groups stay whole; a fold in which nothing could be told apart is left out."""
    rows = np.arange(len(truth))
    alone = np.zeros(len(truth), dtype=bool)
    if of_classes:
        pairs = np.unique(np.stack([truth, groups], axis=1), axis=0)
        alone = np.bincount(pairs[:, 0], minlength=truth.max() + 1)[truth] < 2
    some = rows[~alone]
    there = len(np.unique(groups[some]))
    number = min(folds or _suiting(len(some)), there)
    found = []
    if number >= 2:
        parts = _divided(truth[some], of_classes, number, seed, groups[some])
        found = [
            (known, some[asked])
            for others, asked in parts
            if len(asked) and len(known := np.sort(np.concatenate([some[others], rows[alone]])))
            if not of_classes or len(np.unique(truth[known])) > 1
        ]
    if not found:
        refuse(
            "too_few_groups",
            f"the {len(truth)} records to learn from are {len(np.unique(groups))} groups that stay "
            "together, too few to ask some about what was learnt from others",
            "Send labelled records of other groups, or take `group_column` out of the YAML.",
        )
    return found


def _divided(
    truth: npt.NDArray, of_classes: bool, number: int, seed: int, groups: npt.NDArray[np.intp]
) -> Folds:
    import warnings

    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, StratifiedKFold

    rows = np.arange(len(truth))
    if not of_classes:
        parts = GroupKFold(number, shuffle=True, random_state=seed)
        return list(parts.split(rows, truth, groups))
    counts = np.bincount(truth)
    number = max(2, min(number, int(counts.max())))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a class in fewer groups than folds is in some of them
        if len(np.unique(groups)) <= FEW_GROUPS:
            balanced = StratifiedGroupKFold(number, shuffle=True, random_state=seed)
            return list(balanced.split(rows, truth, groups))
        # That takes seconds for many groups; of so many, their sizes make no difference. A group
        # stands for the rarest of its classes.
        by_rarity = np.lexsort((counts[truth], groups))
        names, first, group = np.unique(groups[by_rarity], return_index=True, return_inverse=True)
        of_row = np.empty(len(rows), dtype=np.intp)
        of_row[by_rarity] = group
        number = max(2, min(number, int(np.bincount(truth[by_rarity][first]).max())))
        fold = np.empty(len(names), dtype=np.intp)
        parts = StratifiedKFold(number, shuffle=True, random_state=seed)
        for place, (_, asked) in enumerate(parts.split(names, truth[by_rarity][first])):
            fold[asked] = place
    return [(rows[fold[of_row] != k], rows[fold[of_row] == k]) for k in range(number)]


def _suiting(records: int) -> int:
    """More folds waste fewer records, and cost more: what matters when there are few."""
    return 8 if records < 500 else 5 if records < 20_000 else 3
