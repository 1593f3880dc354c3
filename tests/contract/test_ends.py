"""How things end, from counts alone."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_assets.contract.ends import (
    NOT_LEFT_OUT,
    End,
    LeftOut,
    end_of_training,
    end_of_upload,
    failed_too,
    read_ended,
    worst,
)

COMMAS = LeftOut("number_invalid", "row", 10, ("a.csv:3", "a.csv:7", "a.csv:9"), "'1,5'", "Fix.")
BROKEN = LeftOut("image_unreadable", "file", 2, ("x.jpg", "y.jpg"), "cut short", "Send it again.")


def test_an_upload_used_in_part_says_how_much_was_left_out_and_where_the_first_are() -> None:
    ended = end_of_upload(rows=200, files=40, used=230, left_out=[BROKEN, COMMAS])
    assert ended.end is End.IN_PART
    assert ended.words == (
        "used in part: 10 of 200 rows and 2 of 40 files left out: "
        "number_invalid 10 (a.csv:3, a.csv:7, a.csv:9, …), image_unreadable 2 (x.jpg, y.jpg)"
    )
    assert ended.todo == "Fix."


def test_nothing_used_is_told_apart_by_what_came_through() -> None:
    assert end_of_upload(rows=10, files=1, used=0, left_out=[COMMAS]).words == (
        "nothing used: 10 of 10 rows left out: number_invalid 10 (a.csv:3, a.csv:7, a.csv:9, …)"
    )
    header_alone = end_of_upload(rows=0, files=1, used=0, left_out=[])
    assert header_alone.words == "nothing used: no row and no image is in it"
    assert header_alone.todo
    refused = {"code": "archive_bomb", "what": "too big", "todo": "Send less."}
    whole = end_of_upload(rows=0, files=0, used=0, left_out=[], refused=refused)
    assert (whole.end, whole.todo) == (End.NOTHING, "Send less.")
    assert whole.words == "nothing used: [archive_bomb] too big"


@given(
    used=st.integers(0, 3),
    counts=st.dictionaries(st.sampled_from([*NOT_LEFT_OUT, "id_blank"]), st.integers(0, 3)),
)
def test_the_end_hangs_on_what_came_through_and_on_what_was_left_out(
    used: int, counts: dict[str, int]
) -> None:
    out = [LeftOut(code, "row", count) for code, count in counts.items()]
    ended = end_of_upload(rows=9, files=1, used=used, left_out=out)
    assert (ended.end is End.NOTHING) == (used == 0)
    assert (ended.end is End.USED) == (used > 0 and not counts.get("id_blank"))
    assert bool(ended.words) == (ended.end is not End.USED)
    written = json.loads(json.dumps(ended.as_document()))
    assert read_ended(written) == ended


def test_the_worst_end_of_several_counts_and_each_has_its_exit_code() -> None:
    assert worst([]) is End.USED
    assert worst([End.USED, End.IN_PART, End.NOTHING]) is End.NOTHING
    assert worst([End.NOTHING, End.FAILED, End.USED]) is End.FAILED
    assert [end.exit_code for end in End] == [0, 3, 2, 1]


def test_predictions_that_failed_make_a_used_upload_one_that_is_used_in_part() -> None:
    one = LeftOut("prediction_failed", "record", 2, ("a", "b"), "bad luck", "Look.")
    used = end_of_upload(rows=9, files=1, used=9, left_out=[])
    ended = failed_too(used, 2, 9, one)
    assert (ended.end, ended.left_out) == (End.IN_PART, (one,))
    assert ended.words == "used in part: 2 of 9 predictions failed: prediction_failed 2 (a, b)"
    nothing = end_of_upload(rows=1, files=1, used=0, left_out=[COMMAS])
    assert failed_too(nothing, 2, 9, one).end is End.NOTHING


def model(code: str, modality: str = "with_image") -> LeftOut:
    return LeftOut(code, "model", 1, (modality,), "why", "Do.")


@pytest.mark.parametrize(
    ("trained", "missing", "end"),
    [
        (["model_with_image", "model_without_image"], [], End.USED),
        (["model_without_image"], [model("too_few_records")], End.IN_PART),
        (["model_without_image"], [model("no_images")], End.USED),
        ([], [model("no_images"), model("one_class", "without_image")], End.NOTHING),
        ([], [model("no_images")], End.NOTHING),
    ],
)
def test_a_training_ends_as_its_models_do(
    trained: list[str], missing: list[LeftOut], end: End
) -> None:
    ended = end_of_training(trained, missing)
    assert ended.end is end
    assert all(one.code in ended.words for one in missing)


def test_a_model_that_stopped_early_was_used_in_part() -> None:
    stopped = end_of_training(["model_with_image"], [], ["model_with_image"])
    assert stopped.end is End.IN_PART
    assert stopped.words == "used in part: model_with_image stopped early, with the best so far"
    other = end_of_training(["model_with_image"], [model("one_class", "without_image")], ["m"])
    assert other.words == (
        "used in part: 1 of 2 models not trained: without_image one_class; "
        "m stopped early, with the best so far"
    )


def test_what_was_published_before_there_were_ends_is_used() -> None:
    assert read_ended({"counts": {}}).end is End.USED
