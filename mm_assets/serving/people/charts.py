"""Charts as plain shapes, which a template draws as SVG: colours and letters are the page's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import floor, isfinite
from typing import Any

WIDTH, HEIGHT = 360, 230
MOST_IN_REVIEW = 0.7  # that is drawn: what is left beyond are few records
LEFT, RIGHT, TOP, BOTTOM = 46, 22, 26, 40  # around what is drawn


@dataclass(frozen=True)
class Tick:
    at: float
    text: str


@dataclass
class Chart:
    """title: what it shows, in words, for those who don't see it. paths: class to `d` of a path.
    points: x, y and radius. All in a box of WIDTH by HEIGHT."""

    title: str
    x_label: str
    y_label: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    paths: list[tuple[str, str]] = field(default_factory=list)
    points: list[tuple[float, float, float]] = field(default_factory=list)


@dataclass(frozen=True)
class _Frame:
    """Where a figure lies in the box."""

    x: tuple[float, float]
    y: tuple[float, float]

    def at(self, x: float, y: float) -> tuple[float, float]:
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return (
            round(LEFT + across * (WIDTH - LEFT - RIGHT), 1),
            round(HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM), 1),
        )

    def path(self, points: Sequence[tuple[float, float]]) -> str:
        return "M" + " L".join("{} {}".format(*self.at(x, y)) for x, y in points)

    def ticks(self, across: Sequence[float], up: Sequence[float]) -> tuple[list[Tick], list[Tick]]:
        return (
            [Tick(self.at(x, self.y[0])[0], f"{x:.0%}") for x in across],
            [Tick(self.at(self.x[0], y)[1], f"{y:.0%}") for y in up],
        )


def risk_coverage_chart(
    rows: Sequence[Mapping[str, float]], share: float, target: float | None
) -> Chart | None:
    """How many of the rest are right, by the share in review; rows as `risk_coverage` has them.

    share: what goes to review now. target: the accuracy that is asked for.
    """
    rows = [row for row in rows if row["share"] <= MOST_IN_REVIEW]
    if len(rows) < 2:
        return None
    lowest = min(*(row["at_least"] for row in rows), target or 1.0)
    low = min(floor(lowest * 10) / 10, 0.9)
    frame = _Frame((0.0, max(0.5, *(row["share"] for row in rows))), (low, 1.0))
    across = [x for x in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0) if x <= frame.x[1]]
    step = 0.1 if 1.0 - low > 0.25 else 0.05
    up = [low + step * n for n in range(round((1.0 - low) / step) + 1)]
    chart = Chart(
        f"{rows[0]['accuracy']:.0%} are right with nothing in review, {rows[-1]['accuracy']:.0%} "
        f"of the rest with {rows[-1]['share']:.0%} in review; now {share:.0%} are",
        "in review", "right, of the rest", *frame.ticks(across, up),
    )  # fmt: skip
    if target is not None:
        chart.paths.append(("wish", frame.path([(frame.x[0], target), (frame.x[1], target)])))
    if share <= frame.x[1]:
        chart.paths.append(("now", frame.path([(share, low), (share, 1.0)])))
    for name, kind in (("at_least", "careful"), ("accuracy", "curve")):
        chart.paths.append((kind, frame.path([(row["share"], row[name]) for row in rows])))
    return chart


def calibration_chart(bins: Sequence[Mapping[str, float]], off: float) -> Chart | None:
    """How often answers of each confidence were right; bins as `calibration_bins` has them."""
    if not bins:
        return None
    frame = _Frame((0.0, 1.0), (0.0, 1.0))
    fifths = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    title = f"Confidence and the share that is right differ by {100 * off:.1f} points on average"
    chart = Chart(title, "confidence", "right", *frame.ticks(fifths, fifths))
    chart.paths.append(("wish", frame.path([(0, 0), (1, 1)])))
    most = max(row["count"] for row in bins)
    points = [(row["confidence"], row["right"], row["count"]) for row in bins]
    chart.paths.append(("curve", frame.path([(x, y) for x, y, _ in points])))
    chart.points = [(*frame.at(x, y), round(3 + 5 * (n / most) ** 0.5, 1)) for x, y, n in points]
    return chart


def scale_of(prediction: Any, lower: float | None, upper: float | None) -> dict[str, float] | None:
    """Where a number and its interval lie on a bar, in hundredths of its width."""
    if lower is None or upper is None:
        return None
    try:
        value = float(prediction)
    except ValueError:
        return None
    margin = (upper - lower) * 0.25 or 1.0
    low, width = lower - margin, upper - lower + 2 * margin
    if not isfinite(width) or width <= 0:
        return None
    at = [100 * (one - low) / width for one in (lower, value, upper)]
    return {"lower": at[0], "value": min(max(at[1], 0.0), 100.0), "width": at[2] - at[0]}
