"""Parquet and Arrow: typed columns come out as exact text, row by row, in bounded memory."""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from mm_assets.reading.arrow_file import ArrowSource, open_arrow
from mm_assets.reading.parquet import MOST_ROWS, ParquetSource, open_parquet
from mm_assets.reading.table import Wanted
from mm_assets.reading.tables import Table
from tests.reading.files import (
    ID,
    Open,
    refused,
    rejects_of,
    rows_of,
    table_of,
    write_arrow,
    written,
)


def as_parquet(path: Path, table: pa.Table) -> tuple[Path, Open]:
    pq.write_table(table, path / "t.parquet", row_group_size=max(1, len(table) // 2))
    return path / "t.parquet", ParquetSource


def as_arrow(path: Path, table: pa.Table) -> tuple[Path, Open]:
    return write_arrow(path / "t.arrow", table), ArrowSource


def as_stream(path: Path, table: pa.Table) -> tuple[Path, Open]:
    return write_arrow(path / "t.arrows", table, stream=True), ArrowSource


def as_feather(path: Path, table: pa.Table) -> tuple[Path, Open]:
    feather.write_feather(table, path / "t.feather", compression="lz4")
    return path / "t.feather", ArrowSource


Writer = Callable[[Path, pa.Table], tuple[Path, Open]]
all_formats = pytest.mark.parametrize("write", [as_parquet, as_arrow, as_stream, as_feather])


def read(tmp_path: Path, write: Writer, columns: dict[str, Any], wanted: Wanted = ID) -> Table:
    path, source = write(tmp_path, pa.table(columns))
    return table_of(source, path, wanted)


def values(table: Table, name: str) -> list[Any]:
    at = table.header.index(name) + 1
    return [row[at] for row in rows_of(table)]


def zoned(text: str, zone: str) -> pa.Array:
    return pa.array([dt.datetime.fromisoformat(text)], pa.timestamp("us", zone))


@all_formats
def test_each_type_has_its_exact_text(tmp_path: Path, write: Writer) -> None:
    moment = dt.datetime.fromisoformat("2026-01-31T10:00:00")
    columns = {
        "id": ["a"],
        "long": pa.array([2**63 - 1]),
        "unsigned": pa.array([2**64 - 1], pa.uint64()),
        "whole": [1.0],
        "float": [0.1],
        "single": pa.array([0.1], pa.float32()),
        "large": [1e300],
        "nan": [float("nan")],
        "yes": [True],
        "none": pa.nulls(1),
        "day": [dt.date(2026, 1, 31)],
        "moment": [moment],
        "instant": zoned("2026-01-31T10:00:00.500+00:00", "Europe/Berlin"),
        "nowhere": zoned("2026-01-31T10:00:00+00:00", "Mars/Base"),
        "time": [dt.time(10, 30)],
        "lasting": [dt.timedelta(hours=-1, milliseconds=250)],
        "price": [decimal.Decimal("1.20")],
        "town": pa.array(["Zürich"]).dictionary_encode(),
        "number": pa.array([7]).dictionary_encode(),
        "text": pa.array(["x"], pa.large_string()),
    }
    table = read(tmp_path, write, columns)
    assert dict(zip(table.header, rows_of(table)[0][1:], strict=True)) == {
        "id": "a", "long": "9223372036854775807", "unsigned": "18446744073709551615",
        "whole": "1.0", "float": "0.1", "single": "0.1", "large": "1e+300", "nan": None,
        "yes": "true", "none": None, "day": "2026-01-31", "moment": "2026-01-31T10:00:00",
        "instant": "2026-01-31T11:00:00.5+01:00", "nowhere": "2026-01-31T10:00:00+00:00",
        "time": "10:30:00", "lasting": "-3599.75", "price": "1.20", "town": "Zürich",
        "number": "7", "text": "x",
    }  # fmt: skip
    assert table.typed


@all_formats
def test_a_float_is_an_id_only_where_no_digit_can_be_lost(tmp_path: Path, write: Writer) -> None:
    ids = [1.0, 2.5, None, 2.0**53 - 1, 2.0**53, float("inf"), float("nan"), -4.0]
    table = read(tmp_path, write, {"id": ids, "v": range(8)})
    assert values(table, "id") == ["1", None, "9007199254740991", None, "-4"]
    lost = [("id_number_lost", line, None) for line in (2, 5, 6)]
    assert rejects_of(table) == lost
    single = read(tmp_path, write, {"id": pa.array([16_777_215, 16_777_216], pa.float32())})
    assert values(single, "id") == ["16777215"]


@all_formats
def test_uuids_are_written_as_people_know_them(tmp_path: Path, write: Writer) -> None:
    ids = [uuid.uuid4(), uuid.uuid4(), uuid.uuid4()]
    array = pa.array([one.bytes for one in ids], pa.uuid())
    table = read(tmp_path, write, {"id": array, "v": [1, 2, 3]})
    assert values(table, "id") == [str(one) for one in ids]


def test_lists_objects_and_bytes_are_left_out_or_rejects_where_they_are_wanted(
    tmp_path: Path,
) -> None:
    columns = {
        "id": ["a", "b"], "tags": [["x"], None], "at": [{"x": 1}, {"x": 2}],
        "old": pa.array([b"text", b"\xff"]), "v": [1, 2],
    }  # fmt: skip
    for write in (as_parquet, as_arrow):
        table = read(tmp_path, write, columns)
        assert rows_of(table) == [(1, "a", "1"), (2, "b", "2")]
        assert table.facts == {"columns_nested": ["tags", "at", "old"]}
        table = read(tmp_path, write, columns, Wanted("id", ("tags", "missing")))
        assert rows_of(table) == [(2, "b", None, "2")]
        assert rejects_of(table) == [("value_nested", 1, "a")]
        table = read(tmp_path, write, columns, Wanted("id", ("old",)))
        assert rows_of(table) == [(1, "a", "text", "1")]
        assert rejects_of(table) == [("value_nested", 2, "b")]


def test_the_index_of_pandas_is_left_out_and_told(tmp_path: Path) -> None:
    import pandas as pd

    frame = pd.DataFrame({"id": ["a", "b"], "v": [1, 2]}).iloc[[1]]
    frame.to_parquet(tmp_path / "t.parquet")
    table = table_of(open_parquet, tmp_path / "t.parquet")
    assert rows_of(table) == [(1, "b", "2")]
    assert table.facts == {"index_left_out": ["__index_level_0__"]}


@all_formats
def test_a_nul_or_too_much_in_a_field_is_a_reject(tmp_path: Path, write: Writer) -> None:
    columns = {"id": ["a", "b", "c"], "v": ["x\0y", "z" * 131_073, "ok"]}
    table = read(tmp_path, write, columns)
    assert rows_of(table) == [(3, "c", "ok")]
    assert rejects_of(table) == [("value_nul", 1, "a"), ("field_too_long", 2, "b")]


@all_formats
def test_text_that_is_no_utf8_refuses_the_table(tmp_path: Path, write: Writer) -> None:
    wrong = pa.StringArray.from_buffers(1, pa.py_buffer(np.int32([0, 1])), pa.py_buffer(b"\xff"))
    path, source = write(tmp_path, pa.table({"id": wrong}))
    refused(source, path, "table_encoding")


def test_rows_are_numbered_through_all_groups_and_batches(tmp_path: Path) -> None:
    count = 2 * MOST_ROWS + 7
    columns = pa.table({"id": [f"r{at}" for at in range(1, count + 1)]})
    for path, source in (as_parquet(tmp_path, columns), as_arrow(tmp_path, columns)):
        read_rows = rows_of(table_of(source, path))
        assert read_rows == [(at, f"r{at}") for at in range(1, count + 1)]


def test_a_table_without_rows_is_a_table(tmp_path: Path) -> None:
    empty = pa.table({"id": pa.array([], pa.string())})
    for write in (as_parquet, as_arrow, as_stream):
        path, source = write(tmp_path, empty)
        assert rows_of(table_of(source, path)) == []


def test_blocks_stay_small_whatever_a_dictionary_stands_for(tmp_path: Path) -> None:
    # A row of 1 byte in the file is 100,000 characters of text.
    long = pa.array(["x" * 100_000])
    array = pa.DictionaryArray.from_arrays(pa.array([0] * 3_000, pa.int8()), long)
    path = write_arrow(tmp_path / "t.arrow", pa.table({"id": range(3_000), "v": array}))
    largest = max(block.columns[1].nbytes for block in ArrowSource(path, ID).blocks())
    assert largest < 16 << 20


# -- hostile --------------------------------------------------------------------------------------


def test_damage_is_refused_in_words(tmp_path: Path) -> None:
    table = pa.table({"id": ["a"] * 1_000, "v": range(1_000)})
    whole = as_parquet(tmp_path, table)[0].read_bytes()
    arrow = as_arrow(tmp_path, table)[0].read_bytes()
    stream = as_stream(tmp_path, table)[0].read_bytes()
    cases = [
        (open_parquet, whole[:-1]),
        (open_parquet, b"PAR1"),
        (open_parquet, whole[:4] + whole[-300:]),
        (open_arrow, arrow[:200]),
        (open_arrow, stream[:-900]),
        (open_arrow, b"FEA1" + bytes(99)),
    ]
    for number, (open_it, data) in enumerate(cases):
        error = refused(open_it, written(tmp_path / f"d{number}", data), "table_damaged")
        assert "Arrow" not in error.reason.replace("the Arrow file", ""), number


def test_rows_of_a_bomb_do_not_add_up(tmp_path: Path) -> None:
    # A thousand rows of 4 MB, which a dictionary writes once.
    array = pa.DictionaryArray.from_arrays(pa.array([0] * 1_000), pa.array(["x" * (4 << 20)]))
    pq.write_table(pa.table({"id": range(1_000), "v": array}), tmp_path / "t.parquet")
    refused(open_parquet, tmp_path / "t.parquet", "table_too_large")


def test_arrow_offsets_that_point_anywhere_are_noticed(tmp_path: Path) -> None:
    path = write_arrow(tmp_path / "t.arrow", pa.table({"id": ["aaaa", "bbbb"], "v": [1, 2]}))
    data = path.read_bytes()
    at = data.index(np.int32([0, 4, 8]).tobytes())
    for offset in (2**30, -5, 2):
        wild = data[: at + 8] + np.int32(offset).tobytes() + data[at + 12 :]
        error = refused(open_arrow, written(tmp_path / "w.arrow", wild), "table_damaged")
        assert error.reason
