"""Pictures of the predictions table over time, and the figures that go with them.

`predictions` is always what `Store.read` gives, `bins` their `time_bins` (timeline.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mm_assets.contract.dataset import Modality
from mm_assets.display.cells import written_out
from mm_assets.monitoring.timeline import Bins, name_bins

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes

MOST_CLASSES = 7  # as many colours as can be told apart, and grey for all others
MOST_BARS = 30
MOST_LINES = 3
LONGEST_LABEL = 28
WIDTH, HEIGHT = 8.4, 3.6  # inches

Floats = npt.NDArray[np.float64]


# -- the pictures ---------------------------------------------------------------------------------


def confidence_over_time(predictions: pa.Table, bins: Bins, threshold: float | None) -> bytes:
    """Median and quartiles of the confidence, and how many records (PNG).

    threshold: what the YAML names; None where each model has a limit of its own.
    """
    confidence = as_floats(predictions["confidence"])
    asked = predictions["needs_review"].to_numpy()
    share = float(asked.mean()) if len(asked) else 0.0
    title = f"In review: {share:.1%} of {in_records(len(asked))}"
    return _quartiles_over_time(confidence, bins, title, "confidence", threshold, (-0.03, 1.03))


def value_distribution(predictions: pa.Table, bins: Bins, name: str) -> bytes:
    """Regression: median and quartiles of the predicted values of `name` over time (PNG)."""
    from mm_assets.display.pictures import short

    values = as_floats(predictions["prediction"])
    middle = f"median {written_out(float(np.median(values)))}, " if len(values) else ""
    title = f"Predicted values: {middle}{in_records(len(values))}"
    return _quartiles_over_time(values, bins, title, f"predicted {short(name, LONGEST_LABEL)}")


def _quartiles_over_time(
    values: Floats,
    bins: Bins,
    title: str,
    name: str,
    threshold: float | None = None,
    limits: tuple[float, float] | None = None,
) -> bytes:
    from mm_assets.display import pictures

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
        top.yaxis.set_major_formatter("{x:,.10g}")
        top.set_ylabel(name)
        top.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        draw_amounts(bottom, bins)
        return pictures.to_png(fig)


def class_balance(predictions: pa.Table, bins: Bins, expected: dict[str, int] | None) -> bytes:
    """The share of each predicted class over time, against that of the training labels (PNG)."""
    from mm_assets.display import pictures

    classes = class_amounts(predictions, expected, bins)
    bright = [color for color in pictures.PALETTE if color != pictures.BLACK]
    colors = [*bright[: len(classes.names) - 1], pictures.PALE]
    said = _shares(classes.amounts.sum(axis=1))
    labels = [f"{name}: {share:.0%}" for name, share in zip(classes.names, said, strict=True)]
    legend = "share of predictions"
    if classes.expected is not None:
        parts = zip(classes.names, classes.expected, said, strict=True)
        labels = [f"{name}: {before:.0%} → {now:.0%}" for name, before, now in parts]
        legend = "training → predictions"
    title = f"Predicted classes of {in_records(predictions.num_rows)}"
    with pictures.figure(WIDTH, HEIGHT + 0.3, title) as fig:
        axes = fig.subplots()
        _draw_shares(axes, bins, classes.amounts, colors)
        if classes.expected is not None:
            _draw_training(axes, classes.expected, colors)
        _name_parts(axes, labels, classes.there, colors, legend)
        return pictures.to_png(fig)


def image_share(predictions: pa.Table, bins: Bins) -> bytes:
    """The share of records that were predicted with and without an image, over time (PNG)."""
    from mm_assets.display import pictures

    with_image = _is_with_image(predictions)
    amounts = _counted(np.where(with_image, 0, 1), 2, bins)
    share = float(with_image.mean()) if len(with_image) else 0.0
    title = f"With an image: {share:.1%} of {in_records(len(with_image))}"
    with pictures.figure(WIDTH, HEIGHT, title) as fig:
        axes = fig.subplots()
        labels, colors = ["with image", "without image"], [pictures.BLUE, pictures.ORANGE]
        _draw_shares(axes, bins, amounts, colors)
        _name_parts(axes, labels, (amounts.sum(axis=1) > 0).tolist(), colors)
        return pictures.to_png(fig)


def rejects_by_code(counts: dict[str, int], title: str, things: str) -> bytes | None:
    """How many rows or files were refused by each code, most first (PNG); None if none was."""
    refused = {code: count for code, count in counts.items() if count}
    return ranked_bars(refused, title, things, "{:,}".format) if refused else None


def ranked_bars(
    values: dict[str, int] | dict[str, float],
    title: str,
    meaning: str,
    written: Callable[[float], str],
    limit: float | None = None,
) -> bytes:
    """One bar for each name, the greatest first, those above the limit in another colour (PNG)."""
    from matplotlib.ticker import MaxNLocator

    from mm_assets.display import pictures

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
            axes.annotate(
                f"limit {limit:g}", (limit, 1), (0, 2), xycoords=axes.get_xaxis_transform(),
                textcoords="offset points", ha="center", va="bottom", fontsize=8,
            )  # fmt: skip
        axes.set_yticks(range(len(amounts)), told_apart(ranked[:MOST_BARS]))
        axes.set_ylim(len(amounts) - 0.4, -0.6)
        axes.set_xlim(0, 1.15 * max(*amounts, limit or 0))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=limit is None))
        axes.xaxis.set_major_formatter("{x:,.10g}")
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(f"{meaning}; {rest} smaller ones are not shown" if rest else meaning)
        return pictures.to_png(fig)


# -- parts of pictures ----------------------------------------------------------------------------


def draw_amounts(axes: Axes, bins: Bins) -> None:
    from matplotlib.ticker import MaxNLocator

    from mm_assets.display import pictures

    n = np.bincount(bins.codes, minlength=len(bins.labels))
    axes.bar(bins.places, n, color=pictures.PALE, width=0.7)
    axes.set_ylabel("records")
    axes.set_ylim(0, 1.25 * max(n.max(initial=0), 1))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))
    axes.yaxis.set_major_formatter("{x:,.0f}")
    if len(n) <= 12:
        axes.grid(visible=False)
        for place, count in enumerate(n):
            axes.annotate(
                f"{count:,}", (place, count), (0, 1), textcoords="offset points", ha="center",
                fontsize=7, color=pictures.GREY,
            )  # fmt: skip
    name_bins(axes, bins)


def _draw_shares(axes: Axes, bins: Bins, amounts: Floats, colors: Sequence[str]) -> None:
    """Stacked bars that add up to one."""
    _stack(axes, bins.places, _shares(amounts), 0.8, colors)
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.set_ylabel("share of records")
    name_bins(axes, bins)


def _stack(axes: Axes, places: Any, shares: Floats, width: float, colors: Sequence[str]) -> None:
    floor = np.zeros(shares.shape[1])
    for share, color in zip(shares, colors, strict=True):
        axes.bar(
            places, share, bottom=floor, width=width, color=color, edgecolor="white", linewidth=0.4
        )
        floor += share


def _name_parts(
    axes: Axes,
    labels: Sequence[str],
    there: Sequence[bool],
    colors: Sequence[str],
    title: str | None = None,
) -> None:
    """The legend of stacked bars, in their order; a part that is nowhere is left out."""
    from matplotlib.patches import Patch

    parts = zip(labels, there, colors, strict=True)
    handles: list[Any] = [Patch(color=color, label=label) for label, is_there, color in parts
                          if is_there][::-1]  # fmt: skip
    handles += axes.get_legend_handles_labels()[0]
    axes.legend(
        handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5), title=title,
        title_fontsize=8, alignment="left",
    )  # fmt: skip


def _draw_training(axes: Axes, shares: Floats, colors: Sequence[str]) -> None:
    """One more stacked bar to the left, set apart: what the training labels were.

    Where few classes leave room for it, lines lead its steps through all bars.
    """
    left, right = axes.get_xlim()
    wide = max(0.8, (right - left) / 12)
    place = left - 0.9 * wide
    _stack(axes, [place], shares[:, None], wide, colors)
    axes.axvline(left, color="black", linewidth=0.8)
    steps = np.cumsum(shares)
    steps = steps[(steps > 0) & (steps < 1 - 1e-9)]
    if len(steps) <= MOST_LINES:
        for number, step in enumerate(steps):
            label = "_more" if number else "as in training"
            axes.plot(
                [place + wide / 2, right], [step, step], color="black", linestyle="--",
                linewidth=1, label=label,
            )  # fmt: skip
    axes.set_xlim(place - 0.7 * wide, right)
    ticks, names = list(axes.get_xticks()), [t.get_text() for t in axes.get_xticklabels()]
    axes.set_xticks([place, *ticks], ["training\nlabels", *names])


# -- numbers --------------------------------------------------------------------------------------


class ClassAmounts(NamedTuple):
    """How often each class was predicted, the last one being all classes that have no colour."""

    names: list[str]  # as labels
    amounts: Floats  # records [class, bin]
    expected: Floats | None  # share of the training labels [class]; None where there are none

    @property
    def there(self) -> list[bool]:
        """Whether a class is anywhere in the picture."""
        weights = self.amounts.sum(axis=1)
        seen = weights if self.expected is None else weights + self.expected
        return [weight > 0 for weight in seen.tolist()]


def class_amounts(
    predictions: pa.Table, expected: dict[str, int] | None, bins: Bins
) -> ClassAmounts:
    """Count predictions by class and bin; `expected` holds the training labels and their counts."""
    expected = expected or {}
    names = predictions["prediction"].combine_chunks().dictionary_encode()
    found = names.dictionary.to_pylist()
    place = names.indices.to_numpy(zero_copy_only=False)
    counts = dict(zip(found, np.bincount(place, minlength=len(found)).tolist(), strict=True))
    shown, others = _classes_shown(counts, expected)
    row = np.array([shown.index(n) if n in shown else len(shown) for n in found], dtype=np.int64)
    amounts = _counted(row[place], len(shown) + 1, bins)
    before = [expected.get(name, 0) for name in shown]
    before.append(sum(expected.values()) - sum(before))
    return ClassAmounts(
        names=[*told_apart(shown), f"{others} other classes"],
        amounts=amounts,
        expected=_shares(np.array(before, dtype=float)) if sum(before) else None,
    )


def _counted(part: npt.NDArray[np.int64], n_parts: int, bins: Bins) -> Floats:
    """How many records there are [part, bin]; `part` is that of each record."""
    n = len(bins.labels)
    counts = np.bincount(part * n + bins.codes, minlength=n_parts * n)
    return counts.reshape(n_parts, n).astype(np.float64)


def _shares(amounts: Floats) -> Floats:
    """Each column divided by its sum; 0 where a column is empty."""
    return amounts / np.maximum(amounts.sum(axis=0), 1)


def in_records(n: int) -> str:
    return f"{n:,} record{'' if n == 1 else 's'}"


def as_floats(column: Any) -> Floats:
    import pyarrow as pa

    return np.asarray(column.cast(pa.float64()).to_numpy(), dtype=np.float64)


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


def told_apart(names: Sequence[str]) -> list[str]:
    """Names as labels. Long ones that begin alike are cut before where they begin to differ."""
    from mm_assets.display.pictures import short

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
            end = short(name[differs - 6 :], LONGEST_LABEL - 8)
            label = f"{name[: LONGEST_LABEL - 1 - len(end)]}…{end}"
        labels.append(label)
    return labels
