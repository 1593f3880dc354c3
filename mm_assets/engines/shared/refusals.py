"""How an engine says no: to records, to hyperparameters, to values."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import NoReturn

from mm_assets.contract.errors import ModelError


def refuse(code: str, what: str, todo: str, where: str = "the model") -> NoReturn:
    """Raise ModelError. where: the engine or the part of the YAML, if it is known."""
    raise ModelError(code=code, what=what, where=where, todo=todo)


def refuse_to_learn() -> NoReturn:
    """For records in which nothing that an engine looks at differs."""
    refuse(
        "nothing_to_learn_from",
        "every column that the engine sees has the same value, or only rare ones, in all records",
        "Add columns that differ between records, or more records. Of an image, an engine that "
        "does not look at it sees only the `image_features`; `image_backbone: embedded` lets "
        "gradient_boosting look.",
    )


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


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a sentence: what was probably meant, or all that is known."""
    names = sorted(map(str, known))
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"the nearest known one is {close[0]!r}"
    return f"known are {', '.join(names)}" if names else "there are none"


def first_line(error: BaseException) -> str:
    """What an exception of a library says, in one line."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no reason given'])[0]}"
