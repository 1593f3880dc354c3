"""Which row is the header, and which of its columns is which.

A name that is wanted is found exactly, or else under another case or with other blanks (or `_` and
`-` in their place), when only one column fits. A column without a name is left out: the index that
pandas writes first, or the empty columns that spreadsheets leave at the end. So are columns of one
name that nobody wants. What was decided stands in `Matched.facts`.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mm_assets.reading.table import FILE_COLUMN, LINE_COLUMN, MOST_COLUMNS, TableRefused, Wanted

ROWS_TRIED = 50  # so far down a header is looked for
_SHOWN = 20
_UNSEEN = re.compile("[\u00ad\u200b\u2060\ufeff]")  # signs that have no width
_BLANKS = re.compile(r"\s+")
_BETWEEN = re.compile(r"[\s_-]+")  # what programs put in the place of blanks
# What pandas and readr call a column that has no name.
_NO_NAME = re.compile(r"Unnamed: \d+|\.\.\.\d+")


@dataclass(frozen=True)
class Matched:
    """The columns that have a name: what they are called, and where they stand in the file."""

    names: list[str]
    places: list[int]
    id_column: str | None
    facts: dict[str, Any]


def clean(name: str) -> str:
    """A name without the blanks and byte order marks around it."""
    return _BLANKS.sub(" ", _UNSEEN.sub("", name)).strip()


def folded(name: str) -> str:
    """What two names have in common that differ only in case, blanks or Unicode form; `age_years`
    and `age-years` are `Age years`."""
    plain = clean(unicodedata.normalize("NFKC", name)).casefold()
    return _BETWEEN.sub(" ", plain).strip() or plain


def match_header(header: Sequence[str], wanted: Wanted, line: int | None = 1) -> Matched:
    """Give each column the wanted name that it stands for; `line` is the header's.

    Raises TableRefused.
    """
    names = [clean(name) for name in header]
    if len(names) > MOST_COLUMNS:
        raise TableRefused("table_header", f"more than {MOST_COLUMNS:,} columns", line)
    renamed = _renamed(names, wanted, line)
    names = [renamed.get(name, name) for name in names]
    if not any(names):
        raise TableRefused("table_header", "the file holds no header row")
    if wanted.id_column is not None and wanted.id_column not in names:
        raise without_id(names, wanted.id_column, line)
    names = ["" if _NO_NAME.fullmatch(n) and n not in wanted.names else n for n in names]
    twice = _named_twice(names, wanted, line)
    places = [place for place, name in enumerate(names) if name and name not in twice]
    facts: dict[str, Any] = {}
    if renamed:
        facts["renamed"] = renamed
    if unnamed := [place + 1 for place, name in enumerate(names) if not name]:
        facts["columns_without_name"] = unnamed[:_SHOWN]
    if twice:
        facts["columns_named_twice"] = twice[:_SHOWN]
    return Matched([names[place] for place in places], places, wanted.id_column, facts)


def _renamed(names: Sequence[str], wanted: Wanted, line: int | None) -> dict[str, str]:
    """Names in the file that stand for a wanted one which is not there exactly."""
    missing = [name for name in wanted.names if name not in names]
    if not missing:
        return {}
    free: dict[str, list[str]] = {}
    for name in names:
        if name and name not in wanted.names:
            free.setdefault(folded(name), []).append(name)
    asked = Counter(folded(name) for name in missing)
    found = {}
    for name in missing:
        fits = free.get(folded(name), [])
        if len(fits) > 1:
            reason = f"more than one column may be '{name}': {listed(fits)}"
            raise TableRefused("table_header", reason, line)
        if fits and asked[folded(name)] == 1:
            found[fits[0]] = name
    return found


def find_header(rows: Sequence[Sequence[str]], wanted: Wanted, lines: Sequence[int]) -> int:
    """Which of the first rows is the header. rows: their cells; lines: where each starts.

    Mostly the first that holds anything. Rows above it (a title, a date) are passed over only when
    there is no doubt: one row alone has the ID and more of what is wanted, and all above it fill
    fewer cells. Raises TableRefused, with the line that looks like the header.
    """
    first = next((at for at, row in enumerate(rows) if any(map(clean, row))), None)
    if first is None:
        raise TableRefused("table_header", "the file holds no header row")
    rows = rows[: first + ROWS_TRIED]
    filled = [sum(bool(clean(cell)) for cell in row) for row in rows]
    if wanted.id_column is None:
        return _widest(filled, first)
    asked = {folded(name) for name in wanted.names}
    key = folded(wanted.id_column)
    fits = []
    for at in range(first, len(rows)):
        keys = [folded(cell) for cell in rows[at]]
        if key in keys:
            fits.append((at, len(asked & set(keys))))
    if not fits:
        raise without_id([clean(cell) for cell in rows[first]], wanted.id_column, lines[first])
    at, known = fits[0]
    if at == first:
        return at
    alone = len([one for one in fits if one[1] >= known]) == 1
    others = len(asked) > 1 and known < 2
    if alone and not others and max(filled[first:at]) < filled[at]:
        return at
    above = "the line above it is" if at - first == 1 else "the lines above it are"
    raise TableRefused(
        "table_header",
        f"line {lines[at]} looks like the header, but {above} not plainly a title",
        lines[first],
    )


def _widest(filled: Sequence[int], first: int) -> int:
    """Without a name to look for: the first row, unless it is a title above something wider."""
    for at in range(first, len(filled)):
        if filled[at] > 1:
            return at
    return first


def _named_twice(names: Sequence[str], wanted: Wanted, line: int | None) -> list[str]:
    """Names that several columns have. Raises TableRefused where it matters which is meant."""
    counted = Counter(name for name in names if name)
    twice = [name for name, count in counted.items() if count > 1]
    meant = [name for name in twice if wanted.id_column is None or name in wanted.names]
    if meant:
        raise TableRefused("table_header", f"more than one column is named {listed(meant)}", line)
    if reserved := [name for name in names if name in (FILE_COLUMN, LINE_COLUMN)]:
        raise TableRefused("table_header", f"the name {listed(reserved)} is reserved", line)
    return twice


def without_id(header: Sequence[str], id_column: str, line: int | None = 1) -> TableRefused:
    """The refusal of a table in which no column has the ID's name."""
    close = {folded(name): name for name in header if name}
    near = difflib.get_close_matches(folded(id_column), close, n=1)
    hint = f"; did you mean '{close[near[0]]}'?" if near else ""
    found = [name for name in header if name]
    if len(found) == 1 and folded(id_column) in re.split(r"\W+", folded(found[0])):
        hint = (
            "; this is one column: divide columns by a comma, a tab, a semicolon or a bar, "
            "and do not quote a row as a whole"
        )
    reason = f"no column is named '{id_column}'; found: {listed(found)}{hint}"
    return TableRefused("table_no_id", reason, line)


def without_columns(header: Sequence[str], missing: Sequence[str]) -> TableRefused:
    """The refusal of a table that lacks columns, with what may be meant by them."""
    close = {folded(name): name for name in header}
    near = {name: difflib.get_close_matches(folded(name), close, n=1) for name in missing}
    meant = [f"'{close[found[0]]}' for '{name}'" for name, found in near.items() if found]
    hint = f"; did you mean {', '.join(meant[:_SHOWN])}?" if meant else ""
    reason = f"columns missing: {', '.join(missing)}; found: {', '.join(header)}{hint}"
    return TableRefused("table_columns", reason, 1)


def listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name[:80]}'" for name in names[:_SHOWN])
    more = len(names) - _SHOWN
    return f"{shown} and {more} more" if more > 0 else shown
