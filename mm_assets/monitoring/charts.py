"""Pictures of the predictions table over time, and the figures that go with them.

`predictions` is always what `Store.read` gives; `timeline.py` says what the bins of time are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mm_assets.dataset import Modality
from mm_assets.monitoring.timeline import Bins, name_bins, time_bins

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes

MOST_CLASSES = 7  # as many colours as can be told apart, and grey for all others
MOST_BARS = 30
LONGEST_LABEL = 28
WIDTH, HEIGHT = 8.4, 3.6  # inches
PALE = "#B8B8B8"  # for amounts and for all that has no colour of its own

Floats = npt.NDArray[np.float64]


# -- the pictures ---------------------------------------------------------------------------------


def confidence_over_time(predictions: pa.Table, threshold: float) -> bytes:
    """Median and quartiles of the confidence, the review threshold, and how many records (PNG)."""
    confidence = _numbers(predictions["confidence"])
    below = float((confidence < threshold).mean()) if len(confidence) else 0.0
    title = f"Confidence: {below:.1%} of {len(confidence):,} records are below {threshold:g}"
    return _quartiles_over_time(
        confidence, time_bins(predictions), title, "confidence", threshold, (-0.03, 1.03)
    )


def value_distribution(predictions: pa.Table) -> bytes:
    """Regression: median and quartiles of the predicted values over time (PNG)."""
    values = _numbers(predictions["prediction"])
    middle = f"median {_written(float(np.median(values)))}, " if len(values) else ""
    title = f"Predicted values: {middle}{len(values):,} records"
    return _quartiles_over_time(values, time_bins(predictions), title, "predicted value")


def _quartiles_over_time(
    values: Floats,
    bins: Bins,
    title: str,
    name: str,
    threshold: float | None = None,
    limits: tuple[float, float] | None = None,
) -> bytes:
    from mm_assets import pictures

    low, middle, high = _quartiles(values, bins).T
    with pictures.figure(WIDTH, HEIGHT + 0.5, title) as fig:
        top, bottom = fig.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        top.vlines(bins.places, low, high, color=pictures.SKY, linewidth=5, label="middle half")
        top.plot(bins.places, middle, color=pictures.BLUE, marker="o", ms=4, label="median")
        if threshold is not None:
            top.axhline(
                threshold, color=pictures.VERMILION, linestyle="--", label="review below this"
            )
        if limits is not None:
            top.set_ylim(*limits)
        top.set_ylabel(name)
        top.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        _draw_amounts(bottom, bins)
        return pictures.to_png(fig)


def class_balance(predictions: pa.Table, expected: dict[str, int] | None) -> bytes:
    """The share of each predicted class over time, beside that of the training labels (PNG)."""
    from mm_assets import pictures

    names = predictions["prediction"].combine_chunks().dictionary_encode()
    found = names.dictionary.to_pylist()
    place = names.indices.to_numpy(zero_copy_only=False)
    counts = dict(zip(found, np.bincount(place, minlength=len(found)).tolist(), strict=True))
    shown, others = _classes_shown(counts, expected or {})
    row = np.array([shown.index(n) if n in shown else len(shown) for n in found], dtype=np.int64)
    bins = time_bins(predictions)
    amounts = np.zeros((len(shown) + 1, len(bins.labels)))
    np.add.at(amounts, (row[place], bins.codes), 1)
    bright = [color for color in pictures.PALETTE if color != pictures.BLACK]
    colors = [*bright[: len(shown)], PALE]
    labels = [*_told_apart(shown), f"{others} other classes"]
    before = [(expected or {}).get(name, 0) for name in shown]
    before.append(sum((expected or {}).values()) - sum(before))
    title = f"Predicted classes of {predictions.num_rows:,} records"
    with pictures.figure(WIDTH, HEIGHT + 0.3, title) as fig:
        axes = fig.subplots()
        _draw_shares(axes, bins, amounts, labels, colors)
        if expected and sum(before):
            _draw_training(axes, np.array(before, dtype=float), colors)
        return pictures.to_png(fig)


def image_share(predictions: pa.Table) -> bytes:
    """The share of records that were predicted with and without an image, over time (PNG)."""
    from mm_assets import pictures

    with_image = _is_with_image(predictions)
    bins = time_bins(predictions)
    amounts = np.zeros((2, len(bins.labels)))
    np.add.at(amounts, (np.where(with_image, 0, 1), bins.codes), 1)
    share = float(with_image.mean()) if len(with_image) else 0.0
    title = f"Images: {share:.1%} of {len(with_image):,} records have one"
    with pictures.figure(WIDTH, HEIGHT, title) as fig:
        axes = fig.subplots()
        labels, colors = ["with image", "without image"], [pictures.BLUE, pictures.ORANGE]
        _draw_shares(axes, bins, amounts, labels, colors)
        return pictures.to_png(fig)


def live_accuracy(predictions: pa.Table, problem_type: str) -> bytes | None:
    """How good predictions were where the label came later, over time (PNG); None if none did."""
    from mm_assets import pictures

    known, right = _judged(predictions, problem_type)
    figures = live_accuracy_figures(predictions, problem_type)
    if not figures:
        return None
    regression = problem_type == "regression"
    bins = time_bins(known)
    n = np.bincount(bins.codes, minlength=len(bins.labels)).astype(float)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(bins.codes, weights=right, minlength=len(n)) / n
    name = "mean absolute error" if regression else "accuracy"
    overall = figures["mean_absolute_error" if regression else "accuracy"]
    shown = _written(overall) if regression else f"{overall:.1%}"
    title = f"Known labels: {name} {shown} on {len(right):,} records"
    with pictures.figure(WIDTH, HEIGHT + 0.5, title) as fig:
        top, bottom = fig.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        if not regression:
            low, high = _wilson(mean, n)
            top.vlines(bins.places, low, high, color=pictures.SKY, linewidth=5, label="95% range")
            top.set_ylim(-0.03, 1.03)
            top.yaxis.set_major_formatter("{x:.0%}")
        else:
            top.set_ylim(0, 1.15 * max(float(np.nanmax(mean)), 1e-9))
        top.plot(bins.places, mean, color=pictures.BLUE, marker="o", ms=4, label=name)
        top.axhline(overall, color=pictures.GREY, linestyle=":", label=f"all: {shown}")
        top.set_ylabel(name)
        top.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        _draw_amounts(bottom, bins)
        return pictures.to_png(fig)


def live_accuracy_figures(predictions: pa.Table, problem_type: str) -> dict[str, float | int]:
    """`n` and `accuracy`, or `mean_absolute_error`, where the label is known; {} if nowhere.

    Read it with care after a new champion has predicted again: it may have learned these labels.
    """
    _, right = _judged(predictions, problem_type)
    if not len(right):
        return {}
    name = "mean_absolute_error" if problem_type == "regression" else "accuracy"
    return {"n": len(right), name: float(right.mean())}


def rejects_by_code(counts: dict[str, int], title: str) -> bytes | None:
    """How many refusals there were of each code, most first (PNG); None if there were none."""
    refused = {code: count for code, count in counts.items() if count}
    return ranked_bars(refused, title, "refused", "{:,}".format) if refused else None


def ranked_bars(
    values: dict[str, int] | dict[str, float],
    title: str,
    meaning: str,
    written: Callable[[float], str],
    limit: float | None = None,
) -> bytes:
    """One bar for each name, the greatest first, those above the limit in another colour (PNG)."""
    from matplotlib.ticker import MaxNLocator

    from mm_assets import pictures

    ranked = sorted(values, key=lambda name: (-values[name], name))
    amounts = [values[name] for name in ranked[:MOST_BARS]]
    rest = len(ranked) - len(amounts)
    with pictures.figure(7.0, 1.3 + 0.26 * len(amounts), title) as fig:
        axes = fig.subplots()
        over = [limit is not None and amount > limit for amount in amounts]
        colors = [pictures.VERMILION if high else pictures.BLUE for high in over]
        axes.barh(range(len(amounts)), amounts, color=colors, height=0.7)
        for place, amount in enumerate(amounts):
            axes.annotate(
                written(amount), (amount, place), (4, 0), textcoords="offset points", va="center",
                fontsize=8, color=pictures.GREY, bbox={"fc": "white", "ec": "none", "pad": 1},
            )  # fmt: skip
        if limit is not None:
            axes.axvline(limit, color=pictures.BLACK, linestyle="--", linewidth=1.2, zorder=0.9)
        axes.set_yticks(range(len(amounts)), _told_apart(ranked[:MOST_BARS]))
        axes.set_ylim(len(amounts) - 0.4, -0.6)
        axes.set_xlim(0, 1.15 * max(*amounts, limit or 0))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=limit is None))
        axes.xaxis.set_major_formatter("{x:,.6g}")
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(f"{meaning}; {rest} smaller ones are not shown" if rest else meaning)
        return pictures.to_png(fig)


# -- parts of pictures ----------------------------------------------------------------------------


def _draw_amounts(axes: Axes, bins: Bins) -> None:
    from matplotlib.ticker import MaxNLocator

    from mm_assets import pictures

    n = np.bincount(bins.codes, minlength=len(bins.labels))
    axes.bar(bins.places, n, color=PALE, width=0.7)
    axes.set_ylabel("records")
    axes.set_ylim(0, 1.25 * max(n.max(initial=0), 1))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))
    axes.yaxis.set_major_formatter("{x:,.0f}")
    if len(n) <= 12:
        for place, count in enumerate(n):
            axes.annotate(
                f"{count:,}", (place, count), (0, 1), textcoords="offset points", ha="center",
                fontsize=7, color=pictures.GREY,
            )  # fmt: skip
    name_bins(axes, bins)


def _draw_shares(
    axes: Axes, bins: Bins, amounts: Floats, labels: Sequence[str], colors: Sequence[str]
) -> None:
    """Stacked bars that add up to one; a part that is nowhere is left out of the legend."""
    shares = amounts / np.maximum(amounts.sum(axis=0), 1)
    floor = np.zeros(len(bins.labels))
    for share, label, color in zip(shares, labels, colors, strict=True):
        name = label if share.any() else "_nowhere"
        axes.bar(
            bins.places, share, bottom=floor, width=0.8, color=color, label=name,
            edgecolor="white", linewidth=0.4,
        )  # fmt: skip
        floor += share
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.set_ylabel("share of records")
    name_bins(axes, bins)
    handles, names = axes.get_legend_handles_labels()
    axes.legend(
        handles[::-1], names[::-1], loc="center left", bbox_to_anchor=(1.0, 0.5),
    )  # fmt: skip


def _draw_training(axes: Axes, counts: Floats, colors: Sequence[str]) -> None:
    """One more stacked bar to the left, set apart: what the training labels were."""
    floor = 0.0
    left, right = axes.get_xlim()
    wide = max(0.8, (right - left) / 12)
    place = left - 0.9 * wide
    for share, color in zip(counts / counts.sum(), colors, strict=True):
        axes.bar(
            place, share, bottom=floor, width=wide, color=color, edgecolor="white", linewidth=0.4
        )
        floor += share
    axes.axvline(left, color="black", linewidth=0.8)
    axes.set_xlim(place - 0.7 * wide, right)
    ticks, names = list(axes.get_xticks()), [t.get_text() for t in axes.get_xticklabels()]
    axes.set_xticks([place, *ticks], ["training\nlabels", *names])


# -- numbers --------------------------------------------------------------------------------------


def _numbers(column: Any) -> Floats:
    import pyarrow as pa

    return np.asarray(column.cast(pa.float64()).to_numpy(), dtype=np.float64)


def _written(value: float) -> str:
    """A number with four digits or more, never as a power of ten if it is not huge."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e12 else f"{value:.4g}"


def _is_with_image(predictions: pa.Table) -> npt.NDArray[np.bool_]:
    import pyarrow.compute as pc

    same = pc.equal(predictions["modality"], Modality.WITH_IMAGE.value)
    return np.asarray(same.to_numpy(), dtype=np.bool_)


def _quartiles(values: Floats, bins: Bins) -> Floats:
    """The three quartiles in each bin (rows); NaN where a bin is empty."""
    order = np.argsort(bins.codes, kind="stable")
    ends = np.searchsorted(bins.codes[order], np.arange(len(bins.labels) + 1))
    result = np.full((len(bins.labels), 3), np.nan)
    for i, (start, end) in enumerate(pairwise(ends.tolist())):
        if end > start:
            result[i] = np.quantile(values[order[start:end]], [0.25, 0.5, 0.75])
    return result


def _judged(predictions: pa.Table, problem_type: str) -> tuple[pa.Table, Floats]:
    """The records whose label is known, and for each 1 if right, 0 if wrong, or how far off."""
    import pyarrow.compute as pc

    known = predictions.filter(pc.is_valid(predictions["label"]))
    if problem_type == "regression":
        return known, np.abs(_numbers(known["label"]) - _numbers(known["prediction"]))
    right = pc.equal(known["label"], known["prediction"]).to_numpy()
    return known, np.asarray(right, dtype=np.float64)


def _wilson(share: Floats, n: Floats) -> tuple[Floats, Floats]:
    """The 95% score interval of a share (Wilson 1927); it is sensible for few records too."""
    z = 1.96
    with np.errstate(invalid="ignore", divide="ignore"):
        middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
        half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return middle - half, middle + half


def _classes_shown(counts: dict[str, int], expected: dict[str, int]) -> tuple[list[str], int]:
    """The classes that get a colour, and how many are left to share grey."""
    totals = [sum(counts.values()) or 1, sum(expected.values()) or 1]
    weights: Counter[str] = Counter()
    for amounts, total in zip((counts, expected), totals, strict=True):
        for name, amount in amounts.items():
            weights[name] += amount / total  # type: ignore[assignment]
    ranked = sorted(weights, key=lambda name: (-weights[name], name))
    most = len(ranked) if len(ranked) <= MOST_CLASSES else MOST_CLASSES - 1
    return ranked[:most], len(ranked) - most


def _told_apart(names: Sequence[str]) -> list[str]:
    """Names as labels. Long ones that begin alike are shown from where they begin to differ."""
    from mm_assets.pictures import short

    whole = [short(name, 1000) for name in names]
    alike: dict[str, list[str]] = {}
    for name in whole:
        alike.setdefault(short(name, LONGEST_LABEL), []).append(name)
    labels = []
    for name in whole:
        label = short(name, LONGEST_LABEL)
        ends = zip(min(alike[label]), max(alike[label]), strict=False)
        differs = next((i for i, (one, other) in enumerate(ends) if one != other), 0)
        if differs > 6 and len(name) > LONGEST_LABEL:
            label = "…" + short(name[differs - 6 :], LONGEST_LABEL - 1)
        labels.append(label)
    return labels
