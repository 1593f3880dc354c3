"""How engines of several members tell how it goes, so that all lines read alike."""

from __future__ import annotations

import re
from typing import NamedTuple

BETWEEN = " · "
_TOLD = re.compile(r"(?P<before>.*?)(?P<number>\d+) of (?P<of>\d+) · (?P<words>.*)", re.DOTALL)
_LEFT = re.compile(r"(?:^| · )(?P<left>\d+) s left$")


class Step(NamedTuple):
    """What a line of `told` says. before: what others wrote before it; left: seconds."""

    before: str
    number: int
    of: int
    words: str
    left: float | None


def told(
    number: int,
    of: int,
    name: str,
    *,
    best: tuple[str, float, str] | None = None,
    left: float | None = None,
) -> str:
    """Such as `3 of 6 · linear with image · best so far: log loss 0.412 (trees) · 74 s left`.

    number, of: which member is learning, from 1. best: the metric, its figure and which member or
    ensemble has it. left: seconds of the budget.
    """
    parts = [f"{number} of {of}", name]
    if best is not None:
        metric, figure, whose = best
        parts.append(f"best so far: {metric.replace('_', ' ')} {short(figure)} ({whose})")
    if left is not None:
        parts.append(f"{max(left, 0):.0f} s left")
    return BETWEEN.join(parts)


def read_told(line: str) -> Step | None:
    """What `told` wrote, whatever stands before it; None for any other line."""
    found = _TOLD.fullmatch(line)
    if found is None:
        return None
    words = found["words"]
    left = _LEFT.search(words)
    return Step(
        found["before"],
        int(found["number"]),
        int(found["of"]),
        words[: left.start()] if left else words,
        float(left["left"]) if left else None,
    )


def short(figure: float) -> str:
    """A figure in four digits, or as a whole number where it is large: 0.412, 43,210."""
    return f"{figure:,.0f}" if abs(figure) >= 1000 else f"{figure:.4g}"
