"""Images that come with a table in which no row has their ID: said before they are sent."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from mm_assets.manifest.before import judge_rows
from mm_assets.uploads.check import check
from mm_assets.uploads.without_row import without_row
from tests.make import dataset, draw_image, table


@pytest.mark.parametrize(
    ("record_id", "row"),
    [
        ("A7_1", "A7"),
        ("A7 (2)", "A7"),
        ("Copy of A7", "A7"),
        ("A7-front", "A7"),
        ("a7", "A7"),
        ("A7.v2", "A7"),
        (" A7", "A7"),
        ("7", "007"),
        ("0007", "007"),
        ("scan B-8.1 x", "b-8.1"),
        ("A77", None),
        ("", None),
        ("---", None),
    ],
    ids=str,
)
def test_the_id_of_a_row_is_found_in_the_name_of_an_image(record_id: str, row: str | None) -> None:
    ids = pa.chunked_array([["A7", "007"], ["b-8.1"]])
    [words] = without_row({"x.png": record_id}, ids, "{id}")
    if row is None:
        assert "there is a row" not in words
        assert "image_name" not in words
    else:
        assert f"there is a row '{row}'" in words
        assert 'correct `image_name: "{id}"`' in words


def test_nothing_is_said_where_each_image_has_a_row_or_no_row_came() -> None:
    assert without_row({"a.png": "a"}, pa.chunked_array([["a", "b"]]), "{id}") == []
    assert without_row({"a.png": "a"}, pa.chunked_array([[]], pa.string()), "{id}") == []
    assert without_row({}, pa.chunked_array([["a"]]), "{id}") == []


def test_of_many_the_first_are_named_and_those_first_that_can_be_explained() -> None:
    images = {f"{n}.png": f"x{n}" for n in range(5)} | {"9.png": "a_1", "b.png": "b"}
    [words] = without_row(images, pa.chunked_array([["a", "b"]]), "{id}")
    assert words.startswith(
        "6 of 7 images have IDs that no row of this upload has: 9.png (ID 'a_1'; there is a row "
        "'a'), 0.png (ID 'x0'), 1.png (ID 'x1'), …; an image waits until its row comes"
    )


def test_the_check_says_it_also_of_rows_that_are_refused(tmp_path: Path) -> None:
    files = {
        "rows.csv": table("id,age,colour,label", "1,2,red,", "2,old,red,", "3,1,red,"),
        "1.png": draw_image(1), "2.png": draw_image(2), "3_a.png": draw_image(3),
    }  # fmt: skip
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    report = check(tmp_path, dataset(image_name="{id}"), judge_rows=judge_rows)
    assert report.problems_by_code == {"number_invalid": 1}
    [words] = report.without_row
    assert words.startswith(
        "1 of 3 images has an ID that no row of this upload has: 3_a.png (ID '3_a'; there is a row "
        "'3')"
    )
    assert report.as_dict()["without_row"] == report.without_row
