"""Workbooks: the sheet that holds the IDs is read, and what Excel made of an ID is told."""

from __future__ import annotations

import datetime as dt
import io
import zipfile
from pathlib import Path

import openpyxl
import pytest

from mm_assets.reading import workbook
from mm_assets.reading.table import MOST_COLUMNS, Wanted
from mm_assets.reading.workbook import open_workbook
from tests.reading.files import (
    ID,
    refused,
    rejects_of,
    rows_of,
    table_of,
    write_ods,
    write_xls,
    write_xlsx,
    written,
)

ROWS = [["id", "n", "x", "t", "b"], ["a", 1, 1.5, "red", True], ["b", None, -2.0, None, False]]
READ = [(2, "a", "1", "1.5", "red", "true"), (3, "b", None, "-2", None, "false")]


def test_xlsx_xls_and_ods_read_alike(tmp_path: Path) -> None:
    files = [
        write_xlsx(tmp_path / "t.xlsx", Sheet1=ROWS),
        write_xls(tmp_path / "t.xls", ROWS),
        write_ods(tmp_path / "t.ods", ROWS),
    ]
    for path in files:
        table = table_of(open_workbook, path)
        assert rows_of(table) == READ, path.name
        assert table.typed
        assert table.facts == {"sheet": "Sheet1"}
        assert rows_of(table) == READ, "a second time"


def test_dates_times_and_durations_are_iso_and_seconds(tmp_path: Path) -> None:
    values = [
        dt.date(2026, 1, 31), dt.datetime.fromisoformat("2026-01-31T10:00:00"),
        dt.datetime.fromisoformat("2026-01-31T10:00:00.500"),
        dt.time(10, 30), dt.timedelta(hours=30), dt.timedelta(seconds=1.5),
    ]  # fmt: skip
    rows = [["id", "v"], *([f"r{at}", value] for at, value in enumerate(values))]
    table = table_of(open_workbook, write_xlsx(tmp_path / "t.xlsx", S=rows))
    assert [row[2] for row in rows_of(table)] == [
        "2026-01-31", "2026-01-31T10:00:00", "2026-01-31T10:00:00.5", "10:30:00", "108000", "1.5",
    ]  # fmt: skip


def test_an_id_that_the_workbook_changed_is_a_reject_and_a_whole_number_is_not(
    tmp_path: Path,
) -> None:
    ids = [7, 7.0, 123456789012345, 1234567890123456789, 1.5, dt.date(2026, 3, 1), True, "007",
           dt.time(1, 2), -3, "1E5", dt.timedelta(hours=30)]  # fmt: skip
    rows = [["id", "v"], *([value, at] for at, value in enumerate(ids))]
    table = table_of(open_workbook, write_xlsx(tmp_path / "t.xlsx", S=rows))
    read = rows_of(table)
    assert [row[1] for row in read] == ["7", "7", "123456789012345", "007", "-3", "1E5"]
    assert rejects_of(table) == [
        ("id_number_lost", 5, None), ("id_number_lost", 6, None), ("id_is_date", 7, None),
        ("id_is_date", 8, None), ("id_is_date", 10, None), ("id_is_date", 13, None),
    ]  # fmt: skip
    assert table.n_rows == len(ids)


def test_only_the_id_is_that_strict(tmp_path: Path) -> None:
    rows = [["id", "v"], ["a", 1e300], ["b", 0.1 + 0.2], ["c", 123456789012345680]]
    table = table_of(open_workbook, write_xlsx(tmp_path / "t.xlsx", S=rows))
    assert [float(row[2]) for row in rows_of(table)] == pytest.approx([row[1] for row in rows[1:]])
    assert rejects_of(table) == []


def test_the_sheet_with_most_columns_is_read_and_the_others_are_named(
    tmp_path: Path,
) -> None:
    path = write_xlsx(
        tmp_path / "t.xlsx", About=[["made by"], ["someone"]], Empty=[],
        Columns=[["column", "meaning"], ["id", "whose"]], Ids=[["id"], ["a"]],
        Data=[["ID ", "v", "w"], ["a", 1, 2]], More=[["id", "v"], ["b", 3]],
    )  # fmt: skip
    table = table_of(open_workbook, path, Wanted("id", ("v", "w")))
    assert rows_of(table) == [(2, "a", "1", "2")]
    assert table.facts == {
        "sheet": "Data", "more_sheets": ["More"], "other_sheets": ["About", "Columns", "Ids"],
        "renamed": {"ID": "id"},
    }  # fmt: skip
    more = table_of(open_workbook, path, Wanted("id", ("v", "w"), sheet="More"))
    assert rows_of(more) == [(2, "b", "3")]
    assert more.facts == {"sheet": "More"}


def test_a_sheet_that_people_see_comes_before_a_hidden_one(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.active.title = "Hidden"
    book.active.append(["id"])
    book.active.append(["old"])
    seen = book.create_sheet("Seen")
    seen.append(["id"])
    seen.append(["new"])
    book.active = 1
    book["Hidden"].sheet_state = "hidden"
    book.save(tmp_path / "t.xlsx")
    table = table_of(open_workbook, tmp_path / "t.xlsx")
    assert rows_of(table) == [(2, "new")]
    assert table.facts["other_sheets"] == ["Hidden"]


def test_without_a_name_to_look_for_the_first_sheet_with_columns_is_read(tmp_path: Path) -> None:
    path = write_xlsx(tmp_path / "t.xlsx", Note=[["read me"]], Data=[["a", "b"], [1, 2]])
    table = table_of(open_workbook, path, Wanted())
    assert table.header == ["a", "b"]
    legend = [["column", "meaning"], ["a", "first"]]
    both = write_xlsx(
        tmp_path / "v.xlsx", Legend=legend, Data=[["a", "b", "c"], *[[1, 2, 3]] * 2],
        Wide=[[*"abcdef"]], Long=[["a"], *[[1]] * 9],
    )  # fmt: skip
    assert table_of(open_workbook, both, Wanted()).header == ["a", "b", "c"]
    alone = write_xlsx(tmp_path / "u.xlsx", Note=[["a"], [1]])
    assert rows_of(table_of(open_workbook, alone, Wanted())) == [(2, "1")]


def test_lines_are_row_numbers_wherever_the_table_starts(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    sheet["C4"], sheet["D4"], sheet["C6"], sheet["D6"], sheet["C9"] = "id", "v", "a", 1, "b"
    book.save(tmp_path / "t.xlsx")
    table = table_of(open_workbook, tmp_path / "t.xlsx")
    assert rows_of(table) == [(6, "a", "1"), (9, "b", None)]
    assert table.facts["header_line"] == 4
    assert table.n_blank == 3


def test_a_title_above_the_header_is_passed_over(tmp_path: Path) -> None:
    rows = [["Survey 2026"], [], ["id", "age", "town"], ["a", 3, "x"]]
    wanted = Wanted("id", ("age", "town"))
    table = table_of(open_workbook, write_xlsx(tmp_path / "t.xlsx", S=rows), wanted)
    assert rows_of(table) == [(4, "a", "3", "x")]
    assert table.facts["header_line"] == 3


def test_formulas_without_a_saved_value_are_counted(tmp_path: Path) -> None:
    rows = [["id", "v"], ["a", "=1+1"], ["b", "=1+2"], ["c", 3]]
    table = table_of(open_workbook, write_xlsx(tmp_path / "t.xlsx", S=rows))
    assert [row[2] for row in rows_of(table)] == [None, None, "3"]
    assert table.facts["formulas_without_value"] == 2


def test_merged_cells_have_their_value_in_each_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workbook, "ROWS_OF_A_BLOCK", 2)
    book = openpyxl.Workbook()
    sheet = book.active
    for at, row in enumerate((["ward", "v"], ["A", 1], [None, 2], [None, 3], ["B", 4]), 4):
        for place, cell in enumerate(row, 4):
            sheet.cell(at, place, cell)
        sheet.cell(at, 3, f"r{at}" if at > 4 else "id")
    for cells in ("D5:D7", "A1:A9", "Z1:Z9", "D40:D50"):
        sheet.merge_cells(cells)
    book.save(tmp_path / "t.xlsx")
    source = workbook.WorkbookSource(tmp_path / "t.xlsx", Wanted("id"))
    wards = [ward for block in source.blocks() for ward in block.columns[1].to_pylist()]
    assert wards == ["A", "A", "A", "B"]
    assert source.facts["merged_cells"] == 2  # the last ones are below all values


def test_of_a_header_over_two_rows_the_second_one_counts(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    for row in (["id", "person", None, "note"], [None, "age", "ward", None], ["a", 1, "A", "x"]):
        sheet.append(row)
    for cells in ("A1:A2", "B1:C1", "D1:D2"):
        sheet.merge_cells(cells)
    book.save(tmp_path / "t.xlsx")
    table = table_of(open_workbook, tmp_path / "t.xlsx", Wanted("id", ("age", "ward", "note")))
    assert table.header == ["id", "age", "ward", "note"]
    assert rows_of(table) == [(3, "a", "1", "A", "x")]


def test_errors_are_empty_and_cells_merged_in_one_row_but_for_the_first(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    for row in (["id", "u", "v"], ["a", "both", None], ["b", "#N/A", 1]):
        sheet.append(row)
    sheet["B3"].data_type = "e"
    sheet.merge_cells("B2:C2")
    book.save(tmp_path / "t.xlsx")
    table = table_of(open_workbook, tmp_path / "t.xlsx")
    assert rows_of(table) == [(2, "a", "both", None), (3, "b", None, "1")]


def test_a_table_without_the_id_is_answered_with_what_was_found(tmp_path: Path) -> None:
    path = write_xlsx(tmp_path / "t.xlsx", One=[["idd", "v"], [1, 2]], Two=[["x"], [1]])
    reason = refused(open_workbook, path, "table_no_id").reason
    assert "'idd', 'v'" in reason
    assert "did you mean 'idd'" in reason
    assert "'One', 'Two'" in reason
    refused(open_workbook, write_xlsx(tmp_path / "u.xlsx", S=[]), "table_header")


def test_fields_that_are_too_long_are_rejects(tmp_path: Path) -> None:
    # Excel stops at 32,767 characters; other programs write more.
    rows = [["id", "v"], ["a", "short"], ["b", "PLACE"]]
    path = write_xlsx(tmp_path / "t.xlsx", S=rows)
    replace_in(path, b"PLACE", b"x" * 131_073)
    assert rejects_of(table_of(open_workbook, path)) == [("field_too_long", 3, "b")]


# -- hostile --------------------------------------------------------------------------------------


def replace_in(path: Path, old: bytes, new: bytes) -> None:
    """Rewrite all parts of a workbook."""
    before = zipfile.ZipFile(io.BytesIO(path.read_bytes()))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as after:
        for name in before.namelist():
            after.writestr(name, before.read(name).replace(old, new))


def test_two_cells_at_far_corners_do_not_take_the_process_down(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.active["A1"], book.active["A2"] = "id", "a"
    book.active.cell(1_048_576, 16_384).value = 1
    book.save(tmp_path / "t.xlsx")
    refused(open_workbook, tmp_path / "t.xlsx", "table_too_large")


def test_a_workbook_that_fills_the_memory_is_refused(tmp_path: Path) -> None:
    path = write_xlsx(tmp_path / "t.xlsx", S=[["id"], ["a"]])
    before = zipfile.ZipFile(io.BytesIO(path.read_bytes()))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as after:
        for name in before.namelist():
            if name != "xl/sharedStrings.xml":
                after.writestr(name, before.read(name))
        with after.open("xl/sharedStrings.xml", "w") as part:
            part.write(b'<sst xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">')
            for _ in range(45):
                part.write(b"<si></si>" * 1_000_000)
            part.write(b"</sst>")
    assert path.stat().st_size < 4 << 20
    refused(open_workbook, path, "table_too_large")


def test_a_workbook_that_says_it_unpacks_into_too_much_is_not_unpacked(tmp_path: Path) -> None:
    data = bytearray(write_xlsx(tmp_path / "t.xlsx", S=ROWS).read_bytes())
    at = -1
    while (at := data.find(b"PK\1\2", at + 1)) >= 0:
        data[at + 24 : at + 28] = b"\xfe\xff\xff\xff"  # its size in the directory
    error = refused(open_workbook, written(tmp_path / "u.xlsx", bytes(data)), "table_too_large")
    assert "unpacks to" in error.reason


def test_xml_entities_are_not_expanded(tmp_path: Path) -> None:
    path = write_xlsx(tmp_path / "t.xlsx", S=[["id"], ["PLACE"]])
    lols = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10))
    replace_in(path, b"<sst", f'<!DOCTYPE sst [<!ENTITY l0 "lol">{lols}]><sst'.encode())
    replace_in(path, b"PLACE", b"&l9;")
    refused(open_workbook, path, "table_damaged")


def test_a_damaged_workbook_is_refused_in_words(tmp_path: Path) -> None:
    whole = write_xlsx(tmp_path / "t.xlsx", S=ROWS).read_bytes()
    old = write_xls(tmp_path / "t.xls", ROWS).read_bytes()
    for number, data in enumerate([whole[:-100], whole[:3000], b"PK\3\4nothing", old[:2000], b"x"]):
        error = refused(open_workbook, written(tmp_path / f"d{number}", data), "table_damaged")
        assert "Error" not in error.reason


@pytest.mark.parametrize(
    ("at", "byte", "code"), [(514, b"\0", "table_damaged"), (1_581, b"\xff", "table_too_large")]
)
def test_a_file_that_crashes_the_library_is_refused_in_words(
    tmp_path: Path, at: int, byte: bytes, code: str
) -> None:
    """calamine runs out of an array at the first place; at the other it asks for 858 GB."""
    data = bytearray(write_xls(tmp_path / "t.xls", ROWS).read_bytes())
    data[at : at + 4] = byte * 4
    error = refused(open_workbook, written(tmp_path / "broken.xls", bytes(data)), code)
    assert "panic" not in error.reason.lower()


def test_more_columns_than_a_table_may_have_are_refused(tmp_path: Path) -> None:
    path = write_xlsx(tmp_path / "t.xlsx", S=[["id", *range(MOST_COLUMNS)], ["a"]])
    refused(open_workbook, path, "table_header", ID)
