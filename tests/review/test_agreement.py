"""What several people said of the same records."""

from __future__ import annotations

from typing import Any

from mm_assets.review.agreement import Disagreement, agreement
from mm_assets.review.one_by_one import Given
from tests.make import dataset


def given(record: str, label: str, who: str, minute: int = 0, said: str = "cat") -> Given:
    return Given(record, label, who, f"2026-01-01T10:{minute:02d}:00+00:00", said, "m1")


def test_a_persons_last_answer_counts_and_cannot_tell_is_none() -> None:
    found = agreement(dataset(), [
        given("a", "dog", "Ana", 1), given("a", "cat", "Ana", 2), given("a", "cat", "Ben"),
        given("b", "cat", "Ana"), given("b", "dog", "Ben", 3), given("b", "", "Cleo"),
        given("c", "dog", "Ana"),
    ])  # fmt: skip
    assert (found.twice, found.same) == (2, 1)
    assert found.disagreements == [Disagreement("b", {"Ana": "cat", "Ben": "dog"})]
    assert found.planned == 0
    assert (found.records, found.agreed) == (3, 1)  # b: Ben was the last
    told = {one.who: (one.answers, one.unsure, one.agreed) for one in found.people}
    assert told == {"Ana": (3, 0, 2), "Ben": (2, 0, 1), "Cleo": (0, 1, 0)}


def test_how_often_people_agree_is_seen_where_two_were_to_be_asked() -> None:
    answers = [
        given("a", "dog", "Ana", 1), given("a", "dog", "Ben", 2),
        given("b", "dog", "Ana", 1), given("b", "cat", "Ben", 2), given("b", "cat", "Cleo", 3),
        given("c", "dog", "Ana"),
    ]  # fmt: skip
    found = agreement(dataset(review={"answered_twice": 1.0}), answers)
    assert (found.planned, found.planned_same) == (2, 1)
    [apart] = found.disagreements
    assert (list(apart.said), apart.stands) == (["Ana", "Ben", "Cleo"], "cat")


def test_numbers_are_the_same_within_what_counts_as_right() -> None:
    exact: dict[str, Any] = {
        "problem_type": "regression",
        "classes": None,
        "columns": {"age": "number"},
    }
    answers = [given("a", "100", "Ana", said="90"), given("a", "104", "Ben", said="90")]
    assert agreement(dataset(**exact), answers).same == 0
    near = agreement(dataset(**exact, regression_tolerance=5), answers)
    assert (near.same, near.agreed) == (1, 0)
    wide = agreement(dataset(**exact, regression_tolerance="20%"), answers)
    assert (wide.same, wide.agreed) == (1, 1)
