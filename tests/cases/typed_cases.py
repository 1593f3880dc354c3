"""Workbooks, Parquet, Arrow and JSON, written by the programs that people use."""

from __future__ import annotations

import datetime as dt
import gzip
import io
import json
import tempfile
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from tests.cases.case import HEADER, PEOPLE, Case, Values, rows
from tests.reading.files import write_ods, write_xls

FRAME = pd.DataFrame(rows())
SHEET = [HEADER, *([key, *values] for key, values in PEOPLE.items())]
ONE: dict[str, Values] = {"K1": (1.5, "red", "x")}
OBJECT = {"id": "K1", "age": 1.5, "colour": "red", "notes": "x"}
LEGEND = pd.DataFrame({"code": [1, 2], "meaning": ["a", "b"]})


def written(write: Callable[[Path], Any]) -> bytes:
    """What a function writes to a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        write(path)
        return path.read_bytes()


def workbook(*sheets: tuple[str, Sequence[Sequence[Any]]]) -> bytes:
    import openpyxl

    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, cells in sheets:
        sheet = book.create_sheet(name)
        for row in cells:
            sheet.append(list(row))
    return written(book.save)


def excel(frame: pd.DataFrame, **options: Any) -> bytes:
    out = io.BytesIO()
    frame.to_excel(out, **{"index": False, **options})
    return out.getvalue()


def parquet(frame: pd.DataFrame) -> bytes:
    return written(frame.to_parquet)


def as_json(value: Any, **options: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, **options).encode()


WORKBOOKS = [
    Case("a01", ".xlsx", workbook(("Sheet1", SHEET)), "t.xlsx",
         read_as={"format": "workbook", "sheet": "Sheet1"}),
    Case("a01", ".xls", written(partial(write_xls, rows=SHEET)), "t.xls"),
    Case("a01", ".ods", written(lambda path: write_ods(path.with_suffix(".ods"), SHEET)
         .rename(path)), "t.ods"),
    Case("a01", "the ID stands in the second sheet",
         workbook(("Legend", [["code", "meaning"], [1, "a"]]), ("Data", SHEET)), "t.xlsx",
         read_as={"sheet": "Data", "other_sheets": ["Legend"]}),
    Case("a01", "a title above, an index beside", excel(FRAME, index=True, startrow=3), "t.xlsx",
         read_as={"header_line": 4, "columns_without_name": [1]}),
    Case("a01", "an .xlsx that calls itself .csv", workbook(("Sheet1", SHEET))),
    Case("a01", "whole numbers as IDs", workbook(("A", [HEADER, [1001, 1.5, "red", "x"]])),
         "t.xlsx", records={"1001": ONE["K1"]}),
    Case("a01", "numbers and dates that were other IDs",
         workbook(("A", [HEADER, [1.5, 1, "red", "x"], [dt.date(2026, 3, 1), 1, "red", "x"],
                         [True, 1, "red", "x"], ["007", 1.5, "red", "x"]])), "t.xlsx",
         records={"007": ONE["K1"]},
         rejects={2: "id_number_lost", 3: "id_is_date", 4: "id_is_date"}),
    Case("a01", "formatted cells: a percentage, a date, an error",
         workbook(("A", [HEADER, ["K1", 0.12, "red", "x"], ["K2", dt.date(2026, 3, 1), "red", "x"],
                         ["K3", "#N/A", dt.date(2026, 3, 1), True]])), "t.xlsx",
         records={"K1": (0.12, "red", "x"), "K3": (None, "2026-03-01", "true")},
         rejects={3: "number_invalid"}, words=["2026-03-01"]),
    Case("a01", "rows of nothing below and notes beside",
         workbook(("A", [*SHEET, [None], ["", " ", ""], [None] * 4])), "t.xlsx",
         blank_rows=2),
    Case("a01", "no ID in any sheet", workbook(("A", [["x"], [1]]), ("B", [["y"], [1]])), "t.xlsx",
         refused="table_no_id", words=["'x'", "nor in any other sheet of 'A', 'B'"]),
    Case("a01", "cut short", workbook(("A", SHEET))[:-300], "t.xlsx",
         refused="table_damaged", words=["damaged or cut short"]),
]  # fmt: skip

PARQUET = [
    Case("a02", "pandas", parquet(FRAME), "t.parquet", read_as={"format": "parquet"}),
    Case("a02", "the ID as the index of pandas", parquet(FRAME.set_index("id")), "t.parquet"),
    Case("a02", "Feather", written(FRAME.to_feather), "t.feather",
         read_as={"format": "arrow"}),
    Case("a02", "integers as IDs", parquet(FRAME.assign(id=[1, 2**62, -7])), "t.parquet",
         records=dict(zip(["1", str(2**62), "-7"], PEOPLE.values(), strict=True))),
    Case("a02", "floats as IDs", parquet(FRAME.assign(id=[1.0, 2.5, 1e300])), "t.parquet",
         records={"1": PEOPLE["K1"]}, rejects={2: "id_number_lost", 3: "id_number_lost"}),
    Case("a02", "truth values, dates and categories",
         parquet(FRAME.assign(colour=[True, False, None], notes=pd.Timestamp("2026-01-31"))),
         "t.parquet", records={key: (PEOPLE[key][0], colour, "2026-01-31T00:00:00") for key, colour
                               in {"K1": "true", "K2": "false", "K3": None}.items()}),
    Case("a02", "decimals as IDs, as databases have them",
         parquet(FRAME.assign(id=list(map(Decimal, ("1.000", "20.000", "2.500"))))), "t.parquet",
         records=dict(zip(["1", "20", "2.500"], PEOPLE.values(), strict=True))),
    Case("a02", "infinity", parquet(FRAME.assign(age=[1.5, float("inf"), None])), "t.parquet",
         records={"K1": (1.5, *PEOPLE["K1"][1:]), "K3": (None, *PEOPLE["K3"][1:])},
         rejects={2: "number_invalid"}, words=["'inf'"]),
    Case("a02", "lists", parquet(FRAME.assign(notes=[["a"], None, None], more=[["a"]] * 3)),
         "t.parquet", read_as={"columns_nested": ["more"]}, rejects={1: "value_nested"},
         records={key: (*PEOPLE[key][:2], None) for key in ("K2", "K3")}),
    Case("a02", "gzip around it", gzip.compress(parquet(FRAME)), "t.parquet.gz",
         read_as={"format": "parquet", "compression": "gzip"}),
    Case("a02", "cut short", parquet(FRAME)[:-9], "t.parquet",
         refused="table_damaged", words=["damaged or cut short"]),
]  # fmt: skip

JSON = [
    Case("a03", "an object a line", b"\n".join(map(as_json, rows())), "metadata.jsonl",
         read_as={"format": "json_lines"}),
    Case("a03", "pandas, and gzip", FRAME.to_json(orient="records", lines=True).encode(), "t.json"),
    Case("a03", "a line that is none", b"\n".join([as_json(OBJECT), b'{"id": "K2",,}', b""]),
         "t.jsonl", records=ONE, rejects={2: "row_json"}),
    Case("a03", "keys in another case, keys that are missing",
         b"\n".join([as_json({"ID": "K1", "Age ": 1.5}), as_json({"ID": "K2", "colour": "red",
                     "notes": None})]), "t.jsonl", read_as={"renamed": {"ID": "id", "Age": "age"}},
         records={"K1": (1.5, None, None), "K2": (None, "red", None)}),
    Case("a03", "UTF-16, as PowerShell writes it", as_json(OBJECT).decode().encode("utf-16"),
         "t.jsonl", refused="table_encoding", words=["JSON is read as UTF-8"]),
    Case("a04", "an array of objects", as_json(rows()), "t.json", read_as={"format": "json_array"}),
    Case("a04", "Windows-1252 in one line",
         '{"id": "Müller", "age": 1}'.encode("cp1252"), "t.json",
         refused="table_encoding", words=["0xfc", "not utf-8"]),
    Case("a04", "numbers as texts, indented",
         as_json([{**row, "age": str(row["age"])} for row in rows()], indent=2), "t.json"),
    Case("a04", "alone in an object", as_json({"data": rows()}), "t.json"),
    Case("a04", "NaN", b'[{"id": "K1", "age": NaN, "colour": "red", "notes": "x"}]', "t.json",
         records={"K1": (None, "red", "x")}),
    Case("a04", "numbers as IDs",
         b'[{"id": 12345678901234567890123, "age": 1.5, "colour": "red", "notes": "x"}]', "t.json",
         records={"12345678901234567890123": ONE["K1"]}),
    Case("a04", "objects inside", as_json([{**OBJECT, "more": {"a": 1}}, {**OBJECT, "id": "K2",
         "notes": ["a"]}]), "t.json", records=ONE, rejects={1: "value_nested"},
         words=["'notes' holds a list"]),
    Case("a04", "pandas' own default: a column an object", FRAME.to_json().encode(), "t.json",
         refused="table_json", words=["'id', 'age'", "orient='records'"]),
    Case("a04", "orient='split'", FRAME.to_json(orient="split").encode(), "t.json",
         refused="table_json", words=["more than this one key"]),
    Case("a04", "orient='index'", FRAME.to_json(orient="index").encode(), "t.json",
         refused="table_json", words=["orient='records'"]),
    Case("a04", "an array of arrays", as_json(SHEET), "t.json",
         refused="table_json", words=["JSON object"]),
    Case("a04", "cut short", as_json(rows())[:-9], "t.json",
         refused="table_json", words=["never closed"]),
]  # fmt: skip

TYPED_CASES = [*WORKBOOKS, *PARQUET, *JSON]
