"""Guards around what engines do silently: what a frame must be before a model may see it.

AutoGluon replaces a missing image by a black one, renames columns by position, takes NaN for 0
and infinity for a huge number; others have ways of their own. Each of these is refused, or
decided, here, alike for every engine.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from mm_assets.engines.protocol import Task
from mm_assets.engines.shared.refusals import refuse
from mm_assets.engines.shared.several import are_images

MISSING_CATEGORY = "(missing)"
REGRESSION = "regression"
PROBLEM_TYPES = ("binary", "multiclass", REGRESSION)
RARE = 3  # a category seen less often than this in training is treated as an unknown one
LARGEST = 3e37  # what is learnt of larger numbers: three times as much still fits into a float32


def with_known_classes(task: Task) -> Task:
    """The task, once it is certain that a model can come of it.

    Engines take the classes from the training records alone, and stumble over others: records
    whose class only the tuning records know move to the training records.
    """
    training, tuning, problem_type = task.training, task.tuning, task.problem_type
    if problem_type not in PROBLEM_TYPES:
        refuse("problem_type_unknown", f"{problem_type!r}", f"Use one of {PROBLEM_TYPES}.")
    if training.empty or tuning.empty:
        refuse(
            "records_missing",
            f"{len(training)} records to train on and {len(tuning)} to tune on are too few",
            "Upload more labelled records.",
        )
    labels = pd.concat([training[task.label], tuning[task.label]])
    if labels.isna().any() or (task.is_regression and np.isinf(labels).any()):
        refuse("label_missing", "a record has no usable label", "Leave such records out.")
    if task.is_regression:
        return task
    if labels.nunique() < 2 or (problem_type == "binary" and labels.nunique() > 2):
        refuse(
            "classes_differ",
            f"a {problem_type} problem can't have the classes {sorted(set(labels))}",
            "Check the label column and the problem type, or upload records of other classes.",
        )
    unknown = ~tuning[task.label].isin(set(training[task.label]))
    if unknown.all():
        refuse(
            "records_missing",
            "no record to tune on has a class of the records to train on",
            "Upload more labelled records of every class.",
        )
    return replace(
        task,
        training=pd.concat([training, tuning[unknown]]),
        tuning=tuning[~unknown],
        groups=None,  # the records are others now
    )


def check_columns(frame: pd.DataFrame, columns: dict[str, str]) -> None:
    """AutoGluon would rename columns by their position, with a warning at most."""
    if list(frame.columns) == list(columns):  # nearly always, and it takes no time to see
        return
    missing, extra = columns.keys() - set(frame.columns), set(frame.columns) - columns.keys()
    twice = set(frame.columns[frame.columns.duplicated()])
    if missing or extra or twice:
        refuse(
            "model_columns_differ",
            f"the model was trained on other columns: missing {sorted(missing)}, "
            f"unknown {sorted(map(str, extra))}, twice {sorted(map(str, twice))}",
            "Give it exactly the feature columns of its training.",
        )


def has_images(frame: pd.DataFrame, columns: dict[str, str]) -> np.ndarray:
    """Which records have an image in every image column; all, where there is none."""
    images = [column for column, kind in columns.items() if kind == "image"]
    return frame[images].notna().all(axis=1).to_numpy()


def prepared_frame(
    frame: pd.DataFrame,
    columns: dict[str, str],
    ranges: dict[str, list[float]],
    *,
    image_needed: bool = True,
) -> pd.DataFrame:
    """A new frame of `prepared_columns`, under the index of `frame`."""
    prepared = prepared_columns(frame, columns, ranges, image_needed=image_needed)
    return pd.DataFrame(prepared, index=frame.index)


def prepared_columns(
    frame: pd.DataFrame,
    columns: dict[str, str],
    ranges: dict[str, list[float]],
    *,
    image_needed: bool = True,
) -> dict[str, np.ndarray]:
    """What an engine gets of a frame: checked, in the order of `columns`, only numbers missing.

    Numbers are float64, all else objects. Only while training may images be missing, and are None
    then.
    """
    prepared: dict[str, np.ndarray] = {}
    for column, kind in columns.items():
        values = frame[column]
        if kind == "number":
            low, high = ranges[column]
            prepared[column] = finite_numbers(values, column).clip(low, high)
            continue
        there = values.to_numpy(dtype=object)
        if kind == "image":
            check_images(there if image_needed else there[pd.notna(there)], column)
            prepared[column] = there
        else:
            filler = MISSING_CATEGORY if kind == "category" else ""
            gone = pd.isna(there)
            texts = [
                filler if missing else str(value)
                for value, missing in zip(there, gone, strict=True)
            ]
            prepared[column] = np.array(texts, dtype=object)
    return prepared


def finite_numbers(values: pd.Series, column: str) -> np.ndarray:
    """[records] float64, NaN for missing."""
    numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    if np.isinf(numbers).any():
        refuse(
            "number_not_finite",
            f"column {column!r} holds an infinite number",
            "Use finite numbers, or leave the value missing.",
        )
    return numbers


def check_images(values: Iterable[Any], column: str) -> None:
    """AutoGluon would see a black image, and predict from it."""
    without = sum(not are_images(value) for value in values)
    if without:
        refuse(
            "image_missing",
            f"{without} records have no image in column {column!r}",
            "Ask the model without images for records that have none.",
        )


def value_range(values: pd.Series) -> list[float]:
    """Numbers are clipped to the range of training, widened by itself on either side.

    A network says nothing sensible far outside it, and 1e300 would overflow to NaN.
    """
    known = values.to_numpy(dtype=np.float64, na_value=np.nan)
    known = np.clip(known[np.isfinite(known)], -LARGEST, LARGEST)
    low, high = (known.min(), known.max()) if len(known) else (0.0, 0.0)
    return [float(2 * low - high), float(2 * high - low)]


def varies(values: pd.Series, kind: str, rare: int = RARE) -> bool:
    """Whether a prepared column tells records apart, where rarer categories count as one."""
    counts = values.value_counts(dropna=False)
    if kind == "category":
        common = int((counts >= rare).sum())
        return common + int(common < len(counts)) > 1
    return len(counts) > 1
