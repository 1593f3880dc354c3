"""How engines of several members tell how it goes, so that all lines read alike."""

from __future__ import annotations


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
    return " · ".join(parts)


def short(figure: float) -> str:
    """A figure in four digits, or as a whole number where it is large: 0.412, 43,210."""
    return f"{figure:,.0f}" if abs(figure) >= 1000 else f"{figure:.4g}"
