"""What the review queue promises is kept, takes few records, and says when it can't be promised."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_assets.contract.review import Review
from mm_assets.doubt.promise import (
    Curve,
    lower_bound,
    promise_of,
    risk_coverage,
    upper_bound,
)

curves = st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=1, max_size=200).map(
    lambda rows: Curve(np.array([row[0] / 20 for row in rows]), np.array([row[1] for row in rows]))
)


def drawn(n: int, seed: int, sure: float = 4.0) -> Curve:
    """A model as sure as it is right: an answer of confidence p is right with probability p."""
    draw = np.random.default_rng(seed)
    confidence = 0.5 + 0.5 * draw.beta(sure, 1, n)
    return Curve(confidence.round(6), draw.random(n) < confidence)


def rest_of(curve: Curve, promise) -> float:  # noqa: ANN001
    kept = ~promise.to_review(curve.confidence, None)
    return float(curve.right[kept].mean()) if kept.any() else 1.0


@pytest.mark.parametrize("target", [0.85, 0.9, 0.95])
@pytest.mark.parametrize("n", [60, 300, 2000])
def test_a_promise_is_broken_at_most_once_in_ten_trainings(target: float, n: int) -> None:
    """With few records it is seldom made at all; what counts are broken ones among all."""
    review, world = Review(target_accuracy=target), drawn(200_000, 0)
    promises = [promise_of(review, drawn(n, seed), of_numbers=False) for seed in range(1, 201)]
    broken = [one.reached and rest_of(world, one) < target for one in promises]
    assert np.mean(broken) <= 0.15  # one in ten, and two standard errors more of 200
    if n == 2000:
        assert np.mean([one.reached for one in promises]) >= 0.95


@pytest.mark.parametrize("n", [300, 2000])
def test_a_delivery_a_quarter_as_large_reaches_the_target_by_its_own_count(n: int) -> None:
    review, reached = Review(target_accuracy=0.9), []
    for seed in range(200):
        promise = promise_of(review, drawn(n, seed), of_numbers=False)
        reached.append(not promise.reached or rest_of(drawn(n // 4, 9_000 + seed), promise) >= 0.9)
    assert np.mean(reached) >= 0.85


def test_the_more_records_are_known_the_fewer_go_to_review() -> None:
    review = Review(target_accuracy=0.95)
    shares = [
        np.mean([promise_of(review, drawn(n, seed), of_numbers=False).share for seed in range(40)])
        for n in (200, 1000, 5000)
    ]
    assert shares[0] > shares[1] > shares[2]
    curve = drawn(5000, 99)
    best = np.sort(curve.confidence)[::-1]
    right = curve.right[np.argsort(-curve.confidence)].cumsum() / np.arange(1, 5001)
    least = 1 - (np.flatnonzero(right >= 0.95)[-1] + 1) / len(best)
    assert shares[2] < least + 0.22


def test_nothing_goes_to_review_where_all_answers_reach_the_target() -> None:
    promise = promise_of(Review(target_accuracy=0.9), drawn(2000, 1, sure=60), of_numbers=False)
    assert promise.reached
    assert promise.share == 0


def test_a_target_that_cannot_be_shown_is_not_promised_and_everything_goes_to_review() -> None:
    draw = np.random.default_rng(2)
    guess = Curve(draw.random(500), draw.random(500) < 0.5)
    promise = promise_of(Review(target_accuracy=0.9), guess, of_numbers=False)
    assert not promise.reached
    assert promise.share == 1
    assert promise.accuracy is None
    assert promise.to_review(np.array([0.0, 0.99, 1.0]), None).all()
    assert "CANNOT be promised" in promise.words


def test_few_records_promise_nothing_however_right_they_are() -> None:
    perfect = Curve(np.linspace(0.9, 1, 20), np.ones(20, dtype=bool))
    assert not promise_of(Review(target_accuracy=0.95), perfect, of_numbers=False).reached


@given(curves, st.floats(0, 1))
def test_no_more_than_the_largest_share_goes_to_review(curve: Curve, share: float) -> None:
    for target in (None, 0.9):
        review = Review(largest_share=share, target_accuracy=target)
        promise = promise_of(review, curve, of_numbers=False)
        asked = promise.to_review(curve.confidence, None)
        assert asked.mean() <= share + 1e-9
        assert promise.share == pytest.approx(asked.mean())


def test_where_the_largest_share_is_too_small_the_words_say_what_is_reached() -> None:
    curve = drawn(3000, 3)
    review = Review(target_accuracy=0.97, largest_share=0.1)
    promise = promise_of(review, curve, of_numbers=False)
    assert not promise.reached
    assert promise.share == pytest.approx(0.1, abs=0.001)
    assert promise.accuracy is not None
    assert f"{promise.accuracy:.1%}" in promise.words
    assert "CANNOT be promised with at most 10%" in promise.words


@given(curves, st.floats(0, 1))
def test_a_threshold_is_what_it_always_was(curve: Curve, threshold: float) -> None:
    promise = promise_of(Review(threshold=threshold), curve, of_numbers=False)
    asked = promise.to_review(curve.confidence, None)
    assert asked.tolist() == (curve.confidence < threshold).tolist()


def test_a_model_about_which_nothing_is_known_has_the_usual_threshold() -> None:
    for curve in (None, Curve(np.empty(0), np.empty(0, dtype=bool))):
        promise = promise_of(Review.usual(), curve, of_numbers=False)
        assert promise.to_review(np.array([0.59, 0.6]), None).tolist() == [True, False]
        assert "before the next `mm train`" in promise.words


def test_numbers_go_to_review_by_the_width_of_their_interval() -> None:
    draw = np.random.default_rng(4)
    width = draw.gamma(2, 0.2, 2000)
    curve = Curve(draw.random(2000), draw.random(2000) > width / 4, width)
    widest = promise_of(Review(widest_interval=0.5), curve, of_numbers=True)
    asked = widest.to_review(np.array([0.0, 1.0]), np.array([0.4, 0.6]))
    assert asked.tolist() == [False, True]
    old = promise_of(Review(threshold=0.3), curve, of_numbers=True)
    assert old.to_review(np.array([0.2, 0.4]), np.array([9.0, 9.0])).tolist() == [True, False]


@given(curves)
def test_the_curve_is_the_plain_count(curve: Curve) -> None:
    for row in risk_coverage(curve, "confidence"):
        kept = curve.confidence >= row["limit"]
        assert row["kept"] == kept.sum()
        assert row["accuracy"] == pytest.approx(curve.right[kept].mean())
        assert row["at_least"] <= row["accuracy"]
        assert row["share"] == pytest.approx(1 - kept.mean())


@given(st.integers(1, 500), st.data())
def test_bounds_enclose_what_was_seen(n: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, n))
    assert 0 <= lower_bound(right, n) <= right / n <= upper_bound(right, n) <= 1


def test_the_bound_is_that_of_clopper_and_pearson() -> None:
    """The chance to see as many right, if the accuracy were the bound, is the risk."""
    from scipy.stats import binom

    bound = lower_bound(57, 60, risk=0.05)
    assert binom.sf(56, 60, bound) == pytest.approx(0.05)


@pytest.mark.parametrize("other", ["largest_share", "target_accuracy", "widest_interval"])
def test_two_wishes_that_contradict_are_refused(other: str) -> None:
    with pytest.raises(ValueError, match="write either"):
        Review.model_validate({"threshold": 0.5, other: 0.1})
