"""How good predictions turned out to be, by the labels that came after them.

What belongs here: accuracy and calibration on live records, their figures and pictures. On records
held out from training the same is measured in training/evaluation.py.

Read it with care after a new champion has predicted again: it may have learned these labels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mm_assets.display.cells import written_out
from mm_assets.monitoring.charts import (
    HEIGHT,
    WIDTH,
    as_floats,
    draw_amounts,
    in_records,
)
from mm_assets.monitoring.timeline import Bins, time_bins
from mm_assets.training.evaluation import calibration_bins, calibration_error

if TYPE_CHECKING:
    import pyarrow as pa

FEWEST_LABELLED = 30  # below that, neither accuracy nor calibration says much

Floats = npt.NDArray[np.float64]


def live_figures(predictions: pa.Table, problem_type: str) -> dict[str, float | int]:
    """`n` and `accuracy`, or `mean_absolute_error`, where the label is known; {} if nowhere.

    With 30 labels or more also `calibration_error`, unless it is a regression.
    """
    known, right = _judged(predictions, problem_type)
    if not len(right):
        return {}
    if problem_type == "regression":
        return {"n": len(right), "mean_absolute_error": float(right.mean())}
    figures: dict[str, float | int] = {"n": len(right), "accuracy": float(right.mean())}
    if len(right) >= FEWEST_LABELLED:
        figures["calibration_error"] = calibration_error(_confidence(known), right > 0)
    return figures


def live_accuracy(predictions: pa.Table, problem_type: str, minimum: float = 0.0) -> bytes | None:
    """How good predictions were where the label came later, over time (PNG); None if none did.

    minimum: the accuracy below which a check complains, drawn as a line; 0 for none.
    """
    from mm_assets.display import pictures

    known, right = _judged(predictions, problem_type)
    if not len(right):
        return None
    regression = problem_type == "regression"
    bins = time_bins(known)
    mean, n = mean_in_bins(right, bins)
    name = "mean absolute error" if regression else "accuracy"
    overall = float(right.mean())
    shown = written_out(overall) if regression else f"{overall:.1%}"
    title = f"Known labels: {name} {shown} on {in_records(len(right))}"
    with pictures.figure(WIDTH, HEIGHT + 0.5, title) as fig:
        top, bottom = fig.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        if not regression:
            low, high = wilson(mean, n)
            top.vlines(bins.places, low, high, color=pictures.SKY, linewidth=5, label="95% range")
            top.set_ylim(-0.03, 1.03)
            top.yaxis.set_major_formatter("{x:.0%}")
            if minimum:
                low_line = {"color": pictures.VERMILION, "linestyle": "--"}
                top.axhline(minimum, **low_line, label=f"limit: {minimum:.1%}")
        else:
            top.set_ylim(0, 1.15 * max(float(np.nanmax(mean)), 1e-9))
            top.yaxis.set_major_formatter("{x:,.10g}")
        top.plot(bins.places, mean, color=pictures.BLUE, marker="o", ms=4, label=name)
        top.axhline(overall, color=pictures.GREY, linestyle=":", label=f"all: {shown}")
        top.set_ylabel(name)
        top.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        draw_amounts(bottom, bins)
        return pictures.to_png(fig)


def live_calibration(predictions: pa.Table, problem_type: str) -> bytes | None:
    """Whether confidence can be believed, by labels that came later: a reliability diagram (PNG).

    None for a regression and for fewer than 30 labels.
    """
    from mm_assets.display import pictures

    known, right = _judged(predictions, problem_type)
    if problem_type == "regression" or len(right) < FEWEST_LABELLED:
        return None
    confidence = _confidence(known)
    bins = calibration_bins(confidence, right > 0)
    error = calibration_error(confidence, right > 0)
    title = f"Confidence is off by {error:.3f} on average, {len(right):,} known labels"
    with pictures.figure(5.6, 5.2, title) as fig:
        top, bottom = fig.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        places, shares, counts = (
            np.array([b[name] for b in bins]) for name in ("confidence", "right", "count")
        )
        low, high = wilson(shares, counts)
        top.vlines(places, low, high, color=pictures.SKY, linewidth=5, label="95% range")
        pictures.draw_reliability(top, bottom, bins)
        return pictures.to_png(fig)


# -- numbers --------------------------------------------------------------------------------------


def mean_in_bins(values: Floats, bins: Bins) -> tuple[Floats, Floats]:
    """The mean of the values in each bin of time, NaN where none is, and how many there are."""
    n = np.bincount(bins.codes, minlength=len(bins.labels)).astype(float)
    with np.errstate(invalid="ignore"):
        return np.bincount(bins.codes, weights=values, minlength=len(n)) / n, n


def wilson(share: Floats, n: Floats) -> tuple[Floats, Floats]:
    """The 95% score interval of a share (Wilson 1927); it is sensible for few records too."""
    z = 1.96
    with np.errstate(invalid="ignore", divide="ignore"):
        middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
        half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return middle - half, middle + half


def _judged(predictions: pa.Table, problem_type: str) -> tuple[pa.Table, Floats]:
    """The records whose label is known, and for each 1 if right, 0 if wrong, or how far off.

    In order, so that sums of the same are the same to the last digit.
    """
    import pyarrow.compute as pc

    known = predictions.filter(pc.is_valid(predictions["label"]))
    known = known.sort_by([(n, "ascending") for n in ("prediction", "label", "confidence")])
    if problem_type == "regression":
        return known, np.abs(as_floats(known["label"]) - as_floats(known["prediction"]))
    right = pc.equal(known["label"], known["prediction"]).to_numpy()
    return known, np.asarray(right, dtype=np.float64)


def _confidence(known: pa.Table) -> Floats:
    return as_floats(known["confidence"]).clip(0.0, 1.0)
