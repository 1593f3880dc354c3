"""The very files of `shared/cases`, where they are at hand: two directories up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mm_assets.contract.ends import End
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.manifest.before import judge_rows
from mm_assets.tables.open import open_store
from mm_assets.uploads.check import check
from tests.cases.case import SPEC
from tests.make import dataset, drop_folder, processed, received, rows_of

FOLDER = Path(__file__).parents[3] / "shared" / "cases"
AGES = [56.9, 63.1, 71.4, 55.2, 60.3]

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="shared/cases is not here")

# Folder: what the receipt says of the table.
TABLES: dict[str, dict[str, Any]] = {
    "a01_xlsx": {"format": "workbook", "sheet": "Sheet1"},
    "a02_parquet": {"format": "parquet"},
    "a03_jsonl": {"format": "json_lines"},
    "a04_json": {"format": "json_array"},
    "a05_tsv_txt": {"delimiter": "\t"},
    "a06_semicolon_comma_bom": {"delimiter": ";", "encoding": "utf-8"},
    "a07_cp1252": {"delimiter": ";", "encoding": "windows-1252"},
    "a08_utf16_excel_unicode_text": {"delimiter": "\t", "encoding": "utf-16"},
    "a09_csv_gz": {"compression": "gzip", "delimiter": ","},
    "a10_quoted_newline": {"delimiter": ","},
    "a11_pandas_index": {"columns_without_name": [1]},
    "a12_trailing_empty_columns": {"columns_without_name": [5, 6]},
    "a13_sep_line": {"separator_line": True, "delimiter": ";"},
    "a15_header_case_space": {"renamed": {"ID": "id", "Age": "age", "Colour": "colour"}},
    "a16_missing_markers": {"delimiter": ","},
    "a17_number_formats": {"delimiter": ","},
    "a18_trailing_blank_rows": {"delimiter": ","},
    "lock": {"delimiter": ","},
}
AGES_OF: dict[str, list[float | None]] = {
    "a16_missing_markers": [None] * 5,
    "a17_number_formats": [1234.5, 1234.0],
    "lock": [61.0],
}


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_no_table_is_left_out_of_this_list() -> None:
    elsewhere = {"codes", "images", "init", "zips"}
    assert {path.name for path in FOLDER.iterdir()} == TABLES.keys() | elsewhere


@pytest.mark.parametrize("name", TABLES)
def test_each_table_is_read(folder_settings: Settings, name: str) -> None:
    lake, store = Lake(folder_settings), open_store(folder_settings)
    drop_folder(lake, "u", files_of(FOLDER / name))
    document = processed(lake, store, SPEC, "u")
    (table,) = received(lake, SPEC, "u")["tables"]
    assert {key: table["read_as"][key] for key in TABLES[name]} == TABLES[name]
    records = rows_of(lake, document, "manifest.parquet")
    assert [one["features"]["age"] for one in records] == AGES_OF.get(name, AGES)
    assert {one["features"]["colour"] for one in records} <= {"red", "blue"}
    assert all(one["features"]["notes"] for one in records)
    rejects = {one["record_id"]: one["code"] for one in rows_of(lake, document, "rejects.parquet")}
    invalid = ["TH02", "TH03", "TH04"] if name == "a17_number_formats" else []
    assert rejects == dict.fromkeys(invalid, "number_invalid")
    report = check(FOLDER / name, SPEC, judge_rows=judge_rows)
    assert report.ended.end is (End.IN_PART if invalid else End.USED)


def test_codes_that_became_floats_are_all_there(folder_settings: Settings) -> None:
    lake, store = Lake(folder_settings), open_store(folder_settings)
    spec = dataset(columns={"grade": "category", "height": "number"}, classes=["0", "1"])
    for name in ("train", "pred_int", "pred_float"):
        drop_folder(lake, name, files_of(FOLDER / "codes" / name))
        counts = processed(lake, store, spec, name)["counts"]
        assert (counts["records"], counts["rejected"]) == (counts["rows"], 0)


def test_no_image_ends_in_silence(folder_settings: Settings) -> None:
    """Each is used, or has a code and words; which images are taken is told elsewhere."""
    lake, store = Lake(folder_settings), open_store(folder_settings)
    drop_folder(lake, "images", files_of(FOLDER / "images"))
    document = processed(lake, store, SPEC, "images")
    files = rows_of(lake, received(lake, SPEC, "images"), "files.parquet")
    assert all(bool(one["code"]) == bool(one["reason"]) for one in files)
    good = sum(one["kind"] == "image" and not one["code"] for one in files)
    fates = ("used", "duplicate", "superseded", "orphaned")
    assert good == sum(document["counts"][f"images_{fate}"] for fate in fates) > 10


REFUSED_IMAGES = {
    "pics/I15trunc.jpg": "image_unreadable", "pics/I17zero.jpg": "image_empty",
    "pics/I21html.jpg": "image_unreadable", "pics/I29noeoi.jpg": "image_unreadable",
}  # fmt: skip


def test_only_images_that_are_damaged_are_refused() -> None:
    report = check(FOLDER / "images", SPEC, judge_rows=judge_rows)
    assert {problem.file: problem.code for problem in report.problems} == REFUSED_IMAGES
    assert report.counts["images"] == 26
    assert len(report.first_of_several) == 1


# What becomes of each archive, and of the folder with one in it; the others are used.
ARCHIVES = {"z9_clutter.zip": End.IN_PART, "z10_case_dup.zip": End.NOTHING}


def test_each_archive_is_used_or_refused_in_words() -> None:
    for path in sorted((FOLDER / "zips").iterdir()):
        report = check(path, SPEC, judge_rows=judge_rows)
        assert report.ended.end is ARCHIVES.get(path.name, End.USED), path.name
        assert (report.ended.end is End.NOTHING) == (report.refused is not None), path.name
        if report.refused:
            assert report.refused.todo, path.name
