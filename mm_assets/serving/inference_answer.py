"""Answers as tensors: which a dataset has, which of them are asked for, and their values."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

from mm_assets.serving.predictor import Answer, Predictor
from mm_assets.serving.tensors import Output, refused
from mm_assets.tables.answer import COLUMNS

_NUMBERS = ("lower", "upper", "confidence")
Wanted = list[tuple[str, bool]]


def outputs_of(predictor: Predictor, document: dict[str, Any]) -> Wanted:
    """Name of each output that a request asks for, and whether as bytes. Raises Problem."""
    parameters = document.get("parameters")
    binary = isinstance(parameters, dict) and parameters.get("binary_data_output") is True
    left_out = ("probabilities",) if predictor.spec.is_regression else ("lower", "upper")
    known = [name for name in COLUMNS if name not in left_out]
    asked = document.get("outputs")
    if not asked:
        return [(name, binary) for name in known]
    if not isinstance(asked, list):
        raise refused("`outputs` has to be a list")
    wanted: Wanted = []
    for one in asked:
        name = one.get("name") if isinstance(one, dict) else None
        if name not in known or any(name == other for other, _ in wanted):
            raise refused(
                f"there is no output {name!r}, or it is asked for twice",
                f"Outputs are {', '.join(known)}.",
            )
        own = one.get("parameters") or {}
        if not isinstance(own, dict) or own.get("classification"):
            raise refused(f"{name}: `parameters` may hold binary_data")
        wanted.append((name, own.get("binary_data", binary) is True))
    return wanted


def tensors_out(
    predictor: Predictor, answers: Sequence[Answer], wanted: Wanted
) -> Iterator[tuple[Output, bool]]:
    """The tensors, and whether each goes as bytes.

    A record without an answer has '' and NaN, and needs review: its code and reason say why.
    """
    n = len(answers)
    for name, binary in wanted:
        values: list[Any] = [answer[name] for answer in answers]
        if name == "probabilities":
            classes = _classes(predictor, answers)
            told = {"classes": json.dumps(classes, ensure_ascii=False)}
            flat = [_probability(own, one) for own in values for one in classes]
            yield Output(name, "FP64", (n, len(classes)), flat, told), binary
        elif name == "needs_review":
            yield Output(name, "BOOL", (n,), [one is not False for one in values]), binary
        elif name in _NUMBERS or (name == "prediction" and predictor.spec.is_regression):
            numbers = [math.nan if one is None else float(one) for one in values]
            yield Output(name, "FP64", (n,), numbers), binary
        else:
            texts = ["" if one is None else str(one) for one in values]
            yield Output(name, "BYTES", (n,), texts), binary


def _classes(predictor: Predictor, answers: Sequence[Answer]) -> list[str]:
    """All classes of the dataset, in an order that is always the same."""
    spec = predictor.spec
    if spec.classes is not None:
        return list(spec.classes)
    known = {name for answer in answers for name in answer["probabilities"] or ()}
    for used in predictor.champions.in_use.values():
        known |= set(used.classes)
    return sorted(known)


def _probability(own: dict[str, float] | None, name: str) -> float:
    """A class that a model does not know has no chance with it."""
    return math.nan if own is None else float(own.get(name, 0.0))
