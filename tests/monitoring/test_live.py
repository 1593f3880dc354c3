"""Accuracy and calibration count only records whose label came later, and count them right."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from mm_assets.monitoring import live
from mm_assets.monitoring.timeline import time_bins
from mm_assets.training.answered import with_labels_as_predicted
from tests.make import dataset


def judged(said: list[str], labels: list[str | None], confidence: list[float]) -> pa.Table:
    return pa.table(
        {"prediction": said, "label": pa.array(labels, pa.string()), "upload": ["u"] * len(said),
         "confidence": pa.array(confidence, pa.float64())}
    )  # fmt: skip


def test_accuracy_counts_only_records_with_a_label() -> None:
    table = judged(["a", "b", "a", "a"], ["a", "a", None, "a"], [0.9] * 4)
    figures = live.live_figures(table, "multiclass")
    assert figures == {"n": 3, "accuracy": pytest.approx(2 / 3)}
    assert live.live_accuracy(table, "multiclass", minimum=0.8)


def test_a_label_in_another_spelling_is_right() -> None:
    table = judged(["1", "Yes", "0"], ["1.0", "yes ", None], [0.9] * 3)
    open_, listed = dataset(classes=None), dataset(classes=["Yes", "yes"])
    assert live.live_figures(with_labels_as_predicted(table, open_), "binary") == {
        "n": 2, "accuracy": 1.0,
    }  # fmt: skip
    assert with_labels_as_predicted(table, listed) is table


def test_the_error_of_a_regression_is_the_mean_absolute_one() -> None:
    table = judged(["1", "2.5"] * 20, ["2", "2"] * 20, [0.9] * 40)
    assert live.live_figures(table, "regression") == {"n": 40, "mean_absolute_error": 0.75}
    assert live.live_accuracy(table, "regression")
    assert live.live_calibration(table, "regression") is None


def test_without_labels_there_is_nothing_to_tell() -> None:
    table = judged(["a"], [None], [0.9])
    assert live.live_figures(table, "binary") == {}
    assert live.live_accuracy(table, "binary") is None
    assert live.live_calibration(table, "binary") is None


def test_the_calibration_error_is_the_gap_of_each_bin_weighted_by_its_records() -> None:
    """60 records at 0.95 of which 45 are right: off by 0.20. 40 at 0.55 of which 30: also 0.20,
    but to the other side. 20 without a label count for nothing."""
    labels: list[str | None] = ["a"] * 45 + ["b"] * 15 + ["a"] * 30 + ["b"] * 10 + [None] * 20
    table = judged(["a"] * 120, labels, [0.95] * 60 + [0.55] * 40 + [0.1] * 20)
    figures = live.live_figures(table, "binary")
    assert figures["calibration_error"] == pytest.approx(0.2)
    assert live.live_calibration(table, "binary")


@pytest.mark.parametrize("n", [29, 30])
def test_calibration_needs_30_labels(n: int) -> None:
    table = judged(["a"] * n, ["a"] * n, [1.0] * n)
    enough = n >= 30
    assert ("calibration_error" in live.live_figures(table, "binary")) == enough
    assert (live.live_calibration(table, "binary") is not None) == enough


def test_the_mean_over_time_has_gaps_where_no_label_is() -> None:
    keys = ["20261101-080000000-aa", "20261102-080000000-bb", "20261103-080000000-cc"]
    table = pa.table({"upload": pa.array([keys[0], keys[0], keys[2]])})
    mean, n = live.mean_in_bins(np.array([1.0, 0.0, 1.0]), time_bins(table))
    assert (mean.tolist(), n.tolist()) == ([0.5, 1.0], [2, 1])


@pytest.mark.parametrize(
    ("share", "n", "low", "high"),
    [(0.5, 10, 0.2366, 0.7634), (0.0, 10, 0.0, 0.2775), (0.9, 100, 0.8256, 0.9448)],
)
def test_the_range_of_a_share_is_that_of_wilson(
    share: float, n: int, low: float, high: float
) -> None:
    """Reference values from statsmodels' proportion_confint(method="wilson")."""
    found = live.wilson(np.array([share]), np.array([float(n)]))
    assert [float(end[0]) for end in found] == pytest.approx([low, high], abs=2e-4)
