"""Charts so small that Dagster's UI shows them at once: SVG inside of Markdown.

The UI hides longer Markdown behind a click, so every chart keeps below its limit. All are drawn
from numbers alone; nothing that came from data is written into the SVG.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mm_assets.display.pictures import BLUE, GREY, ORANGE

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mm_assets.contract.dataset import DatasetSpec

LIMIT = 1000  # characters; what is as long or longer is hidden (MetadataEntry.tsx of Dagster's UI)
WIDTH, HEIGHT, FOOT = 240, 56, 14  # pixels; the foot holds the numbers below the axis
BINS = 10
MOST_POINTS = 24


def confidence_bars(
    confidence: npt.NDArray[np.floating], in_review: npt.NDArray[np.bool_], least: float
) -> str:
    """How many records have which confidence, as Markdown; those in review are orange.

    confidence: of each record, NaN where there is none. least: where the axis begins, 0 to below 1.
    Empty where nothing has a confidence.
    """
    counts = confidence_counts(confidence, in_review, least)
    return count_bars(*counts, least) if sum(map(sum, counts)) else ""


def least_of(spec: DatasetSpec) -> float:
    """Where the axis of confidence begins: of two classes the more probable has half at least."""
    return 0.5 if spec.problem_type == "binary" else 0.0


def confidence_counts(
    confidence: npt.NDArray[np.floating], in_review: npt.NDArray[np.bool_], least: float
) -> tuple[list[int], list[int]]:
    """Records in each of ten equal bins from `least` to 1: those that pass, those in review.

    What lies outside counts in the bin at that end; NaN counts nowhere.
    """
    import numpy as np

    there = ~np.isnan(confidence)
    values, asked = np.clip(confidence[there], least, 1), in_review[there]
    edges = np.linspace(least, 1, BINS + 1)
    passed, review = (np.histogram(values[chosen], edges)[0] for chosen in (~asked, asked))
    return passed.tolist(), review.tolist()


def count_bars(passed: Sequence[int], review: Sequence[int], least: float) -> str:
    """The bars of `confidence_counts`, and the same in words."""
    most = max(map(sum, zip(passed, review, strict=True))) or 1
    step = WIDTH / len(passed)
    blue, orange = [], []
    for place, (sure, asked) in enumerate(zip(passed, review, strict=True)):
        left, wide = round(place * step), round(step) - 2
        low = round(HEIGHT * asked / most)
        high = round(HEIGHT * sure / most)
        if sure:
            blue.append(f"M{left} {HEIGHT - low}v-{max(high, 1)}h{wide}v{max(high, 1)}z")
        if asked:
            orange.append(f"M{left} {HEIGHT}v-{max(low, 1)}h{wide}v{max(low, 1)}z")
    drawn = (
        f"<path d='{''.join(blue)}' fill='{BLUE}'/><path d='{''.join(orange)}' fill='{ORANGE}'/>"
    )
    total, asked = sum(passed) + sum(review), sum(review)
    words = f"{total:,} records, {asked:,} of them in review (orange)"
    return _markdown(drawn, f"{least:.3g}", "confidence 1", words)


def share_line(
    places: Sequence[float], shares: Sequence[float], left: str, right: str, words: str
) -> str:
    """A line through shares (0 to 1) at these places, as Markdown.

    left, right: what stands at the ends of the axis. Of more than 24 points as many are drawn, with
    the first and the last. The bottom is the lowest tenth below the shares, the top 1. Empty with
    fewer than two points.
    """
    if len(places) < 2:
        return ""
    last, few = len(places) - 1, min(len(places), MOST_POINTS)
    chosen = [round(i * last / (few - 1)) for i in range(few)]
    bottom = min(int(10 * min(shares)) / 10, 0.9)
    wide = (WIDTH - 4) / ((places[last] - places[0]) or 1)
    high = (HEIGHT - 4) / (1 - bottom)
    points = [
        f"{2 + (places[i] - places[0]) * wide:.0f} {2 + (1 - shares[i]) * high:.0f}" for i in chosen
    ]
    drawn = f"<path d='M{'L'.join(points)}' fill='none' stroke='{BLUE}' stroke-width='2'/>"
    return _markdown(drawn, left, right, f"{words} (from {bottom:.0%} to 100%)")


def _markdown(drawn: str, left: str, right: str, words: str) -> str:
    svg = (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{HEIGHT + FOOT}'>{drawn}"
        f"<path d='M0 {HEIGHT}h{WIDTH}' stroke='{GREY}'/><g font-size='11' fill='{GREY}' "
        f"font-family='sans-serif'><text y='{HEIGHT + 12}'>{left}</text>"
        f"<text x='{WIDTH}' y='{HEIGHT + 12}' text-anchor='end'>{right}</text></g></svg>"
    )
    data = base64.b64encode(svg.encode()).decode()
    return f"![](data:image/svg+xml;base64,{data})\n\n{words}"
