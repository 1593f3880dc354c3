"""Which champions led to the present one: the log of promotions, read as a stack."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_assets.contract.dataset import Modality
from mm_assets.registry.champions import line_of_champions
from mm_assets.registry.store import Champion


def log(versions: str) -> list[Champion]:
    return [
        Champion(Modality.WITH_IMAGE, number, version, "0" * 64, "because", "now", None)
        for number, version in enumerate(versions, 1)
    ]


def line(versions: str) -> str:
    return "".join(one.version for one in line_of_champions(log(versions)))


@pytest.mark.parametrize(
    ("promoted", "led_here"),
    [
        ("", ""),
        ("A", "A"),
        ("ABC", "ABC"),
        ("ABCB", "AB"),  # C was taken back
        ("ABCBA", "A"),  # and then B
        ("ABCA", "A"),  # both at once
        ("ABCBD", "ABD"),  # a training after a rollback: back from D is B, never C
        ("ABCBC", "ABC"),  # C after all, by hand
    ],
)
def test_an_older_model_takes_back_all_that_came_after_it(promoted: str, led_here: str) -> None:
    assert line(promoted) == led_here


def test_the_newest_promotion_of_each_model_counts() -> None:
    assert [one.generation for one in line_of_champions(log("ABCB"))] == [1, 4]


@given(st.lists(st.booleans(), max_size=40))
def test_rolling_back_undoes_one_promotion_after_the_other(backwards: list[bool]) -> None:
    promoted, expected, new = "", "", iter(range(0x4E00, 0x4F00))
    for back in backwards:
        if not back:
            expected += chr(next(new))
        elif len(expected) > 1:
            expected = expected[:-1]
        else:
            continue
        promoted += expected[-1]
        assert line(promoted) == expected
