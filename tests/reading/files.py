"""Files of each format, written by the programs that people use, and how they read."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mm_assets.contract.errors import REFUSALS
from mm_assets.reading.table import Source, TableRefused, Wanted
from mm_assets.reading.tables import Table

Open = Callable[[Path, Wanted], Source]
ID = Wanted("id")


def table_of(open_it: Open, path: Path, wanted: Wanted = ID) -> Table:
    return Table(open_it(path, wanted), file=f"in/{path.name}", wanted=wanted)


def rows_of(table: Table) -> list[tuple[Any, ...]]:
    """Each row's line and values, in the order of the header."""
    rows = [row for batch in table.batches() for row in batch.to_pylist()]
    return [(row["_line"], *(row[name] for name in table.header)) for row in rows]


def rejects_of(table: Table) -> list[tuple[str, int | None, str | None]]:
    list(table.batches())
    assert {reject.code for reject in table.rejects} <= set(REFUSALS)
    return [(reject.code, reject.line, reject.record_id) for reject in table.rejects]


def refused(open_it: Open, path: Path, code: str, wanted: Wanted = ID) -> TableRefused:
    with pytest.raises(TableRefused) as caught:
        rows_of(table_of(open_it, path, wanted))
    assert caught.value.code == code
    assert code in REFUSALS
    return caught.value


def written(path: Path, data: str | bytes) -> Path:
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def write_xlsx(path: Path, **sheets: Sequence[Sequence[Any]]) -> Path:
    import openpyxl

    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(list(row))
    book.save(path)
    return path


def write_xls(path: Path, rows: Sequence[Sequence[Any]]) -> Path:
    import xlwt

    book = xlwt.Workbook()
    sheet = book.add_sheet("Sheet1")
    for at, row in enumerate(rows):
        for place, cell in enumerate(row):
            if cell is not None:
                sheet.write(at, place, cell)
    book.save(str(path))
    return path


def write_ods(path: Path, rows: Sequence[Sequence[Any]]) -> Path:
    import pandas as pd

    frame = pd.DataFrame(rows[1:], columns=rows[0], dtype=object)
    frame.to_excel(path, index=False, engine="odf")
    return path


def write_arrow(path: Path, table: pa.Table, *, stream: bool = False) -> Path:
    new = pa.ipc.new_stream if stream else pa.ipc.new_file
    with new(path, table.schema) as writer:
        writer.write_table(table)
    return path


def write_json_lines(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    return written(path, "".join(json.dumps(row) + "\n" for row in rows))
