"""Keys and values of DynamoDB's items, without a server."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from mm_assets.contract.errors import StoreError
from mm_assets.tables.dynamodb import items
from mm_assets.tables.merge_rule import ORDER
from tests.tables.offers import offer

number = st.integers(0, 2**31 - 1) | st.integers(0, 11)
# Few characters, so that one is often the beginning of the other.
text = st.text("ab-~é😀", max_size=4) | st.text(st.characters(min_codepoint=0x21), max_size=4)
order = st.tuples(st.integers(0, 1), text, text, number, number, text)


@examples(max_examples=200, deadline=None, derandomize=True)
@given(order, order, st.integers(0, len(ORDER)))
def test_the_order_key_sorts_byte_by_byte_as_the_order_does(
    one: tuple[Any, ...], other: tuple[Any, ...], equal_parts: int
) -> None:
    other = (*one[:equal_parts], *other[equal_parts:])
    first, second = (
        items.order_key(dict(zip(ORDER, parts, strict=True))).encode() for parts in (one, other)
    )
    assert (first < second, first == second) == (one < other, one == other)


@pytest.mark.parametrize(
    ("shorter", "longer"), [("a", "ab"), ("", "a"), ("u1", "u10"), ("u1", "u1-")]
)
def test_what_another_begins_with_comes_before_it_whatever_follows(
    shorter: str, longer: str
) -> None:
    small = offer(upload=shorter, image_upload="zzz", model_generation=9, content_hash="f")
    great = offer(upload=longer, image_upload="", model_generation=1, content_hash="0")
    assert items.order_key(small) < items.order_key(great)


@pytest.mark.parametrize("wrong", [{"upload": "u 1"}, {"model_generation": -1}, {"upload": "\n"}])
def test_what_has_no_place_in_the_order_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(StoreError) as caught:
        items.order_key(offer(**wrong))
    assert caught.value.code == "table_refused"


@pytest.mark.parametrize(
    "wrong",
    [{"prediction": None}, {"confidence": float("nan")}, {"confidence": float("inf")},
     {"record_id": "x" * 2048}, {"record_id": None}, {"probabilities": "ü" * 200_000}],
)  # fmt: skip
def test_what_the_table_cannot_hold_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(StoreError) as caught:
        items.check_prediction("pets", {**offer(), **wrong})
    assert caught.value.code == "table_refused"


@examples(max_examples=100, deadline=None, derandomize=True)
@given(st.floats(0, 1, allow_subnormal=False).filter(lambda x: x == 0 or x > 1e-130))
def test_a_confidence_reads_back_as_the_same_number(confidence: float) -> None:
    item = items.prediction_item("pets", offer(confidence=confidence), "order")
    assert items.prediction_of(item)["confidence"] == confidence


def test_a_prediction_reads_back_as_it_was_offered() -> None:
    one = offer("a|b", modality_rank=1, image_upload="u2", probabilities='{"cat": 0.5}')
    found = items.prediction_of(items.prediction_item("pets", one, items.order_key(one)))
    assert found == {**one, "order_key": items.order_key(one)}


def test_an_upload_and_a_record_never_share_a_partition() -> None:
    listed = items.list_partition("pets", "u1")
    assert all(items.partition("pets", i) != listed for i in ("#upload#u1", "u1", "upload#u1"))
    assert items.record_of(items.partition("pets", "a|b#c")) == "a|b#c"


def test_the_key_of_the_longest_id_fits_beside_the_longest_dataset() -> None:
    assert items.key_fits(items.partition("d" * 40, "x" * 1024))
    assert not items.key_fits(items.partition("d" * 40, "ü" * 1024))


def test_only_what_needs_review_has_a_label_or_an_image_is_in_those_indexes() -> None:
    plain = items.prediction_item("pets", offer(needs_review=False), "order")
    assert {"review_of", "image_upload_of"} & set(plain) == set()
    both = items.prediction_item("pets", offer(image_upload="u2"), "order")
    assert {"review_of", "image_upload_of"} <= set(both)
    assert "label_of" not in items.row_item("pets", "u1", "a", False, None)
    assert "label_of" in items.row_item("pets", "u1", "a", True, "cat")
