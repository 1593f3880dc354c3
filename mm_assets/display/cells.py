"""Cells: a value as people read it, and nothing that a spreadsheet would run."""

from __future__ import annotations

import re
from typing import Any

FORMULA = re.compile(r"[=+\-@\t\r\n＝＋－＠]")  # how a cell begins that a spreadsheet runs


_NEGATIVE = re.compile(r"-[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")


def is_formula(value: Any) -> bool:
    """Whether a spreadsheet would take it for a formula; a negative number is none."""
    text = str(value)
    is_number = isinstance(value, int | float) or bool(_NEGATIVE.fullmatch(text))
    return not is_number and bool(FORMULA.match(text))


def shown(value: Any) -> str:
    """A value in a cell for people."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
