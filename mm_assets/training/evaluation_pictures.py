"""How a model did on held-out records, in pictures: confusion, calibration, residuals.

Numbers are only laid out here; `display/pictures.py` knows the look.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mm_assets.display.cells import written_out
from mm_assets.doubt.confidence import VALUE
from mm_assets.training.decision import DecisionRule, chosen
from mm_assets.training.evaluation import off_by, reliability

if TYPE_CHECKING:
    import pandas as pd


MOST_CLASSES_SHOWN = 30
FAR = 10.0  # times the width of the middle half


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
    """How far predictions are off (PNG): predicted against true values, and the errors.

    Records far outside all others, such as mistyped ones, are counted and not drawn: they would
    squeeze the others into a corner.
    """
    from matplotlib.ticker import MaxNLocator

    from mm_assets.display import pictures

    true, value = truth.to_numpy(dtype=np.float64), predicted[VALUE].to_numpy(dtype=np.float64)
    off = np.abs(value - true)
    title = (
        f"Off by {written_out(off.mean())} on average, by {written_out(float(np.median(off)))} "
        f"or less for half of {len(true):,} held-out records"
    )
    drawn = _near(true) & _near(value)
    true, value = true[drawn], value[drawn]
    error = value - true
    opacity = float(np.clip(10 / np.sqrt(len(true)), 0.05, 0.8))
    with pictures.figure(8.4, 4.0, title) as fig:
        left, right = fig.subplots(1, 2)
        ends = [min(true.min(), value.min()), max(true.max(), value.max())]
        left.plot(ends, ends, color=pictures.BLACK, linestyle="--", label="ideal", zorder=3)
        left.scatter(true, value, s=12, alpha=opacity, color=pictures.BLUE, linewidths=0)
        left.set(xlabel="true value", ylabel="predicted value")
        left.legend(loc="upper left")
        # Errors that differ by the last digit alone cannot be parted into bins.
        bins = 40 if np.ptp(error) > 1e-9 * np.abs(value).max() else 1
        right.hist(error, bins=bins, color=pictures.SKY, edgecolor="white", linewidth=0.4)
        right.axvline(0, color=pictures.BLACK, linestyle="--", label="no error", zorder=3)
        middle = float(np.median(error))
        sign = "+" if middle > 0 else ""
        label = f"median {sign}{written_out(middle)}"
        right.axvline(middle, color=pictures.VERMILION, label=label)
        right.set(xlabel="error (predicted minus true)", ylabel="records")
        right.legend(loc="upper left")
        for axis in (left.xaxis, left.yaxis, right.xaxis):
            axis.set_major_locator(MaxNLocator(5))
            axis.set_major_formatter("{x:,.10g}")
        if not drawn.all():
            fig.supxlabel(f"not drawn: {int((~drawn).sum())} far outside all others", fontsize=8)
        return pictures.to_png(fig)


def _near(values: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Which values are within the middle half, widened on both sides by ten times its width."""
    low, high = np.quantile(values, [0.25, 0.75])
    reach = FAR * max(high - low, 1e-9 * max(abs(low), abs(high)))
    if not reach:
        return np.ones(len(values), dtype=bool)
    near: npt.NDArray[np.bool_] = (values >= low - reach) & (values <= high + reach)
    return near
