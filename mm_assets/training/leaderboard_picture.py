"""The picture of a leaderboard: what each member reached, and how much it counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mm_assets.contract.decisions import LOWER_IS_BETTER
from mm_assets.engines.shared.progress import short
from mm_assets.training.competition import in_words


def leaderboard_picture(rows: Sequence[Mapping[str, Any]]) -> bytes | None:
    """Out-of-fold figures as bars, the ensemble on top, then the best first; PNG.

    rows: as `leaderboard.leaderboard_of` gives them. A dot is the same figure on held-out records.
    Members without a figure are left out; None where no other is left.
    """
    from matplotlib.patches import Patch

    from mm_assets.display import pictures

    shown = _ordered(rows)
    if not shown:
        return None
    metric = str(shown[0]["metric"])
    words = metric.replace("_", " ")
    with pictures.figure(7.4, 1.9 + 0.36 * len(shown), "Members and the ensemble") as fig:
        axes = fig.subplots()
        kinds = {
            "the ensemble": (pictures.GREEN, shown[:1]),
            "sees the image": (pictures.ORANGE, [r for r in shown[1:] if r["sees_image"]]),
            "sees the table alone": (pictures.BLUE, [r for r in shown[1:] if not r["sees_image"]]),
        }
        legend: list[Any] = []
        for kind, (color, mine) in kinds.items():
            if mine:
                colors = [color if row["weight"] else _pale(color) for row in mine]
                places = [shown.index(row) for row in mine]
                axes.barh(places, [r["out_of_fold"] for r in mine], color=colors, height=0.66)
                legend.append(Patch(color=color, label=kind))
        legend += _draw_held_out(axes, shown, metric)
        for place, row in enumerate(shown):
            ends = (row["out_of_fold"], row["held_out"].get(metric, 0))
            axes.annotate(
                _beside(row, place), (max(0, *ends), place), (7, 0), textcoords="offset points",
                va="center", fontsize=8, color=pictures.BLACK,
            )  # fmt: skip
        axes.set_yticks(range(len(shown)), [pictures.short(row["name"], 30) for row in shown])
        axes.set_ylim(len(shown) - 0.4, -0.6)
        low, high = axes.get_xlim()
        axes.set_xlim(low, 1.4 * high if high > 0 else high)
        if metric in ("accuracy", "balanced_accuracy", "macro_f1", "roc_auc"):
            axes.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
        else:
            axes.xaxis.set_major_formatter("{x:,.6g}")
        axes.grid(visible=False, axis="y")
        better = "lower" if metric in LOWER_IS_BETTER else "higher"
        axes.set_xlabel(f"{words} out of fold, {better} is better; in brackets the time to learn")
        fig.legend(handles=legend, loc="outside lower center", ncols=4)
        return pictures.to_png(fig)


def _ordered(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The ensemble and then its members, the best first; those of one metric that have a figure."""
    ensemble = rows[:1]
    metric = ensemble[0]["metric"] if ensemble else ""
    sign = 1 if metric in LOWER_IS_BETTER else -1
    members = sorted(
        (r for r in rows[1:] if r["out_of_fold"] is not None and r["metric"] == metric),
        key=lambda row: sign * row["out_of_fold"],
    )
    return [*(row for row in ensemble if row["out_of_fold"] is not None), *members]


def _draw_held_out(axes: Any, rows: Sequence[Mapping[str, Any]], metric: str) -> list[Any]:
    held = {n: row["held_out"][metric] for n, row in enumerate(rows) if metric in row["held_out"]}
    if not held:
        return []
    drawn: list[Any] = axes.plot(
        list(held.values()), list(held), "D", color="white", markeredgecolor="black",
        markersize=5, label="held-out records",
    )  # fmt: skip
    return drawn


def _pale(color: str) -> tuple[float, ...]:
    """Of a member that is not used."""
    from matplotlib.colors import to_rgb

    return tuple(1 - 0.35 * (1 - part) for part in to_rgb(color))


def _beside(row: Mapping[str, Any], place: int) -> str:
    figure, seconds = short(row["out_of_fold"]), row["seconds"]
    weight = (
        "" if place == 0 else f", weight {row['weight']:.2f}" if row["weight"] else ", not used"
    )
    return f"{figure}{weight}" + (f"  ({in_words(seconds)})" if seconds is not None else "")
