"""Small tables that leave nothing to judge: read in no time, where the batch takes a tenth of a
second.

What is not plain (quotes, other letters, blanks around values, a number that could be a thousand)
is left to the way of uploads. Where both read a table they must agree: a property test in
tests/serving/test_plain_csv.py holds them together.
"""

from __future__ import annotations

import re

from mm_assets.contract.dataset import AUTO_ENCODING, DatasetSpec
from mm_assets.reading.header import folded

MOST_BYTES = 1 << 20
MOST_ROWS = 1_000
_PLAIN = re.compile(rb"[ !#$%&()*+,\-./0-9:<=>?@A-Z\[\]^_a-z{}~\r\n]*")  # no quotes, no dividers
_THOUSAND = re.compile(r"-?[0-9]+\.[0-9]{3}")


def plain_rows(data: bytes, spec: DatasetSpec, *, number_rows: bool) -> list[dict[str, str]] | None:
    """The rows of a CSV as records; None if it is not plain. Values are text, '' for missing.

    number_rows: a table without IDs is plain, too; its rows have none. The ID comes once, the
    columns each once, and nothing else. Numbers have still to be looked at one by one.
    """
    if len(data) > MOST_BYTES or spec.records != "table" or spec.image_column is not None:
        return None
    if spec.encoding not in (AUTO_ENCODING, "utf-8") or spec.decimal == ",":
        return None
    if not _PLAIN.fullmatch(data) or data[:1] in (b"{", b"[", b"<"):
        return None
    lines = data.decode("ascii").replace("\r\n", "\n").removesuffix("\n").split("\n")
    if not 2 <= len(lines) <= MOST_ROWS + 1 or "\r" in data.decode("ascii").replace("\r\n", ""):
        return None
    header, *rows = (line.split(",") for line in lines)
    names = {*spec.columns, spec.id_column}
    named = set(header) == names or (number_rows and set(header) == set(spec.columns))
    if not named or len(header) < 2 or len(set(header)) < len(header):
        return None
    key = folded(spec.id_column)
    if spec.id_column not in header and any(folded(cell) == key for row in rows for cell in row):
        return None  # it looks as if the header came later
    numbers = {name for name, kind in spec.kinds.items() if kind == "number"}
    records = []
    for row in rows:
        if len(row) != len(header) or not any(row):
            return None
        record = dict(zip(header, row, strict=True))
        if not all(_is_plain(record[name], name in numbers, spec) for name in header):
            return None
        records.append(record)
    ids = {record.get(spec.id_column, str(n)).casefold() for n, record in enumerate(records)}
    return records if len(ids) == len(records) else None


def _is_plain(cell: str, is_number: bool, spec: DatasetSpec) -> bool:
    if cell.strip() != cell or (not cell and "" not in spec.missing_values):
        return False
    return not is_number or not _THOUSAND.fullmatch(cell)
