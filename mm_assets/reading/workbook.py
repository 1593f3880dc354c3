"""Workbooks: .xlsx, .xlsm, .xlsb, .xls and .ods. A row's line is its row number in the sheet.

Of the sheets that hold the ID column, those that people see before those that are hidden, the one
with most of what is wanted is read. Others of them that hold more than the ID are tables, too:
`more_sheets` in the facts names them, and each is opened by its name. A formula counts as the value
that was saved with it. A cell with an error (`#N/A`) is empty. The value of merged cells is that of
each of their rows, in their first column. Numbers that are whole have no decimal point (a workbook
knows no other numbers); dates and times are ISO 8601, a duration is its seconds.

Spreadsheets make numbers and dates of IDs. A number stands for an ID as long as no digit can be
lost; dates and truth values never do, since nobody knows what was typed.
"""

from __future__ import annotations

import datetime as dt
import itertools
import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mm_assets.reading.apart import open_apart
from mm_assets.reading.header import ROWS_TRIED, clean, find_header, folded, without_id
from mm_assets.reading.table import MOST_COLUMNS, Block, Source, TableRefused, Wanted
from mm_assets.reading.typed import LOST, Fault, faults_of, id_place, without_faults

if TYPE_CHECKING:
    import pyarrow as pa

MOST_BYTES = 4 << 30  # of all parts of a workbook, unpacked
MOST_PARTS = 10_000
MOST_SHEETS = 100  # that are tables; each is opened by itself
ROWS_OF_A_BLOCK = 5_000
_DIGITS = 10**15  # Excel keeps 15 of a number
_SHOWN = 20
_DATE_REASON = "the ID is a date, a time or a truth value; what was typed is not known"
# A formula whose value was never computed: written by a program that cannot calculate.
_NO_VALUE = re.compile(rb"</f>\s*(?:<v\s*/>|<v>\s*</v>)?\s*</c>")


def open_workbook(path: Path, wanted: Wanted) -> Source:
    """Open a workbook. Raises TableRefused."""
    return open_apart(f"{__name__}:WorkbookSource", path, wanted)


class _Merged(NamedTuple):
    """Cells of one column that are merged, as places: below `first`, up to `last`."""

    column: int
    first: int
    last: int


class _Sheet(NamedTuple):
    name: str
    cells: Any  # CalamineSheet
    header_at: int  # which of its rows
    header: list[str]
    merged: list[_Merged]
    known: int = 0  # how many of the wanted names are in the header


class WorkbookSource(Source):
    """One sheet of a workbook, read in this process."""

    typed = True

    def __init__(self, path: Path, wanted: Wanted) -> None:
        facts = _parts_facts(path) if zipfile.is_zipfile(path) and not wanted.sheet else {}
        self._sheet, more, others = _chosen(_workbook(path), wanted)
        self.header = self._sheet.header
        self.facts = {"sheet": self._sheet.name, **facts}
        if self._sheet.header_at:
            self.facts["header_line"] = self._sheet.header_at + 1
        if merged := [one for one in self._sheet.merged if one.last > self._sheet.header_at]:
            self.facts["merged_cells"] = len(merged)
        if more:
            self.facts["more_sheets"] = more
        if others:
            self.facts["other_sheets"] = others[:_SHOWN]
        self._id_at, _ = id_place(self.header, wanted)

    def blocks(self) -> Iterator[Block]:
        line = self._sheet.header_at + 2
        values: dict[_Merged, Any] = {}
        rows = itertools.islice(self._sheet.cells.iter_rows(), line - 1, None)
        while part := list(itertools.islice(rows, ROWS_OF_A_BLOCK)):
            _fill(part, line - 1, self._sheet.merged, values)
            yield self._block(part, line)
            line += len(part)

    def _block(self, rows: list[list[Any]], line: int) -> Block:
        import numpy as np
        import pyarrow as pa

        cells = list(zip(*rows, strict=True))
        texts = [_texts(column) for column in cells]
        faults = [] if self._id_at is None else _id_faults(cells[self._id_at])
        for name, text in zip(self.header, texts, strict=True):
            faults += faults_of(text, name)
        lines = pa.array(np.arange(line, line + len(rows), dtype=np.int64))
        return without_faults(Block(lines, texts), faults, self._id_at)


# -- the file -------------------------------------------------------------------------------------


def _parts_facts(path: Path) -> dict[str, Any]:
    """What the parts of a zip say; no library has seen it yet. Raises TableRefused."""
    try:
        with zipfile.ZipFile(path) as parts:
            infos = parts.infolist()
            size = sum(info.file_size for info in infos)
            if len(infos) > MOST_PARTS or size > MOST_BYTES:
                reason = f"the workbook unpacks to {len(infos):,} parts and {size:,} bytes"
                raise TableRefused("table_too_large", reason)
            sheets = [i for i in infos if re.fullmatch(r"xl/worksheets/[^/]+\.xml", i.filename)]
            missing = sum(_formulas_without_value(parts, info) for info in sheets)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError):
        raise _damaged() from None
    return {"formulas_without_value": missing} if missing else {}


def _formulas_without_value(parts: zipfile.ZipFile, info: zipfile.ZipInfo) -> int:
    import zlib

    count, rest = 0, b""
    try:
        with parts.open(info) as stream:
            while piece := stream.read(1 << 20):
                text = rest + piece
                end = 0
                for match in _NO_VALUE.finditer(text):
                    count, end = count + 1, match.end()
                rest = text[max(end, len(text) - 64) :]
    except (zlib.error, EOFError):
        raise _damaged() from None
    return count


def _damaged() -> TableRefused:
    return TableRefused("table_damaged", "the workbook is damaged or cut short")


def _workbook(path: Path) -> Any:
    import python_calamine

    try:
        return python_calamine.CalamineWorkbook.from_path(path)
    except python_calamine.PasswordError:
        reason = "the workbook is protected with a password"
        raise TableRefused("table_damaged", reason) from None
    except (python_calamine.CalamineError, OSError, ValueError):
        raise _damaged() from None


# -- the sheet ------------------------------------------------------------------------------------


def _chosen(workbook: Any, wanted: Wanted) -> tuple[_Sheet, list[str], list[str]]:
    """The sheet to be read, the names of others that are tables, and of those that are none."""
    from python_calamine import SheetTypeEnum, SheetVisibleEnum

    metas = [
        meta
        for meta in workbook.sheets_metadata
        if meta.typ == SheetTypeEnum.WorkSheet and wanted.sheet in (None, meta.name)
    ]
    metas.sort(key=lambda meta: meta.visible != SheetVisibleEnum.Visible)
    best: _Sheet | None = None
    known: dict[str, int] = {}
    filled: list[str] = []
    refused: list[TableRefused] = []
    for meta in metas:
        cells = _cells(workbook, meta.name)
        if not cells.height:
            continue
        filled.append(meta.name)
        if best and meta.visible != SheetVisibleEnum.Visible:
            continue
        try:
            found = _with_header(meta.name, cells, wanted)
        except TableRefused as error:
            refused.append(error)
            continue
        known[meta.name] = found.known
        if best is None or _is_better(found, best, wanted):
            best = found
    if best is None:
        raise _no_table(refused, filled)
    more = [name for name, count in known.items() if count > 1 and name != best.name]
    if len(more) >= MOST_SHEETS:
        reason = f"more than {MOST_SHEETS} sheets hold the ID and other columns"
        raise TableRefused("table_too_large", reason)
    return best, more, [name for name in filled if name not in (best.name, *more)]


def _no_table(refused: list[TableRefused], filled: list[str]) -> TableRefused:
    """Why no sheet is one: what is wrong with one that has the ID, before that none has it."""
    for error in refused:
        if error.code != "table_no_id":
            return error
    if len(filled) > 1 and refused:
        sheets = ", ".join(f"'{name}'" for name in filled[:_SHOWN])
        reason = f"{refused[0].reason}; nor in any other sheet of {sheets}"
        return TableRefused("table_no_id", reason, refused[0].line)
    return refused[0] if refused else TableRefused("table_header", "no sheet holds anything")


def _is_better(found: _Sheet, best: _Sheet, wanted: Wanted) -> bool:
    """Without a name to look for, the first sheet with several columns is the table; but not a
    list of columns, or another legend, before a sheet that is both longer and wider."""
    old, new = best.cells, found.cells
    if wanted.id_column is None:
        return bool(new.width > old.width and (old.width == 1 or new.height > old.height))
    return found.known > best.known


def _cells(workbook: Any, name: str) -> Any:
    import python_calamine

    try:
        cells = workbook.get_sheet_by_name(name)
    except (python_calamine.CalamineError, OSError, ValueError):
        raise _damaged() from None
    if cells.width > MOST_COLUMNS:
        raise TableRefused("table_header", f"more than {MOST_COLUMNS:,} columns")
    return cells


def _with_header(name: str, cells: Any, wanted: Wanted) -> _Sheet:
    # Empty rows above the first cell are handed out too, so a row's place is its number. They are
    # not counted in the search: a table may start far down.
    numbered = enumerate(cells.iter_rows())
    start = cells.start[0]
    top = list(itertools.islice(numbered, start, start + ROWS_TRIED))
    merged = _merged_down(cells)
    _fill([row for _, row in top], start, merged, {})
    rows = [[_text(cell) or "" for cell in row] for _, row in top]
    lines = [at + 1 for at, _ in top]
    at = find_header(rows, wanted, lines)
    if wanted.id_column is not None:
        at = _last_of_header(rows, at, start, merged, wanted.id_column)
    header = rows[at]
    if wanted.id_column is not None and not any(map(clean, header)):
        raise without_id(header, wanted.id_column)
    asked = {folded(name) for name in wanted.names}
    known = len(asked & set(map(folded, header)))
    return _Sheet(name, cells, lines[at] - 1, header, merged, known)


def _last_of_header(
    rows: list[list[str]], at: int, start: int, merged: list[_Merged], id_column: str
) -> int:
    """Of a header over several rows, in which the ID's name is merged, the last one."""
    place = [folded(cell) for cell in rows[at]].index(folded(id_column))
    for one in merged:
        if one.column == place and one.first <= start + at <= one.last:
            return min(one.last - start, len(rows) - 1)
    return at


def _merged_down(cells: Any) -> list[_Merged]:
    """Which cells are merged over several rows; places in rows as `iter_rows` hands them out.

    Those beside all values hold none.
    """
    left = cells.start[1] if cells.start else 0
    return [
        _Merged(column - left, first, last)
        for (first, column), (last, _) in cells.merged_cell_ranges or ()
        if last > first and left <= column < left + cells.width
    ]


def _fill(
    rows: list[list[Any]], begin: int, merged: list[_Merged], values: dict[_Merged, Any]
) -> None:
    """Write the value of merged cells into each of their rows. begin: the place of the first row;
    values: those that were come by, and rows further down may need."""
    end = begin + len(rows)
    for one in merged:
        if one.last < begin or one.first >= end:
            continue
        if one.first >= begin:
            values[one] = rows[one.first - begin][one.column]
        for at in range(max(begin, one.first + 1), min(end, one.last + 1)):
            if rows[at - begin][one.column] == "":
                rows[at - begin][one.column] = values.get(one, "")


# -- the cells ------------------------------------------------------------------------------------


def _text(cell: Any) -> str | None:
    """One cell as text; None where it is empty."""
    if isinstance(cell, str):
        return cell or None
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() and abs(cell) < _DIGITS else repr(cell)
    if isinstance(cell, dt.timedelta):
        whole = cell.total_seconds()
        return str(int(whole)) if whole.is_integer() else repr(whole)
    if isinstance(cell, dt.datetime | dt.date | dt.time):
        text = cell.isoformat()
        return text.rstrip("0") if "." in text else text
    return str(cell)


def _texts(cells: Sequence[Any]) -> pa.Array:
    import pyarrow as pa

    if set(map(type, cells)) == {str}:
        return pa.array([cell or None for cell in cells], pa.string())
    return pa.array([_text(cell) for cell in cells], pa.string())


def _id_faults(cells: Sequence[Any]) -> list[Fault]:
    import pyarrow as pa

    kinds = set(map(type, cells))
    faults = []
    if kinds & {int, float}:
        lost = [
            type(cell) in (int, float) and not (abs(cell) < _DIGITS and cell == int(cell))
            for cell in cells
        ]
        faults.append(Fault(pa.array(lost, pa.bool_()), "id_number_lost", LOST))
    if kinds - {int, float, str}:
        other = [type(cell) not in (int, float, str) for cell in cells]
        faults.append(Fault(pa.array(other, pa.bool_()), "id_is_date", _DATE_REASON))
    return faults
