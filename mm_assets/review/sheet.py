"""tasks.csv: the review queue as a table that people fill in with any spreadsheet program.

A spreadsheet takes text that begins with `=`, `+`, `-` or `@` for a formula. Such a cell gets a `'`
in front when it is written, which is taken off again when it is read. So that this is exact, text
that begins with a `'` of its own gets another one.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.display.cells import FORMULA, is_formula

OWN = ("record_id", "prediction", "lower", "upper", "confidence", "why", "reasons", "image")
OF_NUMBERS = ("lower", "upper")


def guard(value: Any) -> str:
    """A cell that no spreadsheet takes for a formula; a negative number is none."""
    if value is None:
        return ""
    text = str(value)
    return f"'{text}" if text.startswith("'") or is_formula(value) else text


def unguard(cell: str) -> str:
    """What `guard` made the cell from."""
    inside = cell.removeprefix("'")
    guarded = inside != cell and (inside.startswith("'") or FORMULA.match(inside))
    return inside if guarded else cell


def own_name(spec: DatasetSpec, name: str) -> str:
    """What a column of ours is called where the dataset has a column of that name, too."""
    while name in spec.columns or name == spec.label_column:
        name = f"_{name}"
    return name


def header(spec: DatasetSpec) -> list[str]:
    """The columns of tasks.csv; the last one is empty, for people to fill in."""
    own = [name for name in OWN if spec.is_regression or name not in OF_NUMBERS]
    return [*(own_name(spec, name) for name in own), *spec.columns, spec.label_column]


def write_sheet(path: Path, spec: DatasetSpec, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write tasks.csv. rows: by the names of `header`. Encoded as spreadsheet programs expect."""
    names = header(spec)
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        # All quoted: Python 3.11 would leave a lone CR bare, and what follows it begins a row.
        writer = csv.writer(file, lineterminator="\r\n", quoting=csv.QUOTE_ALL)
        writer.writerow(names)
        writer.writerows([guard(row.get(name)) for name in names] for row in rows)
