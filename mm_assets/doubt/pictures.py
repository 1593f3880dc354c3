"""How far answers can be relied on, in pictures: what review gains, and the intervals of numbers.

What belongs here: laying out the figures of promise.py and intervals.py. What does not: the look
(display/pictures.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mm_assets.display.cells import written_out
from mm_assets.doubt.promise import Curve, Promise, risk_coverage

FEWEST = 20  # records that are left; an accuracy of fewer says nothing
MOST_DRAWN = 400  # intervals


def review_picture(curve: Curve, promise: Promise, held_out: Curve | None = None) -> bytes | None:
    """The accuracy of what nobody looks at against the share in review, and the promise (PNG).

    curve: of answers out of fold, on which the promise rests; held_out: of records that judge it.
    None where nothing is known of the model.
    """
    from mm_assets.display import pictures

    rows = _with_enough(curve, promise)
    if not rows:
        return None
    shares = [row["share"] for row in rows]
    with pictures.figure(6.6, 4.2, _title(promise)) as fig:
        axes = fig.subplots()
        lowest, accuracy = ([row[name] for row in rows] for name in ("at_least", "accuracy"))
        axes.fill_between(shares, lowest, accuracy, color=pictures.SKY, alpha=0.25, linewidth=0)
        axes.plot(shares, accuracy, color=pictures.BLUE, label="expected (out of fold)")
        axes.plot(
            shares, lowest, color=pictures.BLUE, linestyle=":", linewidth=1.2, label="at least"
        )
        drawn = [*accuracy, *lowest]
        if judged := _with_enough(held_out, promise) if held_out is not None else []:
            drawn += [row["accuracy"] for row in judged]
            axes.plot(
                [row["share"] for row in judged], [row["accuracy"] for row in judged],
                color=pictures.ORANGE, label="held-out records",
            )  # fmt: skip
        if promise.target is not None:
            drawn.append(promise.target)
            axes.axhline(
                promise.target, color=pictures.GREEN, linestyle="--", linewidth=1.2,
                label=f"wanted: {promise.target:.1%}",
            )  # fmt: skip
        _mark(axes, promise, drawn)
        low = max(0.0, min(drawn) - 0.03)
        axes.set(xlim=(-0.01, max(shares) + 0.02), ylim=(low, 1.01 + 0.02 * (1 - low)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.set_xlabel("share of the records that a person looks at")
        axes.set_ylabel("of the rest, right")
        fig.legend(loc="outside lower left", ncols=3)
        return pictures.to_png(fig)


def _mark(axes: Any, promise: Promise, drawn: list[float]) -> None:
    """Where the review queue ends."""
    from mm_assets.display import pictures

    axes.axvline(promise.share, color=pictures.VERMILION, linewidth=1, alpha=0.5)
    if promise.accuracy is not None:
        drawn.append(promise.accuracy)
        axes.plot(
            [promise.share], [promise.accuracy], "o", color=pictures.VERMILION, markersize=7,
            label="the review queue",
        )  # fmt: skip


def _with_enough(curve: Curve, promise: Promise) -> list[dict[str, float]]:
    if not len(curve.right):
        return []
    by = promise.by if curve.width is not None else "confidence"
    rows = risk_coverage(curve, by)
    return [row for row in rows if row["kept"] >= min(FEWEST, len(curve.right))]


def _title(promise: Promise) -> str:
    if promise.accuracy is None or promise.at_least is None:
        return "Every record goes to review"
    title = f"{promise.share:.1%} in review: of the rest {promise.accuracy:.1%} are right"
    if promise.target is not None and not promise.reached:
        return f"{title}; {promise.target:.0%} can't be promised"
    return f"{title}, at least {promise.at_least:.1%}"


def interval_picture(values: Any, truth: Any, lower: Any, upper: Any, level: float) -> bytes:
    """Predicted numbers in ascending order, their intervals, and the truth (PNG).

    Of more than 400 records every so many-th is drawn.
    """
    from mm_assets.display import pictures

    said, true, low, high = (
        np.asarray(one, dtype=np.float64) for one in (values, truth, lower, upper)
    )
    inside = (low <= true) & (true <= high)
    title = f"{inside.mean():.1%} of {len(true):,} true values lie inside; wanted: {level:.0%}"
    order = np.argsort(said, kind="stable")
    if len(order) > MOST_DRAWN:
        order = order[np.linspace(0, len(order) - 1, MOST_DRAWN).round().astype(np.intp)]
    places = np.arange(len(order))
    with pictures.figure(6.6, 4.0, title) as fig:
        axes = fig.subplots()
        axes.fill_between(
            places, low[order], high[order], color=pictures.SKY, alpha=0.35, linewidth=0,
            step="mid", label="interval",
        )  # fmt: skip
        axes.plot(places, said[order], color=pictures.BLUE, linewidth=1.2, label="predicted")
        for kind, color, some in (
            ("truth, inside", pictures.BLACK, inside[order]),
            ("truth, outside", pictures.VERMILION, ~inside[order]),
        ):
            axes.plot(places[some], true[order][some], "o", color=color, markersize=3, label=kind)
        top = float(max(high[order].max(), np.quantile(true[order], 0.99)))
        bottom = float(min(low[order].min(), np.quantile(true[order], 0.01)))
        reach = 0.15 * (top - bottom) or 1.0
        axes.set_ylim(bottom - reach, top + reach)
        far = int(((true[order] < bottom - reach) | (true[order] > top + reach)).sum())
        axes.set_xlabel(
            "held-out records, by what is predicted"
            + (f" (not drawn: {far} true values far outside)" if far else "")
        )
        axes.yaxis.set_major_formatter(lambda value, _: written_out(value))
        axes.grid(visible=False, axis="x")
        axes.set_xticks([])
        fig.legend(loc="outside lower left", ncols=4)
        return pictures.to_png(fig)
