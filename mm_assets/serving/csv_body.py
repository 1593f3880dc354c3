"""CSV as services exchange it: often without the names of its columns, both ways."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from typing import Any

from mm_assets.contract.dataset import AUTO_ENCODING, DatasetSpec
from mm_assets.manifest.numbers import looks_like_number
from mm_assets.reading.header import folded
from mm_assets.serving.predictor import Answer
from mm_assets.serving.problems import Problem
from mm_assets.tables.answer import COLUMNS


def has_header(body: bytes, spec: DatasetSpec, said: str | None) -> bool:
    """Whether the first row of a CSV names its columns. said: `present`, `absent` or nothing.

    Where nothing is said, a row with the name of a column is a header. A row without one is a
    record if it has as many cells as a record, and a number in each column of numbers. Raises
    Problem for one that may be either.
    """
    if said is not None and said.lower() in ("present", "absent"):
        return said.lower() == "present"
    row = _first_row(_text(body, spec))
    names = {folded(name) for name in (spec.id_column, *spec.columns, spec.label_column)}
    if names & set(map(folded, row)) or not any(cell.strip() for cell in row):
        return True
    columns = _columns(spec, len(row))
    numbers = [
        cell
        for name, cell in zip(columns, row, strict=True)
        if spec.kinds.get(name) == "number" and cell.strip() not in spec.missing_values
    ]
    if numbers and all(map(looks_like_number, map(str.strip, numbers))):
        return False
    raise Problem(
        422,
        "csv_header",
        "the first row names no column of the dataset, and nothing tells that it is a record",
        "Say which it is: Content-Type: text/csv; header=absent (or header=present).",
    )


def with_header(body: bytes, spec: DatasetSpec) -> bytes:
    """A CSV of records alone under the names of their columns: the ID, if it is there, first.

    Raises Problem where the first row has neither as many cells as columns nor one more.
    """
    text = _text(body, spec)
    columns = _columns(spec, len(_first_row(text)))
    header = io.StringIO()
    csv.writer(header, lineterminator="\n").writerow(columns)
    return (header.getvalue() + text).encode(spec.written_encoding)


def as_csv(answers: Iterable[Answer], *, named: bool) -> bytes:
    """A row for each answer, under a header if `named`. What is missing is empty; probabilities
    are JSON; values are exactly those of the answers, whatever a spreadsheet makes of them.
    """
    written = io.StringIO()
    rows = csv.writer(written, lineterminator="\n")
    quoted = csv.writer(written, lineterminator="\n", quoting=csv.QUOTE_ALL)
    if named:
        rows.writerow(COLUMNS)
    for answer in answers:
        cells = [_cell(answer[name]) for name in COLUMNS]
        # Python 3.11 leaves a lone CR unquoted; what follows it would begin a new row.
        (quoted if any("\r" in cell for cell in cells) else rows).writerow(cells)
    return written.getvalue().encode("utf-8", "replace")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _columns(spec: DatasetSpec, cells: int) -> list[str]:
    names = list(spec.columns)
    if cells == len(names):
        return names
    if cells == len(names) + 1:
        return [spec.id_column, *names]
    raise Problem(
        422,
        "csv_width",
        f"the first row names no column of the dataset, and it has {cells} cells where a record "
        f"has {len(names)}, or {len(names) + 1} with its ID",
        f"Send a header, or these columns: [{spec.id_column},] {', '.join(names)}.",
    )


def _text(body: bytes, spec: DatasetSpec) -> str:
    encoding = "utf-8-sig" if spec.encoding == AUTO_ENCODING else spec.encoding
    try:
        return body.decode(encoding)
    except UnicodeDecodeError:
        raise Problem(
            422, "table_encoding", f"a CSV without a header has to be {spec.written_encoding}",
            "Send a header, or other bytes.",
        ) from None  # fmt: skip


def _first_row(text: str) -> list[str]:
    try:
        return next(csv.reader(io.StringIO(text, newline="")), [])
    except csv.Error as error:
        raise Problem(422, "table_quotes", f"the first row can't be read: {error}") from None
