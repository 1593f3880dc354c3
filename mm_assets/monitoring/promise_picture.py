"""The picture of what was promised of the answers that nobody reviews, beside what became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mm_assets.monitoring.charts import HEIGHT, WIDTH, draw_amounts, in_records
from mm_assets.monitoring.live import Floats, mean_in_bins, wilson
from mm_assets.monitoring.promises import FEWEST_LABELS, Kept, is_broken
from mm_assets.monitoring.timeline import Bins, time_bins

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def promise_picture(kept: Sequence[Kept], documents: Sequence[Mapping[str, Any]]) -> bytes | None:
    """Of answers outside review: the share right over time, for numbers also the share inside their
    interval, each with what was promised (PNG); None without any.

    kept: of each model; documents: `judged` of those that have labels.
    """
    import pyarrow as pa

    from mm_assets.display import pictures

    some = [one for one in kept if len(one.right)]
    if not some:
        return None
    bins = time_bins(pa.concat_tables([one.table.select(["upload"]) for one in some]))
    drawn = [("right", _joined([(one.right, one.promised) for one in some]))]
    covered = [(one.inside, one.coverage) for one in some]
    if all(inside is not None for inside, _ in covered):
        drawn.append(("inside interval", _joined(covered)))
    n = len(bins.codes)
    told = "promise BROKEN" if any(map(is_broken, documents)) else "promise kept"
    if all(one["n"] < FEWEST_LABELS for one in documents):
        told = "too few labels to tell"
    title = f"Nobody reviews these {in_records(n)}: {told}"
    with pictures.figure(WIDTH, HEIGHT + 0.5 + 1.6 * (len(drawn) - 1), title) as fig:
        *rows, bottom = fig.subplots(
            len(drawn) + 1, 1, sharex=True, height_ratios=[*[3] * len(drawn), 1]
        )
        for axes, (name, (good, promised)) in zip(rows, drawn, strict=True):
            _draw(axes, bins, good, promised, name)
        draw_amounts(bottom, bins)
        return pictures.to_png(fig)


def _joined(parts: Sequence[tuple[Any, Any]]) -> tuple[Floats, Floats]:
    """For each record whether it is good, and the share that was promised."""
    good = np.concatenate([one for one, _ in parts]).astype(float)
    return good, np.concatenate([np.full(len(one), promised) for one, promised in parts])


def _draw(axes: Axes, bins: Bins, good: Floats, promised: Floats, name: str) -> None:
    from mm_assets.display import pictures

    share, n = mean_in_bins(good, bins)
    target, _ = mean_in_bins(promised, bins)
    low, high = wilson(share, n)
    axes.vlines(bins.places, low, high, color=pictures.SKY, linewidth=5, label="95% range")
    axes.plot(bins.places, share, color=pictures.BLUE, marker="o", ms=4, label=f"share {name}")
    axes.hlines(
        target, bins.places - 0.5, bins.places + 0.5, color=pictures.VERMILION, linestyle="--",
        label=f"promised: {promised.mean():.1%}",
    )  # fmt: skip
    least = min(0.5, float(np.nanmin(low)), float(np.nanmin(target)))
    axes.set_ylim(least - 0.03, 1.03)
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.set_ylabel(name)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
