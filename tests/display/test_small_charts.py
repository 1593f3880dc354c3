"""Charts that Dagster's UI shows without a click: short enough, and showing what was counted."""

from __future__ import annotations

import base64
import re
from xml.etree import ElementTree as ET

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mm_assets.display.small_charts import (
    BINS,
    LIMIT,
    confidence_bars,
    confidence_counts,
    count_bars,
    share_line,
)

AMOUNTS = st.lists(st.integers(0, 10**9), min_size=BINS, max_size=BINS)
SHARES = st.lists(st.floats(0, 1), min_size=2, max_size=200)


def paths(markdown: str) -> list[str]:
    """The paths of the SVG, which has to be well-formed."""
    found = re.match(r"!\[\]\(data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)\)\n\n", markdown)
    assert found is not None
    tree = ET.fromstring(base64.b64decode(found[1]))  # noqa: S314  our own
    return [one.attrib["d"] for one in tree.iter("{http://www.w3.org/2000/svg}path")]


@given(AMOUNTS, AMOUNTS)
def test_bars_are_short_enough_whatever_was_counted(passed: list[int], review: list[int]) -> None:
    drawn = count_bars(passed, review, 0.5)
    assert len(drawn) < LIMIT
    blue, orange, _axis = paths(drawn)
    assert blue.count("M") == sum(map(bool, passed))
    assert orange.count("M") == sum(map(bool, review))
    assert f"{sum(passed) + sum(review):,} records" in drawn


@given(SHARES)
def test_lines_are_short_enough_and_end_where_the_series_ends(shares: list[float]) -> None:
    drawn = share_line(range(len(shares)), shares, "0% in review", "100%", "Words " * 8)
    assert len(drawn) < LIMIT
    line, _axis = paths(drawn)
    assert line.startswith("M2 ")
    assert line.split("L")[-1].startswith("238 ")
    assert all(0 <= int(point.split()[1]) <= 56 for point in line[1:].split("L"))


def test_each_record_counts_once_and_nothing_is_drawn_of_nothing() -> None:
    confidence = np.array([0.5, 0.55, 1.0, 0.2, np.nan])
    in_review = np.array([True, False, False, True, True])
    passed, review = confidence_counts(confidence, in_review, 0.5)
    assert passed == [0, 1, *[0] * 7, 1]
    assert review == [2, *[0] * 9]
    assert confidence_bars(confidence[4:], in_review[4:], 0.5) == ""
    assert share_line([0], [1], "", "", "") == ""
