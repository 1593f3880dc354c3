"""The picture of candidates that competed: what each reached on the same held-out records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mm_assets.contract.decisions import LOWER_IS_BETTER
from mm_assets.display.cells import written_out


def competition_picture(rows: Sequence[dict[str, Any]], metric: str, baseline: float) -> bytes:
    """The deciding metric of each candidate, the best first, beside the simplest guess (PNG).

    rows: `name`, `metrics` (which holds `metric`), `promoted` (the winner) and `seconds` of
    training of each candidate. baseline: the metric of the simplest guess on the same records.
    """
    from mm_assets.display import pictures

    ordered = ranked(rows, metric)
    figures = [float(row["metrics"][metric]) for row in ordered]
    winner = next((row["name"] for row in ordered if row["promoted"]), None)
    name = metric.replace("_", " ")
    wins = f"{pictures.short(winner)} wins" if winner else "none wins"
    title = f"{len(ordered)} candidates on the same held-out records: {wins}"
    with pictures.figure(7.0, 1.7 + 0.36 * len(ordered), title) as fig:
        axes = fig.subplots()
        colors = [pictures.BLUE if row["promoted"] else pictures.PALE for row in ordered]
        axes.barh(range(len(ordered)), figures, color=colors, height=0.66)
        for place, (row, figure) in enumerate(zip(ordered, figures, strict=True)):
            axes.annotate(
                f"{written_out(figure)}  ({in_words(row['seconds'])})", (figure, place), (5, 0),
                textcoords="offset points", va="center", fontsize=8, color=pictures.BLACK,
                bbox={"fc": "white", "ec": "none", "pad": 1.2},
            )  # fmt: skip
        axes.axvline(
            baseline, color=pictures.VERMILION, linestyle="--",
            label=f"simplest guess: {written_out(baseline)}",
        )  # fmt: skip
        axes.set_yticks(range(len(ordered)), [pictures.short(row["name"], 30) for row in ordered])
        axes.set_ylim(len(ordered) - 0.4, -0.6)
        bounded = metric not in LOWER_IS_BETTER
        axes.set_xlim(0, 1.25 * (1.0 if bounded else max(*figures, baseline, 1e-9)))
        if bounded:
            axes.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
        else:
            axes.xaxis.set_major_formatter("{x:,.10g}")
        axes.grid(visible=False, axis="y")
        better = "higher" if bounded else "lower"
        axes.set_xlabel(f"{name}, {better} is better; in brackets the time of training")
        fig.legend(loc="outside lower right")
        return pictures.to_png(fig)


def ranked(rows: Sequence[dict[str, Any]], metric: str) -> list[dict[str, Any]]:
    """The candidates from best to worst; those that are equal keep their order."""
    sign = 1 if metric in LOWER_IS_BETTER else -1
    return sorted(rows, key=lambda row: sign * row["metrics"][metric])


def in_words(seconds: float) -> str:
    """A duration in the unit that fits: 0.3 s, 12 s, 3.5 min, 2.1 h."""
    if seconds < 0.1:
        return "below 0.1 s"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.1f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
