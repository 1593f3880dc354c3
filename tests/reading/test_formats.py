"""A file's format is told by its content, and one table reads alike from each."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mm_assets.reading.arrow_file import ArrowSource
from mm_assets.reading.formats import SUFFIXES, TABLE_SUFFIXES, Format, format_of
from mm_assets.reading.json_array import open_json_array
from mm_assets.reading.json_lines import open_json_lines
from mm_assets.reading.parquet import ParquetSource
from mm_assets.reading.workbook import WorkbookSource
from tests.reading.files import (
    rows_of,
    table_of,
    write_arrow,
    write_json_lines,
    write_ods,
    write_xls,
    write_xlsx,
    written,
)


def told(path: Path, name: str = "upload/file") -> Format | None:
    return format_of(path, path.read_bytes()[: 64 << 10], name)


def test_files_of_each_format_are_told_without_their_name(tmp_path: Path) -> None:
    rows = [["id", "v"], ["a", "b"]]
    table = pa.table({"id": ["a"], "v": ["b"]})
    pq.write_table(table, tmp_path / "p")
    assert told(tmp_path / "p") == Format.PARQUET
    assert told(write_arrow(tmp_path / "a", table)) == Format.ARROW
    assert told(write_arrow(tmp_path / "s", table, stream=True)) == Format.ARROW
    assert told(write_xlsx(tmp_path / "x.xlsx", S=rows)) == Format.WORKBOOK
    assert told(write_xls(tmp_path / "x.xls", rows)) == Format.WORKBOOK
    assert told(write_ods(tmp_path / "x.ods", rows)) == Format.WORKBOOK
    assert told(write_json_lines(tmp_path / "l", [{"id": 1}, {"id": 2}])) == Format.JSON_LINES
    assert told(written(tmp_path / "c", "id,v\na,b\n")) == Format.DELIMITED


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ('{"id": 1}\n', "x", Format.JSON_LINES),
        ('\ufeff\n {"id": 1}', "x", Format.JSON_LINES),
        ('{"tags": [{"a": 1}], "id": 2}\n{"tags": []}', "x", Format.JSON_LINES),
        ('[{"id": 1}]', "x", Format.JSON_ARRAY),
        (" [\n {", "x", Format.JSON_ARRAY),
        ("[]", "x", Format.JSON_ARRAY),
        ('{"data": [{"id": 1}]}', "x", Format.JSON_ARRAY),
        ('{\n  "data": [\n{"id": 1}]}', "x", Format.JSON_ARRAY),
        ('{\n  "id": 1\n}', "x.json", Format.JSON_ARRAY),
        ('{"id": 1\n{"id": 2}\n', "x.jsonl", Format.JSON_LINES),
        ("[id],[name]\n1,2\n", "x.csv", Format.DELIMITED),
        ("{id},x\n", "x.csv", Format.DELIMITED),
        ("id\0,x", "x.csv", Format.DELIMITED),
        ("id\0,x", "x", None),
        ("%PDF-1.7", "x.csv", None),
        ("GIF89a", "x.csv", None),
        ("SQLite format 3\0", "x", None),
    ],
)
def test_text_is_told_by_how_it_begins(
    tmp_path: Path, text: str, name: str, expected: Format | None
) -> None:
    assert told(written(tmp_path / "t", text), name) == expected


@pytest.mark.parametrize("part", ["word/document.xml", "data/records.csv", "old/xl/workbook.xml"])
def test_a_zip_that_is_no_workbook_is_no_table(tmp_path: Path, part: str) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(part, "id")
    assert told(written(tmp_path / "t.xlsx", buffer.getvalue()), "t.xlsx") is None


def test_an_old_office_file_that_is_no_workbook_is_no_table(tmp_path: Path) -> None:
    word = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600) + "WordDocument".encode("utf-16-le")
    assert told(written(tmp_path / "t.xls", word), "t.xls") is None


def test_each_ending_belongs_to_one_format() -> None:
    assert set(SUFFIXES) == set(Format)
    assert len(set(TABLE_SUFFIXES)) == len(TABLE_SUFFIXES)


# -- one table, every format ----------------------------------------------------------------------

# What a workbook can hold, too: no control characters, and numbers of 15 digits.
texts = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Cn"], exclude_characters="\ufeff\ufffe\uffff"),
    min_size=1, max_size=8,
).filter(lambda text: text.strip() == text and not text.startswith(("=", "#")))  # fmt: skip
columns = st.one_of(
    st.lists(st.none() | texts, min_size=3, max_size=3),
    st.lists(st.none() | st.integers(-(10**14), 10**14), min_size=3, max_size=3),
    st.lists(st.none() | st.booleans(), min_size=3, max_size=3),
    st.lists(
        st.none() | st.integers(-(10**9), 10**9).map(lambda n: (2 * n + 1) / 8),
        min_size=3, max_size=3,
    ),
)  # fmt: skip
tables = st.lists(columns, min_size=1, max_size=4)


def text_of(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return None if value is None else str(value)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(tables)
def test_one_table_reads_alike_from_every_format(tmp_path: Path, values: list[list[Any]]) -> None:
    names = ["id", *(f"c{at}" for at in range(len(values)))]
    ids = ["a", "b", "c"]
    rows = [dict(zip(names, row, strict=True)) for row in zip(ids, *values, strict=True)]
    expected = [tuple(map(text_of, row.values())) for row in rows]
    frame = pa.table({name: [row[name] for row in rows] for name in names})
    pq.write_table(frame, tmp_path / "t.parquet")
    sheet = [names, *(list(row.values()) for row in rows)]
    files = {
        ParquetSource: [tmp_path / "t.parquet"],
        ArrowSource: [write_arrow(tmp_path / "t.arrow", frame)],
        open_json_lines: [write_json_lines(tmp_path / "t.jsonl", rows)],
        open_json_array: [written(tmp_path / "t.json", json.dumps(rows, indent=1))],
        WorkbookSource: [
            write_xlsx(tmp_path / "t.xlsx", S=sheet),
            write_xls(tmp_path / "t.xls", sheet),
        ],
    }
    for source, paths in files.items():
        for path in paths:
            found = [row[1:] for row in rows_of(table_of(source, path))]
            assert found == expected, path.name
