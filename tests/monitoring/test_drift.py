"""Drift is zero without change, does not cry wolf over few records, and sees a real change."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.image_feature import ImageFeature
from mm_assets.monitoring.drift import (
    beyond_chance,
    drift_picture,
    feature_drift,
    label_drift,
    plain_psi,
    psi,
)

LIMIT = 0.25
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "number": st.one_of(
        st.none(), st.integers(-3, 3).map(float), st.floats(allow_nan=True, allow_infinity=False)
    ),
    "category": st.one_of(st.none(), st.sampled_from("abcdefgh"), st.text(max_size=3)),
    "text": st.one_of(
        st.none(),
        st.lists(st.sampled_from(["ab", "cd", "é", " "]), max_size=5).map(" ".join),
        st.text(max_size=12),
    ),
}
KINDS = pytest.mark.parametrize("kind", list(VALUES))


def column(values: list[Any], kind: str) -> pa.Array:
    return pa.array(values, pa.float64() if kind == "number" else pa.string())


def texts(draw: np.random.Generator, n: int, words: int = 3000) -> list[str]:
    share = 1 / np.arange(1, words + 1) ** 1.2
    share /= share.sum()
    return [" ".join(f"w{w}" for w in draw.choice(words, draw.integers(4, 20), p=share))
            for _ in range(n)]  # fmt: skip


def unchanged(draw: np.random.Generator, n: int, kind: str) -> list[Any]:
    if kind == "number":
        return list(draw.normal(size=n))
    return texts(draw, n) if kind == "text" else [str(level) for level in draw.zipf(1.5, n)]


@KINDS
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_identical_columns_have_no_drift(kind: str, data: st.DataObject) -> None:
    values = data.draw(st.lists(VALUES[kind], min_size=30, max_size=80))
    assert psi(column(values, kind), column(values, kind), kind) == 0.0


@KINDS
@settings(max_examples=25, deadline=None)
@given(data=st.data(), seed=st.integers(0, 99))
def test_drift_is_never_negative_and_order_does_not_matter(
    kind: str, data: st.DataObject, seed: int
) -> None:
    lists = [data.draw(st.lists(VALUES[kind], min_size=30, max_size=60)) for _ in range(2)]
    drift = psi(column(lists[0], kind), column(lists[1], kind), kind)
    shuffled = [random.Random(seed).sample(values, len(values)) for values in lists]
    assert drift is not None
    assert drift >= 0
    assert psi(column(shuffled[0], kind), column(shuffled[1], kind), kind) == drift


COUNTS = st.lists(st.integers(0, 1000), min_size=1, max_size=12)


@given(COUNTS, st.integers(1, 50))
def test_the_plain_index_is_a_symmetric_divergence(counts: list[int], more: int) -> None:
    one = np.array([*counts, 1.0])
    other = np.array([*reversed(counts), float(more)])
    assert plain_psi(one, other) >= 0
    assert plain_psi(one, other) == pytest.approx(plain_psi(other, one))
    assert plain_psi(one, one) == 0.0


def test_the_plain_index_is_that_of_the_literature() -> None:
    one, other = np.array([5e6, 5e6]), np.array([7e6, 3e6])
    assert plain_psi(one, other) == pytest.approx(0.2 * np.log(7 / 3), rel=1e-5)


def test_a_difference_that_chance_explains_is_no_drift() -> None:
    reference = np.array([500.0, 500.0])
    assert plain_psi(reference, np.array([10.0, 20.0])) > 0.1
    assert beyond_chance(reference, np.array([10.0, 20.0])) == 0.0
    assert beyond_chance(reference, np.array([1000.0, 2000.0])) > 0.1


@KINDS
@pytest.mark.parametrize(("n", "m"), [(30, 60), (40, 1000), (300, 300)])
def test_small_samples_without_change_raise_no_alarm(kind: str, n: int, m: int) -> None:
    draw = np.random.default_rng(7)
    repeats = 8 if kind == "text" else 60
    alarms = 0
    for _ in range(repeats):
        before, now = (column(unchanged(draw, size, kind), kind) for size in (m, n))
        drift = psi(before, now, kind)
        alarms += drift is not None and drift > LIMIT
    assert alarms <= 1


@pytest.mark.parametrize("n", [60, 1000])
def test_a_shift_of_numbers_raises_the_alarm(n: int) -> None:
    draw = np.random.default_rng(1)
    before, now = draw.normal(size=1000), draw.normal(1.5, 1, size=n)
    drift = psi(pa.array(before), pa.array(now), "number")
    assert drift is not None
    assert drift > LIMIT


def test_values_that_turn_up_missing_are_drift() -> None:
    numbers = [float(i % 7) for i in range(200)]
    drift = psi(column(numbers, "number"), column([None] * 80 + numbers[:120], "number"), "number")
    assert drift is not None
    assert drift > LIMIT


@pytest.mark.parametrize("now", [-1.0, 1.0])
def test_leaving_a_constant_in_either_direction_is_drift(now: float) -> None:
    drift = psi(column([0.0] * 100, "number"), column([now] * 100, "number"), "number")
    assert drift is not None
    assert drift > LIMIT


def test_a_new_level_of_a_category_is_drift() -> None:
    before = column(["a", "b"] * 100, "category")
    drift = psi(before, column(["a", "b", "new"] * 40, "category"), "category")
    assert drift is not None
    assert drift > LIMIT


def test_longer_texts_and_other_words_are_drift() -> None:
    draw = np.random.default_rng(2)
    before = texts(draw, 300)
    longer = [f"{one} {two} {three}" for one, two, three in zip(*[iter(before)] * 3, strict=True)]
    foreign = [text.replace("w", "v") for text in texts(draw, 100)]
    for now in (longer, foreign):
        drift = psi(column(before, "text"), column(now, "text"), "text")
        assert drift is not None
        assert drift > LIMIT


@KINDS
def test_fewer_than_30_records_give_no_answer(kind: str) -> None:
    draw = np.random.default_rng(3)
    few, many = (column(unchanged(draw, n, kind), kind) for n in (29, 50))
    assert psi(few, many, kind) is None
    assert psi(many, few, kind) is None


def spec(**columns: str) -> DatasetSpec:
    return DatasetSpec.model_validate(
        {"dataset": "d", "id_column": "id", "label_column": "y", "problem_type": "binary",
         "columns": columns}
    )  # fmt: skip


def records(**columns: list[Any]) -> pa.Table:
    arrays = [pa.array(values) for values in columns.values()]
    return pa.table({"features": pa.StructArray.from_arrays(arrays, names=list(columns))})


def test_each_feature_gets_its_drift_in_the_order_of_the_spec() -> None:
    before = records(b=["x"] * 90, a=[1.0] * 90)
    now = records(b=["x"] * 60, a=[2.0] * 60)
    drifts = feature_drift(before, now, spec(a="number", b="category"))
    assert list(drifts) == ["a", "b"]
    assert drifts["a"] > LIMIT
    assert drifts["b"] == 0.0


def test_a_category_in_another_spelling_is_no_drift_and_another_value_is() -> None:
    kinds = spec(grade="category")
    before = records(grade=[*"1234"] * 30)
    floats = records(grade=["1.0", "2.0", "3.0", "4.0", None] * 12)
    assert feature_drift(before, records(grade=["1.0", "+2", "03", "4"] * 15), kinds) == {
        "grade": 0.0
    }
    assert feature_drift(records(grade=[*"1234", None] * 30), floats, kinds) == {"grade": 0.0}
    assert feature_drift(before, records(grade=["1.000", "2"] * 30), kinds)["grade"] > LIMIT


def test_features_that_changed_with_the_yaml_are_left_out() -> None:
    before = records(a=[1.0] * 90, b=["x"] * 90)
    now = records(b=[1.0] * 60, c=["x"] * 60)
    assert feature_drift(before, now, spec(a="number", b="number", c="text")) == {}


def measured(brightness: list[float | None]) -> pa.Table:
    there = [None if value is None else {"image_brightness": value} for value in brightness]
    kind = pa.struct([("image_brightness", pa.float64())])
    return pa.table({"features": pa.nulls(len(there)), "image_features": pa.array(there, kind)})


def with_brightness() -> DatasetSpec:
    return spec().model_copy(update={"image_features": (ImageFeature.BRIGHTNESS,)})


def test_darker_pictures_are_drift_and_records_without_one_count_for_nothing() -> None:
    draw = np.random.default_rng(4)
    bright, dark = (list(draw.normal(middle, 10, 90)) for middle in (150, 60))
    found = feature_drift(measured(bright), measured(dark), with_brightness())
    assert found["image_brightness"] > LIMIT
    mostly_without = feature_drift(
        measured(bright), measured([*bright, *[None] * 500]), with_brightness()
    )
    assert mostly_without == {"image_brightness": 0.0}


def test_fewer_than_30_pictures_give_no_answer() -> None:
    few = measured([*range(29), *[None] * 500])
    assert feature_drift(measured(list(range(90))), few, with_brightness()) == {}


def test_without_the_column_of_image_features_there_is_no_drift_of_them() -> None:
    table = pa.table({"features": pa.nulls(50)})
    assert feature_drift(table, measured([1.0] * 50), with_brightness()) == {}


def test_a_dataset_without_columns_has_no_drift() -> None:
    table = pa.table({"features": pa.nulls(50)})
    assert feature_drift(table, table, spec()) == {}


def test_predictions_are_compared_with_the_training_labels() -> None:
    assert label_drift(["a", "b"] * 50, ["b", "a"] * 60, "binary") == 0.0
    shifted = label_drift(["a", "b"] * 50, ["a"] * 100, "binary")
    assert shifted is not None
    assert shifted > LIMIT
    assert label_drift(["a"] * 100, ["a"] * 29, "binary") is None
    numbers = [str(i) for i in range(100)]
    assert label_drift(numbers, numbers, "regression") == 0.0
    higher = label_drift(numbers, [str(i + 80) for i in range(100)], "regression")
    assert higher is not None
    assert higher > LIMIT


def test_the_drift_is_drawn_unless_there_is_none() -> None:
    for count in (1, 40):
        png = drift_picture({f"feature {i}": i / 50 for i in range(count)}, LIMIT)
        assert png is not None
        assert png.startswith(b"\x89PNG")
    assert drift_picture({}, LIMIT) is None
