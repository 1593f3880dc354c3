"""Images inside Parquet and Arrow: which column they are, and what a row gets of each."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mm_assets.reading.arrow_file import ArrowSource, open_arrow
from mm_assets.reading.images_inside import MOST_ROWS
from mm_assets.reading.parquet import ParquetSource, open_parquet
from mm_assets.reading.table import Wanted
from mm_assets.reading.tables import Table
from tests.make import draw_image
from tests.reading.files import Open, refused, table_of, write_arrow

IMAGES = Wanted("id", images=True)
ONE, TWO = draw_image(1), draw_image(2)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def as_parquet(path: Path, table: pa.Table) -> tuple[Path, Open]:
    pq.write_table(table, path / "t.parquet", row_group_size=2)
    return path / "t.parquet", ParquetSource


def as_arrow(path: Path, table: pa.Table) -> tuple[Path, Open]:
    return write_arrow(path / "t.arrow", table), ArrowSource


def as_stream(path: Path, table: pa.Table) -> tuple[Path, Open]:
    return write_arrow(path / "t.arrows", table, stream=True), ArrowSource


both = pytest.mark.parametrize("write", [as_parquet, as_arrow, as_stream])


def read(
    path: Path, write: Any, columns: dict[str, Any], wanted: Wanted = IMAGES
) -> tuple[Table, list[dict[str, Any]]]:
    at, source = write(path, pa.table(columns))
    table = table_of(source, at, wanted)
    return table, [row for batch in table.batches() for row in batch.to_pylist()]


@both
def test_a_column_of_bytes_is_told_by_its_values(tmp_path: Path, write: Any) -> None:
    columns = {"id": ["a", "b", "c"], "photo": [ONE, None, TWO], "text": [b"x", b"y", b"z"]}
    table, rows = read(tmp_path, write, columns)
    assert table.facts == {"images_in": "photo", "columns_nested": ["text"]}
    assert table.header == ["id", "photo", "photo.sha256"]
    assert [row["_image"] for row in rows] == [ONE, None, TWO]
    assert [row["photo.sha256"] for row in rows] == [sha256(ONE), None, sha256(TWO)]
    assert [row["photo"] for row in rows] == [None] * 3


@both
@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()])
def test_an_image_of_hugging_face_has_a_path_as_well(
    tmp_path: Path, write: Any, kind: pa.DataType
) -> None:
    if kind == pa.binary_view() and write is as_parquet:
        kind = pa.binary()
    images = pa.array(
        [{"bytes": ONE, "path": "cat/1.png"}, {"bytes": None, "path": "2.png"}, None],
        pa.struct([("bytes", kind), ("path", pa.string())]),
    )
    table, rows = read(tmp_path, write, {"image": images, "id": ["a", "b", "c"]})
    assert table.header == ["image", "image.path", "image.sha256", "id"]
    assert [row["_image"] for row in rows] == [ONE, None, None]
    assert [row["image.path"] for row in rows] == ["cat/1.png", "2.png", None]
    assert [row["image"] for row in rows] == [None, "2.png", None]  # it names a file


@both
def test_the_path_can_be_the_id(tmp_path: Path, write: Any) -> None:
    images = [{"bytes": ONE, "path": "1.png"}, {"bytes": TWO, "path": "2.png"}]
    table, rows = read(tmp_path, write, {"image": images}, Wanted("image.path", images=True))
    assert table.id_column == "image.path"
    assert [row["image.path"] for row in rows] == ["1.png", "2.png"]


@both
def test_of_a_list_the_first_counts(tmp_path: Path, write: Any) -> None:
    lists = [[{"bytes": ONE, "path": None}, {"bytes": TWO, "path": None}], [], None,
             [{"bytes": TWO, "path": "2"}]]  # fmt: skip
    table, rows = read(tmp_path, write, {"id": list("abcd"), "images": lists})
    assert table.facts == {"images_in": "images", "image_lists": "images"}
    assert [row["_image"] for row in rows] == [ONE, None, None, TWO]


@both
def test_of_a_list_all_count_where_that_is_wanted(tmp_path: Path, write: Any) -> None:
    lists = [[{"bytes": ONE, "path": "1"}, {"bytes": TWO, "path": "2"}], [], None,
             [{"bytes": TWO, "path": "2"}]]  # fmt: skip
    wanted = Wanted("id", images=True, all_images=True)
    table, rows = read(tmp_path, write, {"id": list("abcd"), "images": lists}, wanted)
    assert table.facts == {"images_in": "images", "image_lists_whole": "images"}
    assert [row["_image"] for row in rows] == [[ONE, TWO], [], [], [TWO]]


@both
def test_of_several_columns_one_is_chosen_and_all_are_told(tmp_path: Path, write: Any) -> None:
    columns = {"id": ["a"], "mask": [ONE], "image": [TWO]}
    table, rows = read(tmp_path, write, columns)
    assert table.facts == {
        "images_in": "image", "image_columns": ["image", "mask"], "columns_nested": ["mask"],
    }  # fmt: skip
    assert rows[0]["_image"] == TWO
    named = Wanted("id", ("mask",), images=True, image_column="mask")
    table, rows = read(tmp_path, write, columns, named)
    assert table.facts == {"images_in": "mask", "columns_nested": ["image"]}
    assert rows[0]["_image"] == ONE


def test_what_nobody_wants_or_what_is_no_image_is_left_out(tmp_path: Path) -> None:
    columns = {"id": ["a", "b", "c"], "image": [ONE, b"no image", b"none either"]}
    table, rows = read(tmp_path, as_parquet, columns)
    assert table.facts == {"columns_nested": ["image"]}
    assert rows[0].keys() == {"_file", "_line", "id"}
    table, _ = read(tmp_path, as_parquet, {"id": ["a"], "image": [ONE]}, Wanted("id"))
    assert table.facts == {"columns_nested": ["image"]}


def test_a_column_that_is_named_holds_images_whatever_they_are(tmp_path: Path) -> None:
    named = Wanted("id", ("image",), images=True, image_column="image")
    columns = {"id": ["a", "b", "c"], "image": [b"no image", b"none either", b""]}
    table, rows = read(tmp_path, as_parquet, columns, named)
    assert [row["_image"] for row in rows] == [b"no image", b"none either", b""]
    assert not table.rejects


def test_rows_that_are_refused_or_blank_take_their_images_along(tmp_path: Path) -> None:
    columns = {"id": [1.5, 2.0, None], "image": [ONE, TWO, None]}
    table, rows = read(tmp_path, as_parquet, columns)
    assert [(row["id"], row["_image"]) for row in rows] == [("2", TWO)]
    assert [reject.code for reject in table.rejects] == ["id_number_lost"]
    assert table.n_blank == 1


@pytest.mark.parametrize("write", [as_parquet, as_arrow])
def test_the_process_apart_hands_out_the_same(tmp_path: Path, write: Any) -> None:
    table = pa.table({"id": ["a", "b"], "image": [ONE, None], "v": [1, 2]})
    path, here = write(tmp_path, table)
    apart = open_parquet if write is as_parquet else open_arrow
    mine, other = table_of(here, path, IMAGES), table_of(apart, path, IMAGES)
    assert list(mine.batches()) == list(other.batches())
    assert mine.header == other.header


def test_one_image_for_very_many_rows_is_a_bomb(tmp_path: Path) -> None:
    """A dictionary holds it once: a small file that would be hundreds of megabytes of images."""
    noise = np.random.default_rng(0).bytes(1 << 19)
    values = pa.array([ONE + noise], pa.binary())
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(1000, np.int32)), values)
    pq.write_table(pa.table({"id": range(1000), "image": column}), tmp_path / "t.parquet")
    assert (tmp_path / "t.parquet").stat().st_size < 2 << 20
    found = refused(open_parquet, tmp_path / "t.parquet", "table_too_large", IMAGES)
    assert "far more than the file" in found.reason


def test_images_that_fill_the_memory_refuse_the_table(tmp_path: Path) -> None:
    """One block of rows would be two gigabytes, of a few kilobytes."""
    values = pa.array([ONE + bytes(8 << 20)], pa.binary())
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(256, np.int32)), values)
    pq.write_table(
        pa.table({"id": range(256), "image": column}), tmp_path / "t.parquet",
        compression="zstd", dictionary_pagesize_limit=1 << 24, write_statistics=False,
    )  # fmt: skip
    assert (tmp_path / "t.parquet").stat().st_size < 1 << 20
    refused(open_parquet, tmp_path / "t.parquet", "table_too_large", IMAGES)


@pytest.mark.parametrize("write", [as_parquet, as_arrow])
def test_a_file_cut_anywhere_is_refused_in_words(tmp_path: Path, write: Any) -> None:
    images = [draw_image(n) for n in range(8)]
    path, source = write(tmp_path, pa.table({"id": range(8), "image": images}))
    whole = path.read_bytes()
    for stop in range(12, len(whole), len(whole) // 12):
        path.write_bytes(whole[:stop])
        refused(source, path, "table_damaged", IMAGES)


def test_blocks_hold_few_images(tmp_path: Path) -> None:
    path, source = as_parquet(
        tmp_path, pa.table({"id": range(MOST_ROWS * 2 + 1), "image": [ONE] * (MOST_ROWS * 2 + 1)})
    )
    sizes = [batch.num_rows for batch in table_of(source, path, IMAGES).batches()]
    assert max(sizes) <= MOST_ROWS
    assert sum(sizes) == MOST_ROWS * 2 + 1
