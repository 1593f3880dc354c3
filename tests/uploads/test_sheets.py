"""A workbook whose sheets are several tables: each is one of the upload."""

from __future__ import annotations

from pathlib import Path

import openpyxl

from mm_assets.contract.ends import End
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.manifest.before import judge_rows
from mm_assets.tables.open import open_store
from mm_assets.uploads.check import check
from tests.make import dataset, drop_folder, processed, received, rows_of

SPEC = dataset()
HEADER = ["id", "age", "colour"]
SHEETS = {
    "Columns": [["column", "meaning"], ["id", "whose it is"], ["age", "in years"]],
    "January": [HEADER, ["a", 1, "red"]],
    "February": [HEADER, ["b", 2, "blue"], ["c", "old", "red"]],
    "March": [["id", "age"], ["d", 3]],
    "Diagnoses": [["ID", "Label"], ["a", "cat"]],
}


def test_each_sheet_with_the_id_and_more_is_a_table(
    tmp_path: Path, folder_settings: Settings
) -> None:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in SHEETS.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(tmp_path / "t.xlsx")
    report = check(tmp_path / "t.xlsx", SPEC, judge_rows=judge_rows)
    assert report.ended.end is End.IN_PART
    lake, store = Lake(folder_settings), open_store(folder_settings)
    drop_folder(lake, "u", {"t.xlsx": (tmp_path / "t.xlsx").read_bytes()})
    receipt = received(lake, SPEC, "u")
    assert {table["file"]: table["rows"] for table in receipt["tables"]} == {
        "t.xlsx": 1, "t.xlsx, sheet February": 2, "t.xlsx, sheet Diagnoses": 1
    }  # fmt: skip
    assert receipt["tables"][0]["read_as"]["other_sheets"] == ["Columns"]
    refused = {file["file"]: file["code"] for file in rows_of(lake, receipt, "files.parquet")}
    assert refused == {
        "t.xlsx": None, "t.xlsx, sheet February": None, "t.xlsx, sheet Diagnoses": None,
        "t.xlsx, sheet March": "table_columns",
    }  # fmt: skip
    document = processed(lake, store, SPEC, "u")
    records = rows_of(lake, document, "manifest.parquet")
    assert {one["record_id"]: one["label"] for one in records} == {"a": "cat", "b": None}
    (reject,) = rows_of(lake, document, "rejects.parquet")
    assert (reject["file"], reject["line"]) == ("t.xlsx, sheet February", 3)
