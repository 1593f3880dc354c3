"""What a model saw of a table, and what is unlike it: kind by kind, and how rarely by mistake."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mm_assets.contract.errors import ModelError
from mm_assets.doubt.familiar import Familiar
from mm_assets.doubt.familiar_numbers import learn_ranges
from mm_assets.doubt.familiar_text import script_of
from mm_assets.engines.shared.spellings import Spellings
from tests.engines.threads import told

COLUMNS = {
    "age": "number", "price": "number", "visits": "number", "colour": "category",
    "name": "category", "note": "text",
}  # fmt: skip
WORDS = [
    "the",
    "dog",
    "ran",
    "after",
    "a",
    "small",
    "red",
    "ball",
    "and",
    "came",
    "back",
    "with",
    "another",
    "one",
]


def pets(count: int, seed: int) -> pd.DataFrame:
    """Ages, skewed prices, rare visits, some colours, names of which many occur once, notes."""
    draw = np.random.default_rng(seed)
    notes = [" ".join(draw.choice(WORDS, 6)) if draw.random() < 0.9 else None for _ in range(count)]
    return pd.DataFrame(
        {
            "age": draw.uniform(0, 15, count).round(1),
            "price": draw.lognormal(5, 1, count).round(),
            "visits": draw.poisson(0.3, count).astype(float),
            "colour": draw.choice(["black", "white", "red"], count, p=[0.6, 0.3, 0.1]),
            "name": [f"name{int(n)}" for n in draw.zipf(1.3, count) % 10**6],
            "note": pd.Series(notes, dtype=object),
        }
    )  # fmt: skip


def learnt(frame: pd.DataFrame, columns: dict[str, str] | None = None) -> Familiar:
    kinds = columns or COLUMNS
    spellings, _ = Spellings.learn([frame], kinds)
    return Familiar.learn(spellings.applied(frame), kinds, spellings)


@pytest.fixture(scope="module")
def known() -> Familiar:
    return learnt(pets(600, 0))


def test_many_threads_find_the_doubts_that_one_finds(known: Familiar) -> None:
    asked = pets(60, 1)
    asked.loc[::4, "price"] = 1e9
    asked.loc[::5, "colour"] = "Plum"
    asked.loc[::6, "note"] = "красная собака лежит"
    asked.loc[::7, "age"] = np.nan
    kinds = set()
    for found, expected in told(known.doubts, asked):
        assert found == expected
        kinds |= {one.code for own in found for one in own}
    assert kinds == {"far_number", "unseen_category", "other_script", "missing_value"}


def said(known: Familiar, **values: Any) -> list[str]:
    """The doubts of an ordinary record, but for these values."""
    record = {
        "age": 3.0,
        "price": 150.0,
        "visits": 0.0,
        "colour": "red",
        "name": "name1",
        "note": "a",
    }
    frame = pd.DataFrame([{**record, "note": "a dog", **values}]).astype(
        {"colour": object, "note": object}
    )
    return [str(doubt) for doubt in known.doubts(frame)[0]]


def test_an_ordinary_record_raises_no_doubt(known: Familiar) -> None:
    assert said(known) == []
    assert said(known, colour=" RED ") == []  # another spelling of what is known


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"colour": "pink"},
         "unseen_category (colour): 'pink'; training has 'black', 'red', 'white'"),
        ({"age": 300.0}, "far_number (age): 300; training has 0 to 15"),
        ({"age": -40.0}, "far_number (age): -40; training has 0 to 15"),
        ({"age": float("inf")}, "far_number (age): inf; training has 0 to 15"),
        ({"note": "собака бежит"}, "other_script (note): CYRILLIC letters; training has LATIN"),
        ({"name": "花子さん"}, "other_script (name): CJK letters; training has LATIN"),
        ({"age": None}, "missing_value (age): missing; training has it in every record"),
        ({"colour": "  "}, "missing_value (colour): missing; training has it in every record"),
    ],
)  # fmt: skip
def test_what_training_never_had_is_said_with_what_it_had(
    known: Familiar, values: dict[str, Any], words: str
) -> None:
    assert said(known, **values) == [words]


def test_a_price_is_never_negative_and_a_long_tail_is_not_far(known: Familiar) -> None:
    [words] = said(known, price=-1.0)
    assert words.startswith("far_number (price): -1; training has ")
    assert said(known, price=pets(600, 0)["price"].max() * 1.2) == []
    assert said(known, visits=3.0) == []
    assert said(known, visits=40.0)[0].startswith("far_number (visits): 40;")


def test_an_empty_record_is_one_doubt(known: Familiar) -> None:
    nothing: dict[str, Any] = dict.fromkeys(COLUMNS)
    assert said(known, **nothing) == ["empty_record: 6 of 6 values are missing"]
    assert said(known, note=None) == []  # which is often missing


def test_a_column_in_which_new_values_are_ordinary_is_open_and_told_once(known: Familiar) -> None:
    assert known.table.watched == ("colour",)
    assert said(known, name="never heard of") == []
    [words] = known.words
    assert words.startswith("new values are ordinary, and send no record to review, in name (")


@pytest.mark.parametrize("seed", range(5))
def test_few_ordinary_records_raise_a_doubt(seed: int) -> None:
    known = learnt(pets(600, 2 * seed))
    doubts = known.doubts(pets(2000, 2 * seed + 1))
    assert np.mean([bool(own) for own in doubts]) <= 0.02


def test_a_few_mistyped_values_in_training_hide_no_far_number() -> None:
    frame = pets(600, 0)
    frame.loc[5, "age"] = 9_999.0
    known = learnt(frame)
    assert said(known, age=300.0) == ["far_number (age): 300; training has 0 to 15"]
    many = pd.concat([frame] * 2)
    many.loc[many.index[:40], "age"] = 300.0  # no mistake any more
    assert said(learnt(many.reset_index(drop=True)), age=300.0) == []


def test_neighbours_and_the_order_of_records_make_no_difference(known: Familiar) -> None:
    asked = pets(300, 7).assign(colour=["violet", "red", None] * 100)
    together = known.doubts(asked)
    alone = [known.doubts(asked.iloc[[n]].reset_index(drop=True))[0] for n in range(len(asked))]
    assert together == alone
    assert any(together)
    shuffled = pets(600, 0).sample(frac=1, random_state=1).reset_index(drop=True)
    assert learnt(shuffled).table == known.table


def test_what_a_manifest_keeps_is_all_there_is(known: Familiar, tmp_path: Path) -> None:
    spellings, _ = Spellings.learn([pets(600, 0)], COLUMNS)
    kept = {"familiar": json.loads(json.dumps(known.keep(tmp_path), allow_nan=False))}
    assert Familiar.of_manifest(kept, spellings, tmp_path) == known
    assert Familiar.of_manifest({}, spellings, tmp_path) is None
    for document in ([], {"n": 3}, {"n": 3, "table": {"kinds": 7}}):
        with pytest.raises(ModelError) as caught:
            Familiar.of_manifest({"familiar": document or "x"}, spellings, tmp_path)
        assert caught.value.code == "familiar_invalid"


@pytest.mark.parametrize("frame", [pets(10, 0), pets(1, 0), pets(0, 0)])
def test_few_records_can_be_learnt_from(frame: pd.DataFrame) -> None:
    known = learnt(frame)
    assert len(known.doubts(pets(20, 1))) == 20
    assert known.doubts(pets(0, 0)) == []


def test_a_column_without_any_value_in_training_has_no_range() -> None:
    frame = pets(100, 0).assign(age=np.nan, colour=None, note=None)
    known = learnt(frame)
    assert said(known, colour=None, note=None) == []
    assert said(known) == ["unseen_category (colour): 'red'; training has none"]
    assert "age" not in known.table.ranges


def test_a_constant_is_left_by_more_than_its_own_size() -> None:
    [of_five, of_zero] = learn_ranges({"five": np.full(99, 5.0), "zero": np.zeros(99)}).values()
    asked = np.array([5, 9, 11, -1.0, np.nan])
    assert of_five.far(asked).tolist() == [False, False, True, True, False]
    assert of_zero.far(np.array([0, 1, 2, -1.5])).tolist() == [False, False, True, True]


@pytest.mark.parametrize(
    ("text", "script"),
    [("Hund, 5 µm", "LATIN"), ("ＡＢＣ", "LATIN"), ("12 + 5", ""), ("µ", ""),
     ("кот ab", "CYRILLIC"), ("花子さん", "CJK"), ("東京都", "CJK"),
     ("abcабв", ""), ("نص", "ARABIC")],
)  # fmt: skip
def test_the_script_of_a_text_is_that_of_most_of_its_letters(text: str, script: str) -> None:
    assert script_of(text) == script
