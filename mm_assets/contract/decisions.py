"""What a YAML says of decisions: what an error costs, what to decide for, how much classes count.

Fields of `DatasetSpec` (dataset.py). How a decision is learnt and made: training/decision.py.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

Metric = Literal[
    "accuracy", "balanced_accuracy", "macro_f1", "f1", "roc_auc", "average_precision", "log_loss",
    "expected_cost", "mean_absolute_error", "root_mean_squared_error",
]  # fmt: skip
OF_REGRESSION = ("mean_absolute_error", "root_mean_squared_error")
WITHOUT_UPPER_BOUND = ("expected_cost", *OF_REGRESSION)  # in a unit of the user's
LOWER_IS_BETTER = ("log_loss", *WITHOUT_UPPER_BOUND)
OF_THE_POSITIVE_CLASS = ("f1", "average_precision")

DECIDED_FOR = ("accuracy", "balanced_accuracy", "macro_f1", "f1")
DEMANDED = ("recall", "precision")
BALANCED = "balanced"


def _costs(value: Any) -> Any:
    if not isinstance(value, dict) or not value:
        raise ValueError("write true class, predicted class, cost: `ill: {well: 20}`")
    for true, row in value.items():
        if not isinstance(row, dict) or not row:
            raise ValueError(f"write what it costs to say otherwise: `{true}: {{other: 20}}`")
        for said, cost in row.items():
            _check_class(true, "costs")
            _check_class(said, "costs")
            if true == said:
                raise ValueError(f"'{true}' for '{true}' is no error: take it out")
            if not _is_number(cost) or cost < 0:
                raise ValueError(f"'{true}' taken for '{said}' costs {cost!r}: write a number")
    return value


def _decide_for(value: Any) -> Any:
    if value is None or value in DECIDED_FOR:
        return value
    if isinstance(value, dict) and len(value) == 1:
        [(name, least)] = value.items()
        if name in DEMANDED and _is_number(least) and 0 < least <= 1:
            return value
    raise ValueError(
        f"write one of {', '.join(DECIDED_FOR)}, or the least that is demanded of the positive "
        "class: {recall: 0.95} or {precision: 0.9}"
    )


def _class_weights(value: Any) -> Any:
    if value is None or value == BALANCED:
        return value
    if not isinstance(value, dict) or not value:
        raise ValueError("write `balanced`, or a class and its weight: `{ill: 20}`")
    for name, weight in value.items():
        _check_class(name, "class_weights")
        if not _is_number(weight) or weight <= 0:
            raise ValueError(f"'{name}' weighs {weight!r}: write a number above 0")
    return value


def _check_class(name: Any, key: str) -> None:
    if isinstance(name, bool):
        word = "yes/no, true/false or on/off"
        raise ValueError(f'YAML reads {word} as a truth value; write it in quotes: "yes"')
    if not isinstance(name, str):
        raise ValueError(f'write a class in quotes: YAML reads {name!r}, `{key}` needs "{name}"')


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


Costs = Annotated[dict[str, dict[str, float]], BeforeValidator(_costs)]
DecideFor = Annotated[str | dict[str, float] | None, BeforeValidator(_decide_for)]
ClassWeights = Annotated[str | dict[str, float] | None, BeforeValidator(_class_weights)]


def check_decisions(
    problem_type: str,
    classes: Iterable[str] | None,
    positive_class: str | None,
    costs: dict[str, dict[str, float]] | None,
    decide_for: str | dict[str, float] | None,
    class_weights: str | dict[str, float] | None,
    metric: str | None,
) -> None:
    """Raises ValueError where these keys of one YAML don't go together."""
    given = {"positive_class": positive_class, "costs": costs, "decide_for": decide_for,
             "class_weights": class_weights}  # fmt: skip
    if problem_type == "regression":
        for key, value in given.items():
            if value is not None:
                raise ValueError(f"a regression has no classes: take `{key}` out")
        return
    if positive_class is not None and problem_type != "binary":
        raise ValueError("`positive_class` is for a binary problem: take it out")
    if costs is not None and decide_for is not None:
        raise ValueError("`costs` and `decide_for` both say how to decide: keep one of them")
    if metric == "expected_cost" and costs is None:
        raise ValueError("`metric: expected_cost` needs `costs`")
    for key, value in (("decide_for", decide_for), ("metric", metric)):
        alone = value in OF_THE_POSITIVE_CLASS or isinstance(value, dict)
        if alone and positive_class is None:
            raise ValueError(f"`{key}: {_shown(value)}` needs `positive_class`: write which it is")
    if classes is not None:
        check_names(classes, positive_class, costs, class_weights)


def check_names(
    classes: Iterable[str],
    positive_class: str | None,
    costs: dict[str, dict[str, float]] | None,
    class_weights: str | dict[str, float] | None,
) -> None:
    """Raises ValueError if one of the keys names a class that there is not."""
    there = sorted(classes)
    named = {"positive_class": [positive_class] if positive_class is not None else []}
    named["costs"] = [name for true, row in (costs or {}).items() for name in (true, *row)]
    named["class_weights"] = list(class_weights) if isinstance(class_weights, dict) else []
    for key, names in named.items():
        for name in names:
            if name not in there:
                close = difflib.get_close_matches(name, there, n=1)
                hint = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(there)}"
                raise ValueError(f"`{key}` names '{name}', which is none of the classes; {hint}")


def implied_metric(
    costs: dict[str, dict[str, float]] | None,
    decide_for: str | dict[str, float] | None,
    class_weights: str | dict[str, float] | None,
) -> Metric | None:
    """What decides which model is better, where the YAML names no `metric`.

    A model that is to find rare cases may not lose at the gate for its accuracy.
    """
    if costs is not None:
        return "expected_cost"
    if isinstance(decide_for, dict):
        return "average_precision"
    if decide_for is not None:
        return decide_for  # type: ignore[return-value] # one of DECIDED_FOR
    return "balanced_accuracy" if class_weights is not None else None


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {least:g}" for name, least in value.items()) + "}"
    return str(value)
