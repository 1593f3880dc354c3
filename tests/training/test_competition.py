"""Candidates are shown from best to worst, whichever way the metric turns."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image

from mm_assets.training.competition import competition_picture, in_words, ranked


def row(name: str, figure: float, promoted: bool = False, seconds: float = 1.0) -> dict[str, Any]:
    metrics = {"accuracy": figure, "log_loss": figure, "mean_absolute_error": figure}
    return {"name": name, "metrics": metrics, "promoted": promoted, "seconds": seconds}


@pytest.mark.parametrize(
    ("metric", "order"),
    [("accuracy", "bdac"), ("log_loss", "cadb"), ("mean_absolute_error", "cadb")],
)
def test_the_best_candidate_stands_first(metric: str, order: str) -> None:
    rows = [row("a", 0.5), row("b", 0.9), row("c", 0.1), row("d", 0.7)]
    assert "".join(each["name"] for each in ranked(rows, metric)) == order


@pytest.mark.parametrize("metric", ["accuracy", "log_loss"])
def test_equal_candidates_keep_their_order(metric: str) -> None:
    assert [each["name"] for each in ranked([row("b", 0.5), row("a", 0.5)], metric)] == ["b", "a"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.0, "below 0.1 s"), (0.31, "0.3 s"), (12.4, "12 s"), (210, "3.5 min"), (7560, "2.1 h")],
)
def test_a_duration_is_told_in_the_unit_that_fits(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


@pytest.mark.parametrize("winner", [True, False])
@pytest.mark.parametrize(
    ("metric", "baseline"), [("accuracy", 0.5), ("log_loss", 34.5), ("mean_absolute_error", 0.0)]
)
def test_the_competition_can_be_drawn(metric: str, baseline: float, winner: bool) -> None:
    rows = [row("rules", 0.0), row("my.engine:" + "Long" * 20, 0.8, promoted=winner)]
    with Image.open(io.BytesIO(competition_picture(rows, metric, baseline))) as picture:
        assert picture.format == "PNG"
        assert picture.width == 770
