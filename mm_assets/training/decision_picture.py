"""The picture of a decision between two classes, on held-out records: what another would do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mm_assets.training.decision import DecisionRule, looked_for

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

Floats = npt.NDArray[np.float64]


def decision_picture(
    truth: pd.Series, predicted: pd.DataFrame, rule: DecisionRule, positive_class: str | None = None
) -> bytes:
    """Precision and recall at every threshold, or with costs the mean cost (PNG).

    Marked are the threshold that is used and 0.5, the plain one. predicted: two columns of
    probabilities. Without `positive_class` the class is shown that is said from below 0.5.
    """
    from mm_assets.display import pictures

    classes = [str(name) for name in predicted.columns]
    shown, other = looked_for(rule, classes, positive_class)
    used = rule.threshold(shown, other)
    scores = predicted.to_numpy(dtype=np.float64)[:, classes.index(shown)]
    true = (truth.astype(str) == shown).to_numpy()
    alarm, missed = rule.cost(other, shown), rule.cost(shown, other)
    title = f"{pictures.short(shown)} from {used:.3g}: {pictures.short(rule.why, 40)}"
    with pictures.figure(5.6, 4.4, title) as fig:
        axes = fig.subplots()
        beside = 2 if rule.costs else 1
        if rule.costs:
            _draw_costs(axes, scores, true, used, alarm, missed)
        else:
            _draw_precision_recall(axes, scores, true, used)
        fig.legend(loc="outside lower center", ncols=beside)
        return pictures.to_png(fig)


def _draw_costs(
    axes: Axes,
    scores: Floats,
    true: npt.NDArray[np.bool_],
    used: float,
    alarm: float,
    missed: float,
) -> None:
    from mm_assets.display import pictures

    def cost(thresholds: Floats) -> Floats:
        hits, said = _counts(scores, true, thresholds)
        return (alarm * (said - hits) + missed * (true.sum() - hits)) / max(len(true), 1)

    thresholds = np.unique(np.concatenate(([0.0], scores, np.nextafter(scores, 2), [1.0])))
    axes.plot(thresholds, cost(thresholds), color=pictures.BLUE, drawstyle="steps-post")
    for name, at, color, mark in _marked(used):
        [there] = cost(np.array([at]))
        axes.plot([at], [there], mark, ms=9, color=color, label=f"{name}: {there:.3g}")
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(bottom=0)
    axes.set(xlabel="threshold of the probability", ylabel="mean cost of a held-out record")


def _draw_precision_recall(
    axes: Axes, scores: Floats, true: npt.NDArray[np.bool_], used: float
) -> None:
    from mm_assets.display import pictures

    def point(at: Floats) -> tuple[Floats, Floats]:
        hits, said = _counts(scores, true, at)
        precision = np.where(said > 0, hits / np.maximum(said, 1), np.nan)
        return hits / max(int(true.sum()), 1), precision

    recall, precision = point(np.unique(scores)[::-1])
    axes.plot(recall, precision, color=pictures.BLUE, marker=".", ms=3, lw=1.2)
    for name, at, color, mark in _marked(used):
        [[x], [y]] = point(np.array([at]))
        never = bool(np.isnan(y))
        words = f"{name}: recall {x:.2f}, " + ("never said" if never else f"precision {y:.2f}")
        axes.plot([x], [0.0 if never else y], mark, ms=9, color=color, label=words)
    axes.axhline(true.mean(), color=pictures.GREY, linestyle=":", label="always said")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.04), xlabel="recall", ylabel="precision")


def _marked(used: float) -> list[tuple[str, float, str, str]]:
    from mm_assets.display import pictures

    return [("plain (0.5)", 0.5, pictures.GREY, "o"),
            (f"used ({used:.3g})", used, pictures.VERMILION, "D")]  # fmt: skip


def _counts(
    scores: Floats, true: npt.NDArray[np.bool_], thresholds: Floats
) -> tuple[Floats, Floats]:
    """How many records are rightly said, and said at all, from each threshold on."""
    order = np.argsort(scores)
    above = len(scores) - np.searchsorted(scores[order], thresholds, side="left")
    hits = np.concatenate(([0], np.cumsum(true[order][::-1])))
    return hits[above].astype(np.float64), above.astype(np.float64)
