"""How far records are from each other by their columns."""

from __future__ import annotations

import math

import pytest

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.training.alike import Alike

RECORDS = [
    {"age": 0.0, "colour": "red"},
    {"age": 5.0, "colour": "red"},
    {"age": 10.0, "colour": "blue"},
    {"age": None, "colour": None},
]


@pytest.fixture
def alike() -> Alike:
    spec = DatasetSpec.model_validate(
        {"dataset": "things", "id_column": "id", "label_column": "kind", "problem_type": "binary",
         "image_name": None, "columns": {"age": "number", "colour": "category", "note": "text"}}
    )  # fmt: skip
    return Alike(spec, RECORDS)


def test_a_record_is_nothing_from_itself_and_no_two_are_further_than_one(alike: Alike) -> None:
    for place, record in enumerate(RECORDS):
        found = alike.distances(record)
        assert found[place] == 0.0
        assert found.max() <= 1.0
        assert found.tolist() == alike.from_one(place).tolist()


def test_numbers_count_by_their_spread_and_what_is_unknown_is_far(alike: Alike) -> None:
    near, middle, far, missing = alike.distances({"age": 0.0, "colour": "red"}).tolist()
    assert near == 0.0
    assert near < middle < far == missing == 1.0
    assert alike.distances({"age": math.nan, "colour": "green"})[3] == 0.5
    assert alike.columns == 2
