"""What the engines that read a table share: records to learn from, hyperparameters, engine.json.

The checks themselves are in guards.py. Nothing here knows of one particular engine.
"""

from __future__ import annotations

import contextlib
import difflib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from mm_assets.errors import ModelError
from mm_assets.models.guards import (
    REGRESSION,
    has_pictures,
    prepared_frame,
    refuse,
    value_range,
    varies,
    with_known_classes,
)

ENGINE_FILE = "engine.json"
RARE = 2  # a category seen less often than this in training tells nothing


@dataclass(frozen=True)
class Lesson:
    """Records that something can be learnt from, as `prepared_frame` makes them.

    used: the columns that tell records apart, and their kinds; the frames have no others. truth:
    [records] str, or float for regression. classes: sorted, None for regression.
    """

    training: pd.DataFrame
    tuning: pd.DataFrame
    training_truth: np.ndarray
    tuning_truth: np.ndarray
    used: dict[str, str]
    ranges: dict[str, list[float]]
    classes: list[str] | None


def lesson(
    training: pd.DataFrame,
    tuning: pd.DataFrame,
    columns: dict[str, str],
    label: str,
    problem_type: str,
    *,
    sees_pictures: bool,
) -> Lesson:
    """What is left once records without picture, and columns that tell nothing, are left out.

    sees_pictures: whether the engine looks at the column of kind "image" itself.
    Raises ModelError: records_missing, classes_differ, label_missing, number_not_finite,
    image_missing, nothing_to_learn_from.
    """
    training, tuning, classes = labelled(training, tuning, columns, label, problem_type)
    ranges = {c: value_range(training[c]) for c, kind in columns.items() if kind == "number"}
    frames = [prepared_frame(part, columns, ranges) for part in (training, tuning)]
    used = {c: k for c, k in columns.items() if _tells(frames[0][c], k, sees_pictures)}
    if not used:
        refuse_to_learn()
    return Lesson(
        frames[0][list(used)], frames[1][list(used)],
        training[label].to_numpy(), tuning[label].to_numpy(),
        used, ranges, classes,
    )  # fmt: skip


def labelled(
    training: pd.DataFrame,
    tuning: pd.DataFrame,
    columns: dict[str, str],
    label: str,
    problem_type: str,
) -> tuple[pd.DataFrame, pd.DataFrame, list[str] | None]:
    """The records with every picture they should have, and their classes in order."""
    training, tuning = (part[has_pictures(part, columns)] for part in (training, tuning))
    training, tuning = with_known_classes(training, tuning, label, problem_type)
    classes = None if problem_type == REGRESSION else sorted(set(training[label]))
    return training, tuning, classes


def _tells(values: pd.Series, kind: str, sees_pictures: bool) -> bool:
    if kind == "image" and not sees_pictures:
        return False
    if kind == "text" and not values.str.contains(r"\w").any():
        return False
    return varies(values, kind, RARE)


def refuse_to_learn() -> NoReturn:
    """For records in which nothing that an engine looks at differs."""
    refuse(
        "nothing_to_learn_from",
        "every column that the engine sees has the same value, or only rare ones, in all records",
        "Add columns that differ between records, or more records. Of a picture this engine sees "
        "the `image_features`, and what its own hyperparameters say.",
    )


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a sentence: what was probably meant, or all that is known."""
    names = sorted(map(str, known))
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"the nearest known one is {close[0]!r}"
    return f"known are {', '.join(names)}" if names else "there are none"


def refuse_hyperparameter(name: str, known: Iterable[str], engine: str) -> NoReturn:
    """Raises ModelError(hyperparameter_unknown)."""
    refuse(
        "hyperparameter_unknown",
        f"the engine {engine} has no hyperparameter {name!r}; {nearest(name, known)}",
        "Correct its name under `hyperparameters` or `search` in the dataset's YAML.",
        f"the engine {engine}",
    )


def refuse_value(what: str, engine: str) -> NoReturn:
    """Raises ModelError(hyperparameter_invalid)."""
    refuse(
        "hyperparameter_invalid",
        what,
        "Correct it under `hyperparameters` or `search` in the dataset's YAML.",
        f"the engine {engine}",
    )


def first_line(error: BaseException) -> str:
    """What an exception of a library says, in one line."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no reason given'])[0]}"


def write_record(directory: Path, record: dict[str, Any]) -> None:
    """Write engine.json, which `read_record` gives back."""
    text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False)
    (directory / ENGINE_FILE).write_text(text, encoding="utf-8")


def read_record(directory: Path, engine: str, form: int) -> dict[str, Any]:
    """engine.json, if this engine wrote it in this form; else ValueError."""
    record = json.loads((directory / ENGINE_FILE).read_text(encoding="utf-8"))
    if (record["engine"], record["format"]) != (engine, form):
        raise ValueError(f"it is a model of {record['engine']}, format {record['format']}")
    return record


@contextlib.contextmanager
def reading(directory: Path) -> Iterator[None]:
    """Whatever goes wrong inside becomes ModelError(model_unreadable), except what misses words."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            code="model_unreadable",
            what=f"the model can't be loaded: {first_line(error)}",
            where=str(directory),
            todo="Load it with the versions it was trained with, or train anew.",
        ) from error
