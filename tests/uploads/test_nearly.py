"""Images that miss their rows by how an ID is written: nothing is joined, and it is said."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from mm_assets.contract.ends import End
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.manifest.before import judge_rows
from mm_assets.predictions.receipt import build_receipt
from mm_assets.tables.open import open_store
from mm_assets.uploads.check import check
from mm_assets.uploads.without_row import nearly, nearly_in_words
from tests.make import dataset, draw_image, drop_folder, processed, table

SPEC = dataset(image_name="{id}")


def ids(*texts: str) -> pa.ChunkedArray:
    return pa.chunked_array([list(texts)], pa.string())


@pytest.mark.parametrize(
    ("row", "image"),
    [
        (" K1", "K1"), ("K1\u00a0", "K1"), ("k1", "K1"), ("1.0", "1"), ("007", "7"), ("7", "007"),
        ("K1.jpg", "K1"), ("K1.JPEG", "k1"), ("IMG_0007", "IMG_7"), ("IMG 7", "IMG-7"),
        ("'008", "008"), ('="008"', "8"), ("K\uff11", "K1"), ("ID – 4", "id_4"),
    ],
)  # fmt: skip
def test_what_is_nearly_the_same_is_found(row: str, image: str) -> None:
    found = nearly(ids("other", row), {"pics/a.png": image, "b.png": "nobody's"})
    assert found == {"count": 1, "shown": [("pics/a.png", image, row)]}


@pytest.mark.parametrize(
    ("row", "image"),
    [("K1", "K1"), ("K1", "K2"), ("1.5", "15"), ("10", "1"), ("100", "1"), ("0", "00a"),
     ("1.50", "1.5"), ("-1", "1"), (" ", "-"), ("K1", "K")],
)  # fmt: skip
def test_what_is_the_same_or_another_id_is_not(row: str, image: str) -> None:
    assert nearly(ids(row), {"a.png": image}) is None


def test_a_row_that_has_its_image_is_not_the_other_ones() -> None:
    assert nearly(ids("K1"), {"K1.png": "K1", "k1.png": "k1"}) is None
    assert nearly(ids(), {"a.png": "K1"}) is None
    assert nearly(ids("K1"), {}) is None


def test_it_is_said_before_an_upload_is_sent_and_in_its_receipt(
    tmp_path: Path, folder_settings: Settings
) -> None:
    files = {f"{number}.png": draw_image(number) for number in range(1, 6)}
    rows = [f"{number}.0,1,red" for number in range(1, 5)]
    files |= {"t.csv": table("id,age,colour", *rows, "5,1,red")}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    report = check(tmp_path, SPEC, judge_rows=judge_rows)
    (words,) = report.without_row
    assert report.ended.end is End.USED
    assert words.startswith("4 of 5 images have IDs that no row of this upload has: ")
    assert "1.png (ID '1'; there is a row '1.0')" in words
    lake, store = Lake(folder_settings), open_store(folder_settings)
    drop_folder(lake, "u", files)
    document = processed(lake, store, SPEC, "u")
    (words,) = nearly_in_words(document["nearly"])
    assert "the ID of 1.png is '1', that of a row '1.0'" in words
    assert words.endswith("; and 1 more")
    assert build_receipt(lake, store, SPEC, document["upload"])["nearly"] == [words]
