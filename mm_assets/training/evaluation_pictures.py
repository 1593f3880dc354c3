"""How a model did on held-out records, in pictures: confusion, calibration, residuals.

Numbers are only laid out here; `display/pictures.py` knows the look.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mm_assets.training.confidence import VALUE
from mm_assets.training.decision import DecisionRule, chosen
from mm_assets.training.evaluation import off_by, reliability

if TYPE_CHECKING:
    import pandas as pd


MOST_CLASSES_SHOWN = 30


OTHERS = "(others)"


def confusion_picture(
    truth: pd.Series, predicted: pd.DataFrame, rule: DecisionRule | None = None
) -> bytes:
    """Which class was taken for which (PNG): counts, shaded by the share of the true class.

    rule: how classes are decided; by default the most probable one. Beyond 30 classes the rarest
    ones share one row and column.
    """
    from mm_assets.display import pictures

    names = truth.astype(str).to_numpy(dtype=object)
    said = predicted.columns.astype(str).to_numpy()[chosen(predicted, rule)]
    rows, columns, counts = _confusion(list(names), list(said), list(map(str, predicted.columns)))
    side = float(np.clip(1.6 + 0.36 * max(counts.shape), 3.6, 10.5))
    right = float((names == said).mean()) if len(names) else 0.0
    title = f"{right:.1%} of {len(names):,} held-out records right"
    with pictures.figure(side + 0.8, side, title) as fig:
        axes = fig.subplots()
        pictures.draw_counts(axes, counts, rows, columns)
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        shade = fig.colorbar(axes.images[0], ax=axes, format="{x:.0%}", fraction=0.04)
        shade.set_label("share of the true class")
        return pictures.to_png(fig)


def _confusion(
    truth: list[str], said: list[str], classes: list[str]
) -> tuple[list[str], list[str], npt.NDArray[np.int_]]:
    unknown = sorted(set(truth) - set(classes))
    rows = classes + unknown
    if len(rows) > MOST_CLASSES_SHOWN:
        frequency = Counter(truth)
        kept = sorted(rows, key=lambda name: -frequency[name])[: MOST_CLASSES_SHOWN - 1]
        rows = [name for name in rows if name in kept] + [OTHERS]
    columns = [name for name in rows if name not in unknown]
    counts = np.zeros((len(rows), len(columns)), dtype=np.int_)
    row, column = ({name: i for i, name in enumerate(names)} for names in (rows, columns))
    for true, guess in zip(truth, said, strict=True):
        counts[row.get(true, len(rows) - 1), column.get(guess, len(columns) - 1)] += 1
    shown = [f"new: {name}" if name in unknown else name for name in rows]
    return shown, columns, counts


def calibration_picture(
    truth: pd.Series, predicted: pd.DataFrame, rule: DecisionRule | None = None
) -> bytes:
    """Whether confidence can be believed (PNG): share right against confidence, and counts."""
    return reliability_picture(reliability(truth, predicted, rule))


def reliability_picture(bins: Sequence[Mapping[str, float]]) -> bytes:
    """The same, from bins as `evaluation.reliability` gives them."""
    from mm_assets.display import pictures

    with pictures.figure(5.2, 5.2, f"Confidence is off by {off_by(bins):.3f} on average") as fig:
        top, bottom = fig.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        pictures.draw_reliability(top, bottom, bins)
        return pictures.to_png(fig)


def residual_picture(truth: pd.Series, predicted: pd.DataFrame) -> bytes:
    """How far predictions are off (PNG): predicted against true values, and the errors."""
    from mm_assets.display import pictures

    true, value = truth.to_numpy(dtype=np.float64), predicted[VALUE].to_numpy(dtype=np.float64)
    error = value - true
    title = f"Off by {np.abs(error).mean():.4g} on average, {len(true):,} held-out records"
    opacity = float(np.clip(10 / np.sqrt(len(true)), 0.05, 0.8))
    with pictures.figure(8.4, 4.0, title) as fig:
        left, right = fig.subplots(1, 2)
        ends = [min(true.min(), value.min()), max(true.max(), value.max())]
        left.plot(ends, ends, color=pictures.BLACK, linestyle="--", label="ideal", zorder=3)
        left.scatter(true, value, s=12, alpha=opacity, color=pictures.BLUE, linewidths=0)
        left.set(xlabel="true value", ylabel="predicted value")
        left.legend(loc="upper left")
        right.hist(error, bins=40, color=pictures.SKY, edgecolor="white", linewidth=0.4)
        right.axvline(0, color=pictures.BLACK, linestyle="--", label="no error", zorder=3)
        middle = float(np.median(error))
        right.axvline(middle, color=pictures.VERMILION, label=f"median {middle:+.4g}")
        right.set(xlabel="error (predicted minus true)", ylabel="records")
        right.legend(loc="upper left")
        return pictures.to_png(fig)
