"""The pictures of a tuning: how it went, and which hyperparameters mattered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_BARS = 20
SPREAD = 2.0  # values so many times farther off than three quarters of them are shown at the edge


def history_picture(values: Sequence[float | None], metric: str, *, lower_is_better: bool) -> bytes:
    """The value of each trial and the best so far (PNG). None stands for a trial that failed.

    The first trial is the one with the YAML's own hyperparameters. One value at least is a number.
    """
    from matplotlib.ticker import MaxNLocator

    from mm_assets.display import pictures

    y = np.array([np.nan if value is None else value for value in values])
    numbers = np.arange(1, len(y) + 1)
    best = (np.fmin if lower_is_better else np.fmax).accumulate(y)
    name = metric.replace("_", " ")
    failed = int(np.isnan(y).sum())
    counted = f"{len(y):,} trials" if len(y) > 1 else "1 trial"
    told = f"Best {name} {best[-1]:.4g} of {counted}" + (f", {failed:,} failed" if failed else "")
    with pictures.figure(7.4, 3.6, told) as fig:
        axes = fig.subplots()
        _limit(axes, y, lower_is_better=lower_is_better)
        low, high = axes.get_ylim()
        shown = np.clip(y, low, high)
        axes.plot(
            numbers, best, color=pictures.BLACK, drawstyle="steps-post", linewidth=1.3,
            label="best so far",
        )  # fmt: skip
        axes.scatter(numbers, shown, color=pictures.BLUE, s=22, zorder=3, label="trial")
        if not np.isnan(y[0]):
            axes.scatter(
                1, shown[0], color=pictures.ORANGE, marker="D", s=34, zorder=4, label="as the YAML"
            )
        beyond = shown != y
        beyond &= ~np.isnan(y)
        if beyond.any():
            axes.scatter(
                numbers[beyond], shown[beyond], facecolors="white", edgecolors=pictures.BLUE,
                marker="^" if lower_is_better else "v", s=46, zorder=5, clip_on=False,
                label="beyond the edge",
            )  # fmt: skip
        if failed:
            floor = np.full(failed, low)
            axes.scatter(
                numbers[np.isnan(y)], floor, color=pictures.VERMILION, marker="x", s=30, zorder=5,
                clip_on=False, label="failed",
            )  # fmt: skip
        axes.set_xlim(0.5, len(y) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, min_n_ticks=1))
        axes.yaxis.set_major_formatter("{x:,.6g}")
        axes.set_xlabel("trial")
        axes.set_ylabel(f"{name} ({'lower' if lower_is_better else 'higher'} is better)")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        return pictures.to_png(fig)


def _limit(axes: Axes, y: npt.NDArray[np.float64], *, lower_is_better: bool) -> None:
    """Show all, except that a few very bad trials do not flatten the rest."""
    known = y[~np.isnan(y)]
    best = known.min() if lower_is_better else known.max()
    off = np.abs(known - best)
    usual = max(SPREAD * float(np.quantile(off, 0.75)), float(np.nan_to_num(abs(y[0] - best))))
    reach = min(off.max(), usual) or off.max() or abs(best) * 0.1 or 1.0
    worst = best + reach if lower_is_better else best - reach
    low, high = sorted((best, worst))
    axes.set_ylim(low - 0.08 * (high - low), high + 0.08 * (high - low))


def importance_picture(importance: dict[str, float], n: int) -> bytes:
    """A bar for each hyperparameter, the most important first (PNG). Shares add up to 1."""
    from mm_assets.display import pictures

    ranked = sorted(importance, key=lambda name: (-importance[name], name))[:MOST_BARS]
    with pictures.figure(6.4, 1.4 + 0.28 * len(ranked), "How much each one matters") as fig:
        axes = fig.subplots()
        shares = [importance[name] for name in ranked]
        axes.barh(range(len(ranked)), shares, color=pictures.BLUE, height=0.7)
        for place, share in enumerate(shares):
            axes.annotate(
                f"{share:.0%}", (share, place), (4, 0), textcoords="offset points", va="center",
                fontsize=8, color=pictures.GREY,
            )  # fmt: skip
        axes.set_yticks(range(len(ranked)), [pictures.short(name, 32) for name in ranked])
        axes.set_ylim(len(ranked) - 0.4, -0.6)
        axes.set_xlim(0, 1.12 * max(shares))
        axes.xaxis.set_major_formatter("{x:.0%}")
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(f"share of the variance explained (fANOVA, {n} trials)")
        return pictures.to_png(fig)
