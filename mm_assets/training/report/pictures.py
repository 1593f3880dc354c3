"""The pictures that only a report has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mm_assets.contract.decisions import LOWER_IS_BETTER
from mm_assets.display.cells import written_out

MOST_COLUMNS = 25
SHARES = ("accuracy", "balanced_accuracy")  # metrics that people read in percent


def importance_picture(rows: Sequence[Mapping[str, Any]], metric: str) -> bytes | None:
    """How much worse the model gets without each column, as bars (PNG); None without any.

    rows: as `importance.Importance` has them. A thin line spans the repeats.
    """
    from mm_assets.display import pictures

    shown = list(rows[:MOST_COLUMNS])
    if not shown:
        return None
    title = "How much worse it gets when a column is shuffled"
    with pictures.figure(6.6, 1.3 + 0.34 * len(shown), title) as fig:
        axes = fig.subplots()
        places = range(len(shown))
        colors = [pictures.ORANGE if row["column"] == "image" else pictures.BLUE for row in shown]
        axes.barh(places, [row["worse"] for row in shown], color=colors, height=0.62)
        axes.hlines(
            places, [row["low"] for row in shown], [row["high"] for row in shown],
            color=pictures.BLACK, linewidth=1,
        )  # fmt: skip
        lost = _in_points if metric in SHARES else written_out
        reach = max((abs(row[end]) for row in shown for end in ("low", "high")), default=0) or 1.0
        for place, row in zip(places, shown, strict=True):
            axes.annotate(
                lost(row["worse"]), (max(row["high"], row["worse"], 0), place), (5, 0),
                textcoords="offset points", va="center", fontsize=8,
            )  # fmt: skip
        axes.axvline(0, color=pictures.GREY, linewidth=0.8)
        axes.set_yticks(places, [pictures.short(row["column"], 30) for row in shown])
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.set_xlim(min(0.0, *(1.1 * row["low"] for row in shown)), 1.25 * reach)
        axes.xaxis.set_major_formatter(lambda value, _: lost(value))
        axes.grid(visible=False, axis="y")
        worse = "more" if metric in LOWER_IS_BETTER else "less"
        in_points = ", in points" if metric in SHARES else ""
        axes.set_xlabel(f"so much {worse} {metric.replace('_', ' ')}{in_points}")
        return pictures.to_png(fig)


def _in_points(share: float) -> str:
    return f"{100 * share:.3g}"
