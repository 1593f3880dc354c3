"""Confidence lies between 0 and 1, is each record's own, and means what it says."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_assets.contract.errors import ModelError
from mm_assets.training.confidence import MAXIMUM_POINTS, Calibration, confidence_of

numbers = st.floats(-1e6, 1e6, allow_nan=False)
halves = st.integers(-2000, 2000).map(lambda n: n / 2)
pairs = st.lists(st.tuples(numbers, numbers), min_size=1, max_size=120)


def calibrated(
    pairs: list[tuple[float, float]], tolerance: float = 1.0, k: int = 50
) -> Calibration:
    predicted, truth = zip(*pairs, strict=True)
    return Calibration.from_holdout(predicted, truth, tolerance, k)


@given(pairs, st.lists(st.floats(), max_size=30), st.floats(0, 1e6))
def test_confidence_lies_between_0_and_1_for_any_value(
    pairs: list[tuple[float, float]], values: list[float], tolerance: float
) -> None:
    confidence = calibrated(pairs, tolerance).confidence(values)
    assert confidence.shape == (len(values),)
    assert ((confidence >= 0) & (confidence <= 1)).all()


@given(pairs, st.lists(numbers, min_size=1, max_size=30))
def test_a_record_has_the_same_confidence_alone_and_in_any_batch(
    pairs: list[tuple[float, float]], values: list[float]
) -> None:
    calibration = calibrated(pairs, k=10)
    together = calibration.confidence(values)
    alone = [calibration.confidence([value])[0] for value in values]
    assert together.tolist() == alone
    assert calibration.confidence(values[::-1]).tolist() == alone[::-1]


@given(st.data(), st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1))
def test_the_order_of_the_held_out_records_does_not_matter(
    data: st.DataObject, pairs: list[tuple[float, float]]
) -> None:
    shuffled = data.draw(st.permutations(pairs))
    values = np.linspace(-1, 10, 45)
    expected = calibrated(pairs, k=10).confidence(values)
    assert calibrated(shuffled, k=10).confidence(values).tolist() == expected.tolist()


@given(pairs, numbers, st.floats(0, 1e3), st.floats(0, 1e3))
def test_a_wider_tolerance_never_lowers_confidence(
    pairs: list[tuple[float, float]], value: float, one: float, other: float
) -> None:
    narrow, wide = sorted([one, other])
    low = calibrated(pairs, narrow).confidence([value])
    assert low <= calibrated(pairs, wide).confidence([value])


# Halves, so that no difference is too small to be seen beside -1e5.
@given(st.lists(st.tuples(halves, halves), min_size=1, max_size=80, unique_by=lambda p: p[0]))
def test_it_is_the_share_among_the_nearest_as_counted_by_hand(
    pairs: list[tuple[float, float]],
) -> None:
    calibration = calibrated(pairs, tolerance=5.0, k=10)
    for value in (0.0, 3.3, -1e5):
        k = min(10, len(pairs))
        got = calibration.confidence([value])[0]
        nearest = sorted(abs(p - value) for p, _ in pairs)[k - 1]
        inside = [abs(p - t) <= 5.0 for p, t in pairs if abs(p - value) < nearest]
        edge = [abs(p - t) <= 5.0 for p, t in pairs if abs(p - value) == nearest]
        chosen = {(sum(inside) + sum(edge[i : i + k - len(inside)])) / k for i in range(len(edge))}
        assert any(got == pytest.approx(share) for share in chosen)


def test_confidence_is_local_and_agrees_with_what_comes_true() -> None:
    random = np.random.default_rng(0)
    truth = random.uniform(0, 100, 4000)
    spread = np.where(truth < 50, 1.0, 20.0)  # exact below 50, loose above
    predicted = truth + random.normal(0, 1, 4000) * spread
    calibration = Calibration.from_holdout(predicted[:2000], truth[:2000], 5.0)
    confidence = calibration.confidence(predicted[2000:])
    close = np.abs(predicted[2000:] - truth[2000:]) <= 5.0
    assert calibration.confidence([20.0])[0] > 0.9
    assert calibration.confidence([90.0])[0] < 0.5
    assert abs(confidence.mean() - close.mean()) < 0.03
    assert close[confidence > 0.9].mean() > 0.9
    assert close[confidence < 0.4].mean() < 0.4


def test_with_fewer_than_k_records_all_of_them_count() -> None:
    calibration = calibrated([(0, 0), (1, 9), (2, 2), (3, 3)])
    assert calibration.confidence([0, 1.5, 1e9]).tolist() == [0.75, 0.75, 0.75]


def test_a_prediction_that_is_not_finite_has_no_confidence() -> None:
    values = [np.nan, np.inf, -np.inf, 1.0]
    assert calibrated([(1, 1)] * 20).confidence(values).tolist() == [0, 0, 0, 1]


def test_many_held_out_records_are_thinned_out_but_answer_alike() -> None:
    random = np.random.default_rng(1)
    predicted = random.normal(0, 1, 50_000)
    truth = predicted + random.normal(0, 1, 50_000)
    calibration = Calibration.from_holdout(predicted, truth, 1.0)
    assert len(calibration.predicted) == MAXIMUM_POINTS
    assert calibration.confidence([-1, 0, 1]) == pytest.approx(0.683, abs=0.2)
    assert calibration.confidence(predicted).mean() == pytest.approx(0.683, abs=0.03)
    assert len(json.dumps(calibration.to_json())) < 60_000


@given(pairs)
def test_a_calibration_survives_json_exactly(pairs: list[tuple[float, float]]) -> None:
    calibration = calibrated(pairs)
    again = Calibration.from_json(json.loads(json.dumps(calibration.to_json())))
    values = np.linspace(-1e6, 1e6, 50)
    assert again.confidence(values).tolist() == calibration.confidence(values).tolist()
    assert again.to_json() == calibration.to_json()


@pytest.mark.parametrize(
    "change",
    [
        {"within": "0"}, {"within": "012"}, {"within": None}, {"predicted": [3, 2, 1]},
        {"predicted": [1, 2, "x"]}, {"predicted": [1, 2, float("nan")]}, {"neighbours": 0},
        {"tolerance": None}, {"predicted": [], "within": ""},
    ],
)  # fmt: skip
def test_a_damaged_calibration_is_refused(change: dict[str, object]) -> None:
    document = calibrated([(1, 1), (2, 2), (3, 4)]).to_json()
    with pytest.raises(ModelError) as caught:
        Calibration.from_json({**document, **change})
    assert caught.value.code == "calibration_invalid"


@pytest.mark.parametrize(
    ("predicted", "truth", "tolerance", "code"),
    [
        ([], [], 1.0, "holdout_empty"),
        ([1.0, np.nan], [1.0, 1.0], 1.0, "calibration_not_finite"),
        ([1.0], [np.inf], 1.0, "calibration_not_finite"),
        ([1.0], [1.0], np.nan, "calibration_not_finite"),
        ([1.0], [1.0], -1.0, "calibration_not_finite"),
    ],
)
def test_what_cannot_be_calibrated_says_so(
    predicted: list[float], truth: list[float], tolerance: float, code: str
) -> None:
    with pytest.raises(ModelError) as caught:
        Calibration.from_holdout(predicted, truth, tolerance)
    assert caught.value.code == code


def test_the_confidence_of_classes_is_the_highest_probability() -> None:
    predicted = pd.DataFrame({"cat": [0.7, 0.2, 1.0000001], "dog": [0.3, 0.8, 0.0]})
    assert confidence_of(predicted).tolist() == [0.7, 0.8, 1.0]
    assert confidence_of(predicted.iloc[:0]).tolist() == []


def test_the_confidence_of_numbers_needs_the_calibration_of_the_model() -> None:
    predicted = pd.DataFrame({"value": [0.0, 1.0]})
    calibration = calibrated([(0, 0), (0, 5)])
    assert confidence_of(predicted, calibration).tolist() == [0.5, 0.5]
    with pytest.raises(ModelError) as caught:
        confidence_of(predicted)
    assert caught.value.code == "calibration_missing"
