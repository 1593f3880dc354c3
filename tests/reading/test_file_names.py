"""`photo.name` as the ID: the last part of each path in the column `photo`."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mm_assets.reading.table import TableRefused, Wanted
from mm_assets.reading.tables import open_table

PATHS = ["a/b/1.jpg", "C:\\data\\2.JPG", "3.png ", "/x\n/4.png", ""]
NAMES = ["1.jpg", "2.JPG", "3.png", "4.png", ""]


def rows_of(path: Path, id_column: str) -> tuple[str | None, list[dict[str, str]]]:
    table = open_table(path, file="t", wanted=Wanted(id_column), scratch=path.parent)
    return table.id_column, [row for batch in table.batches() for row in batch.to_pylist()]


def test_each_format_has_it(tmp_path: Path) -> None:
    csv, parquet, lines = (tmp_path / f"t.{kind}" for kind in ("csv", "parquet", "jsonl"))
    csv.write_text("\n".join(["photo,v", *(f'"{path}",1' for path in PATHS)]))
    pq.write_table(pa.table({"photo": PATHS, "v": [1] * 5}), parquet)
    import json

    lines.write_text("\n".join(json.dumps({"photo": path, "v": 1}) for path in PATHS))
    for path in (csv, parquet, lines):
        name, rows = rows_of(path, "photo.name")
        assert name == "photo.name"
        assert [row["photo.name"] or "" for row in rows] == NAMES
        assert [row["v"] for row in rows] == ["1"] * 5


def test_a_column_that_is_called_so_is_meant_first(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("photo,photo.name\na/1.jpg,mine\n")
    assert rows_of(path, "photo.name")[1][0]["photo.name"] == "mine"


def test_without_the_column_the_table_has_no_id(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,2\n3,4\n")
    with pytest.raises(TableRefused) as caught:
        rows_of(path, "photo.name")
    assert caught.value.code == "table_no_id"
