"""One rule says when two spellings are the same category or label, and nothing is guessed."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_assets.contract import spellings
from mm_assets.contract.spellings import Known, label_meant

INTEGERS = ("0", "1", "10", "2", "1000")
PADDED = ("01", "02", "10")
BOTH = ("01", "1", "2")
MIXED = ("1", "2", "unknown")
BITS = ("0", "1")
BOOLEANS = ("True", "False")
LETTERS = ("T", "F")
WORDS = ("Light red", "straße", "Yes", "No", "é")
TWO_CASES = ("Red", "red", "blue")
VERSIONS = ("1.0", "1.1", "2.0")
DATES = ("2024-01-31", "2024-02-29")

SAME = [
    # numbers
    (INTEGERS, "1.0", "1"), (INTEGERS, "1.00", "1"), (INTEGERS, "1.000000", "1"),
    (INTEGERS, " 1", "1"), (INTEGERS, "\u00a01 ", "1"), (INTEGERS, "+1", "1"),
    (INTEGERS, "01", "1"), (INTEGERS, "-0", "0"), (INTEGERS, "-0.0", "0"),
    (INTEGERS, "１", "1"), (INTEGERS, "1000.0", "1000"),
    (PADDED, "1", "01"), (PADDED, "1.0", "01"), (PADDED, "001", "01"), (PADDED, "10.0", "10"),
    (BOTH, "1.0", "1"), (BOTH, "01.0", "01"), (BOTH, "2.0", "2"), (BOTH, "02", "2"),
    (MIXED, "1.0", "1"), (MIXED, "Unknown ", "unknown"),
    # truth
    (BITS, "True", "1"), (BITS, "false", "0"), (BITS, "0.0", "0"), (BITS, "t", "1"),
    (BOOLEANS, "true", "True"), (BOOLEANS, "FALSE", "False"), (BOOLEANS, "1", "True"),
    (BOOLEANS, "0.0", "False"), (BOOLEANS, "t", "True"), (BOOLEANS, "F", "False"),
    (LETTERS, "t", "T"), (LETTERS, "false", "F"), (LETTERS, "1", "T"),
    # words
    (WORDS, "light red", "Light red"), (WORDS, " LIGHT \t RED\n", "Light red"),
    (WORDS, "Light\u00a0red", "Light red"), (WORDS, "STRASSE", "straße"), (WORDS, "yes", "Yes"),
    (WORDS, "e\u0301", "é"), (WORDS, "É", "é"),
    (TWO_CASES, "red\u00a0", "red"), (TWO_CASES, "BLUE", "blue"),
]  # fmt: skip
UNSEEN = [
    (INTEGERS, "3"), (INTEGERS, "1.5"), (INTEGERS, "1e0"), (INTEGERS, "1,0"), (INTEGERS, "1."),
    (INTEGERS, "1.000"), (INTEGERS, "1,000"), (INTEGERS, "1 000"), (INTEGERS, "0x1"),
    (INTEGERS, "true"), (INTEGERS, "one"), (INTEGERS, "--1"), (INTEGERS, ""), (INTEGERS, "٣"),
    (INTEGERS, "9" * 5000), (INTEGERS, "-1"),
    (BOTH, "001"), (BOTH, "+001.0"),
    (BITS, "yes"), (BITS, "2"), (BOOLEANS, "yes"), (BOOLEANS, "2"), (BOOLEANS, "y"),
    (("T", "M"), "1"), (("T",), "true"), (MIXED, "true"),
    (WORDS, "Y"), (WORDS, "1"), (WORDS, "true"), (WORDS, "e"), (WORDS, "Lightred"),
    (TWO_CASES, "RED"), (TWO_CASES, "ReD "),
    (VERSIONS, "1"), (VERSIONS, "2"), (VERSIONS, "2.00"),
    (DATES, "2024-01-31 00:00:00"), (DATES, "31.01.2024"), (DATES, "20240131"),
]  # fmt: skip


@pytest.mark.parametrize(("known", "told", "meant"), SAME)
def test_another_spelling_is_the_one_known_value_that_is_the_same(
    known: tuple[str, ...], told: str, meant: str
) -> None:
    assert Known(known).meant(told) == meant
    assert Known(known).knows(told)


@pytest.mark.parametrize(("known", "told"), UNSEEN)
def test_what_is_not_the_same_or_could_be_two_stays_unseen(
    known: tuple[str, ...], told: str
) -> None:
    assert Known(known).meant(told) == told
    assert not Known(known).knows(told)


@pytest.mark.parametrize(
    ("counts", "values"),
    [
        ({"1": 5, "1.0": 3, "2.0": 1}, ("1", "2")),
        ({"1.0": 5, "2.0": 3}, ("1", "2")),
        ({"01": 5, "02.0": 3}, ("01", "02")),
        ({"01": 5, "1": 3, "1.0": 3}, ("01", "1")),
        ({"1.0": 5, "1.5": 3, "1": 1}, ("1", "1.0", "1.5")),
        ({"1": 5, "2.0": 3, "unknown": 1}, ("1", "2", "unknown")),
        ({"True": 5, "true": 6, "FALSE": 1}, ("FALSE", "true")),
        ({"True": 1, "1": 6, "1.0": 1, "0.0": 4}, ("0.0", "True")),
        ({"Red": 5, "red": 3, "light  red": 1, "light red": 1},
         ("Red", "light  red", "light red", "red")),
        ({"1.000": 5, "1": 3}, ("1", "1.000")),
    ],
)  # fmt: skip
def test_training_merges_numbers_and_truth_values_but_never_words(
    counts: dict[str, int], values: tuple[str, ...]
) -> None:
    known = Known.learn(counts)
    assert known.values == values
    assert all(known.knows(value) for value in counts)


def test_values_that_are_the_same_but_both_known_are_named() -> None:
    assert Known.learn(dict.fromkeys(("Red", "red", "RED", "blue"), 1)).alike() == [
        ("RED", "Red", "red")
    ]
    assert Known(("01", "1", "2")).alike() == [("01", "1")]
    assert Known.learn({"1": 1, "1.0": 1, "True": 1, "x": 1}).alike() == []


def test_a_label_is_the_class_that_it_means_or_else_an_integer_without_decimals() -> None:
    assert label_meant("YES", ("Yes", "No")) == "Yes"
    assert label_meant("1.0", ("0", "1")) == "1"
    assert label_meant("1.0", ("1.0", "1")) == "1.0"
    assert label_meant("Maybe", ("Yes", "No")) == "Maybe"
    for told, meant in {
        "1.0": "1",
        "-2.00": "-2",
        "1.000": "1.000",
        "v1.0": "v1.0",
        "Y": "Y",
    }.items():
        assert label_meant(told, None) == meant


# -- laws -----------------------------------------------------------------------------------------

digits = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["", "+", "-", " "]), st.sampled_from(["", "0", "00"]), st.integers(0, 12),
    st.sampled_from(["", ".0", ".00", ".000", ".0000", ".5", "."]),
)  # fmt: skip
truths = st.sampled_from(["True", "true", "TRUE", "t", "T", "False", "f", "0", "1", "1.0", "yes"])
words = st.sampled_from(
    ["Red", "red", " red", "RED", "light red", "light\u00a0 red", "é", "e\u0301"]
)
value = st.one_of(digits, truths, words, st.text(max_size=4))


@given(st.one_of(*(st.lists(one, max_size=12) for one in (digits, truths, words, value))), value)
def test_the_rule_is_idempotent_and_known_values_never_change(
    training: list[str], told: str
) -> None:
    known = Known.learn(Counter(training))
    meant = known.meant(told)
    assert known.meant(meant) == meant
    assert meant == told or meant in known.values
    assert [known.meant(one) for one in known.values] == list(known.values)


@given(st.one_of(*(st.lists(one, max_size=12) for one in (digits, truths, words, value))))
def test_every_value_of_training_is_known_and_learning_again_changes_nothing(
    training: list[str],
) -> None:
    known = Known.learn(Counter(training))
    assert all(known.knows(one) for one in training)
    assert {known.meant(one) for one in training} == set(known.values)
    again = Known.learn(Counter(map(known.meant, training)))
    assert again == known
    assert [again.meant(one) for one in training] == [known.meant(one) for one in training]


@given(st.data())
def test_the_order_of_the_training_records_makes_no_difference(data: st.DataObject) -> None:
    training = data.draw(st.lists(value, max_size=12))
    shuffled = data.draw(st.permutations(training))
    assert Known.learn(Counter(training)) == Known.learn(Counter(shuffled))


def test_the_table_of_the_rule_stands_in_the_docstring_and_on_the_page() -> None:
    from pathlib import Path

    page = Path(__file__).parents[2] / "docs" / "input-contract.md"
    rows = [row for row in (spellings.__doc__ or "").splitlines() if row.startswith("| ")]
    assert len(rows) > 8
    assert "\n".join(rows[1:]) in page.read_text(encoding="utf-8")
