"""Intervals hold at their level, are wide where errors are large, and are each record's own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_assets.contract.errors import ModelError
from mm_assets.contract.review import Tolerance
from mm_assets.doubt.intervals import Intervals

NEAR = Tolerance(1.0)
numbers = st.floats(-1e6, 1e6, allow_nan=False)
pairs = st.lists(st.tuples(numbers, numbers), min_size=1, max_size=120)


def learnt(pairs: list[tuple[float, float]], level: float = 0.9, near: float = 1.0) -> Intervals:
    predicted, truth = zip(*pairs, strict=True)
    return Intervals.learn(predicted, truth, level=level, tolerance=Tolerance(near))


def drawn(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Prices whose errors grow with the price, to one side more than to the other."""
    draw = np.random.default_rng(seed)
    truth = np.exp(draw.normal(10, 0.8, n))
    return truth * np.exp(draw.normal(0, 0.2, n) + 0.1 * draw.exponential(1, n)), truth


@given(pairs, st.lists(numbers, min_size=1, max_size=20), st.floats(0.51, 0.99))
def test_every_interval_holds_its_prediction_unless_no_label_can_lie_there(
    pairs: list[tuple[float, float]], values: list[float], level: float
) -> None:
    intervals = learnt(pairs, level)
    lower, upper = intervals.of(values)
    assert (lower <= upper).all()
    truth = np.array([pair[1] for pair in pairs])
    possible = np.array(values)
    if truth.min() >= 0:
        possible = possible.clip(min=0)
    elif truth.max() <= 0:
        possible = possible.clip(max=0)
    assert ((lower <= possible) & (possible <= upper)).all()


@given(pairs, st.lists(numbers, min_size=1, max_size=20))
def test_a_record_has_the_same_interval_alone_and_in_any_batch(
    pairs: list[tuple[float, float]], values: list[float]
) -> None:
    intervals = learnt(pairs)
    lower, upper = intervals.of(values)
    alone = [intervals.of([value]) for value in values]
    assert lower.tolist() == [one[0][0] for one in alone]
    assert upper.tolist() == [one[1][0] for one in alone]
    confidence = intervals.confidence(values)
    assert confidence.tolist() == [intervals.confidence([value])[0] for value in values]
    assert ((confidence >= 0) & (confidence <= 1)).all()


@given(st.data(), pairs)
def test_the_order_of_the_records_does_not_matter(
    data: st.DataObject, pairs: list[tuple[float, float]]
) -> None:
    shuffled = data.draw(st.permutations(pairs))
    values = np.linspace(-10, 10, 7)
    assert learnt(shuffled).of(values)[0].tolist() == learnt(pairs).of(values)[0].tolist()


@given(pairs, numbers)
def test_a_higher_level_never_has_narrower_intervals(
    pairs: list[tuple[float, float]], value: float
) -> None:
    narrow, wide = learnt(pairs, 0.7).of([value]), learnt(pairs, 0.95).of([value])
    assert wide[0][0] <= narrow[0][0]
    assert narrow[1][0] <= wide[1][0]


@given(pairs, numbers, st.floats(0, 1e3), st.floats(0, 1e3))
def test_a_wider_tolerance_never_lowers_confidence(
    pairs: list[tuple[float, float]], value: float, one: float, other: float
) -> None:
    low, high = sorted((one, other))
    assert (
        learnt(pairs, near=low).confidence([value]) <= learnt(pairs, near=high).confidence([value])
    ).all()


@pytest.mark.parametrize("level", [0.7, 0.9, 0.95])
@pytest.mark.parametrize("n", [40, 120, 1000])
def test_on_the_average_the_truth_lies_inside_as_often_as_promised(level: float, n: int) -> None:
    """200 calibrations; the mean coverage of all is known to within half a point."""
    covered = []
    for seed in range(200):
        predicted, truth = drawn(n, seed)
        intervals = Intervals.learn(predicted, truth, level=level, tolerance=NEAR)
        asked, true = drawn(400, 10_000 + seed)
        lower, upper = intervals.of(asked)
        covered.append(((lower <= true) & (true <= upper)).mean())
    assert level - 0.02 <= np.mean(covered)
    if n * (1 - level) >= 4:  # with fewer the farthest errors are the ends, which is more
        assert np.mean(covered) <= level + (0.02 if n > 500 else 0.03)


def test_hard_records_get_wide_intervals() -> None:
    predicted, truth = drawn(2000, 1)
    intervals = Intervals.learn(predicted, truth, level=0.9, tolerance=NEAR)
    cheap, dear = np.quantile(truth, [0.1, 0.9])
    lower, upper = intervals.of([cheap, dear])
    assert (upper - lower)[1] > 3 * (upper - lower)[0]
    asked, true = drawn(4000, 2)
    lower, upper = intervals.of(asked)
    inside = (lower <= true) & (true <= upper)
    for part in np.array_split(np.argsort(asked), 4):
        assert 0.85 <= inside[part].mean() <= 0.95  # in each quarter, not only on the average


def test_a_price_has_no_negative_end() -> None:
    draw = np.random.default_rng(0)
    truth = draw.exponential(1.0, 500)
    intervals = Intervals.learn(
        truth + draw.normal(0, 2, 500), truth, level=0.9, tolerance=Tolerance(1.0)
    )
    lower, upper = intervals.of([-3.0, 0.0, 0.5, 4.0])
    assert (lower >= 0).all()
    assert (upper >= lower).all()


def test_widths_are_shares_of_the_number_and_stay_finite_where_numbers_cross_zero() -> None:
    predicted, truth = drawn(1000, 3)
    prices = Intervals.learn(predicted, truth, level=0.9, tolerance=NEAR)
    asked = np.array([10_000.0, 100_000.0])
    lower, upper = prices.of(asked)
    assert prices.width(asked, lower, upper).tolist() == ((upper - lower) / asked).tolist()
    draw = np.random.default_rng(4)
    degrees = draw.normal(0, 10, 500)
    around = Intervals.learn(
        degrees + draw.normal(0, 1, 500), degrees, level=0.9, tolerance=Tolerance(1.0)
    )
    near = np.array([0.0, 0.001, 20.0])
    widths = around.width(near, *around.of(near))
    assert (widths < 2).all()


def test_a_few_mistyped_labels_do_not_widen_all_intervals() -> None:
    predicted, truth = drawn(1000, 5)
    mistyped = truth.copy()
    mistyped[::100] *= 1000
    plain, spoilt = (
        Intervals.learn(predicted, labels, level=0.9, tolerance=NEAR)
        for labels in (truth, mistyped)
    )
    asked = np.quantile(truth, [0.2, 0.5, 0.8])
    widths = [np.subtract(*reversed(one.of(asked))) for one in (plain, spoilt)]
    assert (widths[1] < 2 * widths[0]).all()


@pytest.mark.parametrize(
    ("predicted", "truth", "code"),
    [
        ([], [], "calibration_empty"),
        ([1.0], [float("nan")], "calibration_not_finite"),
        ([float("inf")], [1.0], "calibration_not_finite"),
    ],
)
def test_what_nothing_can_be_learnt_from_is_refused(
    predicted: list[float], truth: list[float], code: str
) -> None:
    with pytest.raises(ModelError) as refused:
        Intervals.learn(predicted, truth, level=0.9, tolerance=NEAR)
    assert refused.value.code == code


@settings(max_examples=30)
@given(st.floats(allow_nan=True, allow_infinity=True))
def test_no_confidence_in_what_is_no_number(value: float) -> None:
    confidence = learnt([(0.0, 0.0)] * 20).confidence([value])[0]
    assert 0 <= confidence <= 1
    if not np.isfinite(value):
        assert confidence == 0


def test_within_a_share_of_the_answer_the_widest_for_their_size_are_least_sure() -> None:
    predicted, truth = drawn(1000, 6)
    share = Intervals.learn(predicted, truth, level=0.9, tolerance=Tolerance.parsed("25%"))
    asked, true = drawn(4000, 7)
    right = np.abs(true - asked) <= 0.25 * np.abs(asked)
    assert share.confidence(asked).mean() == pytest.approx(right.mean(), abs=0.03)
    lower, upper = share.of(asked)
    order = np.argsort(share.width(asked, lower, upper))
    assert (
        share.confidence(asked)[order[:400]].mean() >= share.confidence(asked)[order[-400:]].mean()
    )


@pytest.mark.parametrize("said", ["20", "a%", "0%", "-3%", "20 %%", ""])
def test_a_tolerance_that_is_none_is_refused(said: str) -> None:
    with pytest.raises(ValueError, match="neither a number nor a share"):
        Tolerance.parsed(said)
