"""Tables of an upload that look like an older copy of another one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Words that a folder or a file has for it, between blanks, dots or dashes; `x (1).csv`; `x.csv~`.
_BACKUP = re.compile(
    r"(^|[ _.-])(backups?|bak|old|orig|copy|copies|kopie)([ _.-]|\d*$)|\(\d+\)(\.|$)|~$",
    re.IGNORECASE,
)
_MEMORY = "256MB"


def is_in_backup(path: str) -> bool:
    """Whether a file's name, or that of a folder that it lies in, says that it is a copy."""
    return any(_BACKUP.search(part) for part in path.split("/"))


def note_copies(tables: Sequence[dict[str, Any]], folder: Path) -> None:
    """Note with each table that is a copy which one it is of: `copy_of`, file and same_rows.

    tables: entries of a receipt, whose rows lie in `folder`. A copy has a name that says so, the
    header of the other one, and at least half of the rows of the smaller of the two.
    """
    backups = [table for table in tables if is_in_backup(table["file"])]
    others = [table for table in tables if not is_in_backup(table["file"])]
    for table in backups:
        for other in others:
            if set(table["columns"]) != set(other["columns"]):
                continue
            same = _same_rows(table, other, folder)
            if same and 2 * same >= min(table["rows"], other["rows"]):
                table["copy_of"] = {"file": other["file"], "same_rows": same}
                break


def _same_rows(table: dict[str, Any], other: dict[str, Any], folder: Path) -> int:
    """How many different rows both have, whatever the order of the columns."""
    import duckdb

    def hashed(one: dict[str, Any]) -> str:
        columns = [f"c{one['columns'].index(name)}" for name in sorted(one["columns"])]
        path = str(folder / one["rows_file"]).replace("'", "''")
        return f"SELECT DISTINCT hash({', '.join(columns)}) AS row FROM read_parquet('{path}')"

    with duckdb.connect() as db:
        db.execute(f"SET memory_limit = '{_MEMORY}'")
        db.execute("SET temp_directory = ?", [str(folder)])
        told = db.execute(
            f"SELECT count(*) FROM ({hashed(table)}) SEMI JOIN ({hashed(other)}) USING (row)"
        ).fetchone()
    return int(told[0]) if told else 0
