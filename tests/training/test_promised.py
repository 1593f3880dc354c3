"""What people are told of a stored model's promise, and when its checks warn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mm_assets.contract.review import Tolerance
from mm_assets.doubt.calibration import Calibration
from mm_assets.training.promised import coverage_is_kept, promised, target_is_kept
from tests.make import dataset


def manifest(right: float = 1.0, n: int = 1000, **noted: Any) -> dict[str, Any]:
    """Of a model that is right as often as it is sure; `right` of those above 0.9."""
    draw = np.random.default_rng(0)
    confidence = np.sort(draw.uniform(0.5, 1, n).round(6))
    sure = confidence > 0.9
    hits = np.where(sure, draw.random(n) < right, draw.random(n) < confidence)
    document = {
        "source": "out of fold", "sureness": 1.0, "n": n, "confidence": confidence.tolist(),
        "right": "".join("01"[int(hit)] for hit in hits),
    }  # fmt: skip
    return {"calibration": document, "promise": noted}


def held_out(found: Any, **figures: Any) -> dict[str, Any]:
    """What a training notes of its promise and of the held-out records."""
    told = {"n": 400, "share": 0.5, "accuracy": 0.99, "errors": 60, "errors_caught": 58}
    return {"by": "confidence", "limit": found.promise.limit, "held_out": {**told, **figures}}


def test_what_goes_to_review_and_what_the_rest_reaches_are_figures_in_words() -> None:
    spec = dataset(review={"target_accuracy": 0.95})
    plain = promised(spec, manifest())
    found = promised(spec, manifest(**held_out(plain)))
    assert found.is_reached
    assert found.remedy == ""
    rows = {row["figure"]: row for row in found.table()}
    assert rows["asked for"]["expected"] == "95.0%"
    assert rows["share in review"]["held-out"] == "50.0%"
    assert rows["the rest is right"] == {
        "figure": "the rest is right", "expected": f"{found.promise.accuracy:.1%}",
        "held-out": "99.0%",
    }  # fmt: skip
    assert rows["errors that review catches"]["held-out"] == "58 of 60"
    assert rows["records"] == {"figure": "records", "expected": "1,000", "held-out": "400"}
    assert "truth from lower to upper" not in rows  # these are classes


def test_figures_of_another_wish_are_not_told_as_this_one_s() -> None:
    plain = promised(dataset(review={"target_accuracy": 0.95}), manifest())
    noted = manifest(**held_out(plain))
    found = promised(dataset(review={"largest_share": 0.1}), noted)
    assert found.promise.share == pytest.approx(0.1, abs=0.01)
    assert found.held_out == {"n": 400}
    assert promised(dataset(), {"metrics": {}}) is None


def test_the_curve_has_about_ten_shares_and_rises() -> None:
    found = promised(dataset(review={"largest_share": 0.1}), manifest())
    shares = [row["share"] for row in found.curve]
    assert 8 <= len(shares) <= 10
    assert shares == sorted(set(shares))
    assert shares[0] == 0
    assert found.curve[-1]["accuracy"] > found.curve[0]["accuracy"] + 0.1
    table = found.curve_table()
    assert table[0]["in review"] == "0.0%"
    assert table[0]["records left"] == "1,000"
    assert f"0%: {found.curve[0]['accuracy']:.1%}, " in found.curve_in_words()


def test_a_target_that_the_queue_is_too_short_for_is_told_with_the_share_that_it_takes() -> None:
    wish = {"target_accuracy": 0.95, "largest_share": 0.1}
    found = promised(dataset(review=wish), manifest())
    enough = promised(dataset(review={"target_accuracy": 0.95}), manifest())
    assert not found.is_reached
    assert f"95.0% takes {enough.promise.share:.1%} of the records" in found.remedy
    verdict = target_is_kept(found)
    assert not verdict.passed
    assert "CANNOT be promised with at most 10%" in verdict.words
    assert found.remedy in verdict.words
    never = promised(dataset(review={"target_accuracy": 0.999}), manifest(right=0.9))
    assert "however many go to review" in never.remedy
    assert not target_is_kept(never).passed


def test_held_out_records_that_speak_against_the_promise_are_a_warning_and_chance_is_none() -> None:
    spec = dataset(review={"target_accuracy": 0.95})
    plain = promised(spec, manifest())
    for accuracy, passed in ((0.99, True), (0.94, True), (0.85, False)):
        found = promised(spec, manifest(**held_out(plain, accuracy=accuracy)))
        verdict = target_is_kept(found)
        assert verdict.passed is passed, accuracy
        assert f"of the 200 held-out records outside review {accuracy:.1%} are right" in (
            verdict.words
        )
    without = promised(dataset(review={"threshold": 0.6}), manifest())
    assert target_is_kept(without).passed


def test_answers_by_other_costs_wait_for_a_training() -> None:
    costs = {"cat": {"dog": 5}}
    spec = dataset(review={"target_accuracy": 0.95}, costs=costs)
    found = promised(spec, manifest())
    assert found.curve_table() == []
    assert "mm train" in found.remedy
    assert not target_is_kept(found).passed


@pytest.mark.parametrize(
    ("coverage", "n", "learnt", "passed"),
    [
        (0.9, 400, 1000, True),
        (1.0, 400, 1000, True),
        (0.88, 400, 1000, True),
        (0.8, 400, 1000, False),
        (0.8, 40, 1000, True),  # 32 of 40 may be chance
        (0.83, 400, 30, True),  # and so may intervals that were learnt from 30 records
    ],
)
def test_numbers_outside_their_interval_are_a_warning_where_chance_does_not_explain_them(
    coverage: float, n: int, learnt: int, passed: bool
) -> None:
    told = {"n": n, "level": 0.9, "coverage": coverage, "width": 0.3}
    verdict = coverage_is_kept({"promise": {"n": learnt, "held_out": told}})
    assert verdict.passed is passed, verdict.words
    assert f"{coverage:.1%} of {n} held-out numbers" in verdict.words


def test_how_often_coverage_warns_of_a_model_that_keeps_its_level() -> None:
    """At most two in a hundred, though both sides are few records."""
    draw, warned = np.random.default_rng(3), 0
    for _ in range(200):
        values, errors = draw.uniform(100, 200, 300), draw.normal(0, 10, 300)
        document = Calibration.of_numbers(
            values[:150], (values + errors)[:150], source="out of fold", level=0.9,
            tolerance=Tolerance(10.0),
        )  # fmt: skip
        lower, upper = document.intervals.of(values[150:])
        truth = (values + errors)[150:]
        inside = float(np.mean((lower <= truth) & (truth <= upper)))
        told = {"n": 150, "level": 0.9, "coverage": inside, "width": 0.3}
        warned += not coverage_is_kept({"promise": {"n": 150, "held_out": told}}).passed
    assert warned <= 4


def test_a_number_says_where_the_truth_lies() -> None:
    draw = np.random.default_rng(1)
    values = draw.uniform(100, 200, 500)
    truth = values * draw.normal(1, 0.1, 500)
    kept = Calibration.of_numbers(
        values, truth, source="out of fold", level=0.9, tolerance=Tolerance(0.1, is_share=True)
    )
    spec = dataset(
        problem_type="regression", classes=None, image_name=None, review={"widest_interval": 0.3}
    )
    held = {"n": 100, "level": 0.9, "coverage": 0.91, "width": 0.33, "share": 0.4}
    noted = {"by": "width", "limit": 0.3, "n": 500, "held_out": held}
    found = promised(spec, {"calibration": kept.to_json(), "promise": noted})
    rows = {row["figure"]: row for row in found.table()}
    assert rows["to review: interval wider than"]["expected"] == "0.3"
    assert rows["truth from lower to upper"]["expected"] == "90.0%"
    assert rows["truth from lower to upper"]["held-out"] == "91.0%"
    assert rows["share in review"]["held-out"] == "40.0%"
    assert "interval up to" in found.curve_table()[0]
