"""Cells: a value as people read it, and nothing that a terminal or a spreadsheet would run.

All text that is printed, drawn, logged or put on a page passes `visible`.
"""

from __future__ import annotations

import re
from typing import Any

from mm_assets.contract.visible import replaced
from mm_assets.contract.visible import visible as visible  # noqa: PLC0414  meant to be had here

FORMULA = re.compile(r"[=+\-@\t\r\n＝＋－＠]")  # how a cell begins that a spreadsheet runs


SHOWN_DIGITS = 6  # of a large number; of a small one three behind the point
_NEGATIVE = re.compile(r"-[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")


def is_formula(value: Any) -> bool:
    """Whether a spreadsheet would take it for a formula; a negative number is none."""
    text = str(value)
    is_number = isinstance(value, int | float) or bool(_NEGATIVE.fullmatch(text))
    return not is_number and bool(FORMULA.match(text))


def shown(value: Any) -> str:
    """A value in a cell for people; nothing in it acts."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, float):
        return visible(str(value))
    return f"{value:.3f}" if not abs(value) >= 1000 else plain_number(value, SHOWN_DIGITS)


def written_out(value: float) -> str:
    """A number with four digits or more, never as a power of ten if it is not huge."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e12 else f"{value:.4g}"


def plain_number(value: float, digits: int) -> str:
    """A number rounded to so many digits, as a table holds it: 1356000 and not 1.356e+06."""
    short = f"{value:.{digits}g}"
    return f"{float(short):.0f}" if "e+" in short and abs(value) < 1e15 else short


def block(text: str) -> str:
    """Text of one or more lines; a line that is not the first is set in, so that it cannot pass
    for a message of its own."""
    first, *others = visible(text, keep="\n").split("\n")
    return "\n".join([first, *(line if line.startswith("  ") else f"  {line}" for line in others)])


def visible_json(text: str) -> str:
    """JSON that means the same, with whatever acts written as `\\u` and four digits."""
    return replaced(text, _json_escape, keep="\n")


def _json_escape(letter: str) -> str:
    units = letter.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
