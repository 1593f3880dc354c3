"""How a text file is written: what divides and quotes its fields, and where its header is.

Judged on the beginning of the file, never on its name. Each way to read it is tried on the whole
sample; the one under which the header has most of what is wanted, and most rows are as wide as the
header, is taken. Plain double quotes come first; other habits only where they read more of it.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mm_assets.contract.ids import SPACE
from mm_assets.reading.header import clean, find_header, folded
from mm_assets.reading.table import ROW_LIMIT, TableRefused, Wanted

DELIMITERS = (",", "\t", ";", "|")
_ROWS_LOOKED_AT = 200  # for quotes around whole columns
_SEPARATOR_LINE = re.compile(r'\A"?sep=(.)"?[ \t,;]*\Z', re.IGNORECASE)
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+\Z")


@dataclass(frozen=True)
class Dialect:
    """escape: the character before a quote inside of a quoted field, beside doubling it; anywhere
    else it is text. skip_blank: blanks around a field do not count.
    """

    delimiter: str
    quote: str = '"'
    escape: str | None = None
    skip_blank: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether quotes are as RFC 4180 has them."""
        return self.escape is None

    def reader(self, lines: Iterator[str]) -> Any:
        if csv.field_size_limit() < ROW_LIMIT:  # global to the process; we check lengths ourselves
            csv.field_size_limit(ROW_LIMIT)
        return csv.reader(
            map(self._doubled, lines) if self.escape else lines, delimiter=self.delimiter,
            quotechar=self.quote, skipinitialspace=self.skip_blank, strict=True,
        )  # fmt: skip

    def _doubled(self, line: str) -> str:
        """A line with its escaped quotes written twice instead."""

        def plain(found: re.Match[str]) -> str:
            escaped, rest = divmod(len(found[1]), 2)
            return escaped * "\\" + (1 + rest) * self.quote

        return re.sub(rf"(\\*){self.quote}", plain, line)


@dataclass(frozen=True)
class Found:
    """A dialect and the header under it. lines: physical lines from the first to the header's end;
    line: the one where the header starts. separator_line: whether `sep=` stood first.
    """

    dialect: Dialect
    header: list[str]
    line: int
    lines: int
    separator_line: bool

    def facts(self) -> dict[str, Any]:
        """How the file is written, for the receipt; of quotes only what is not usual."""
        facts: dict[str, Any] = {"delimiter": self.dialect.delimiter}
        if self.dialect.quote != '"':
            facts["quote"] = self.dialect.quote
        if self.dialect.escape:
            facts["escape"] = self.dialect.escape
        if self.dialect.skip_blank:
            facts["blanks_around_fields"] = True
        if self.line > 1:
            facts["header_line"] = self.line
        if self.separator_line:
            facts["separator_line"] = True
        return facts


def find_dialect(sample: str, wanted: Wanted, *, whole: bool) -> Found:
    """Judge the beginning of a file; `whole` when it is all of it. Raises TableRefused."""
    lines = _LINE.findall(sample)
    if not whole:
        lines = lines[:-1] or lines
    if any("\0" in line for line in lines):
        at = next(at for at, line in enumerate(lines, 1) if "\0" in line)
        raise TableRefused("table_nul", "a NUL byte", at)
    if not lines:
        raise TableRefused("table_header", "the file is empty")
    said = _SEPARATOR_LINE.match(lines[0].strip("\ufeff\r\n"))
    delimiters = dict.fromkeys([*(said[1] if said else ""), *DELIMITERS])  # said before all others
    tries = [_try(Dialect(one), lines, wanted, bool(said), whole=whole) for one in delimiters]
    habits = [
        _try(one, lines, wanted, bool(said), whole=whole)
        for delimiter in delimiters
        for one in _other_habits(delimiter, sample)
    ]
    best = max([*tries, *(one for one in habits if one.found)], key=lambda one: one.score)
    if best.found is None:
        if sample.lstrip("\ufeff \t\r\n").startswith("<"):
            reason = "this is HTML or XML, and no table; a spreadsheet saves it as .xlsx or CSV"
            raise TableRefused("file_type", reason, 1)
        raise best.refused or TableRefused("table_header", "the file holds no header row")
    return best.found


@dataclass(frozen=True)
class _Try:
    """What became of one way to read the sample. score: wanted names found, rows that fit."""

    score: tuple[float, ...]
    found: Found | None = None
    refused: TableRefused | None = None


def _try(
    dialect: Dialect, lines: Sequence[str], wanted: Wanted, said: bool, *, whole: bool
) -> _Try:
    rows, starts, ends, fault = _rows(dialect, lines[said:], whole=whole)
    try:
        at = find_header(rows, wanted, [start + said for start in starts])
    except TableRefused as refused:
        # The refusal that knows most: of the delimiter that finds most columns.
        widest = max((len(row) for row in rows[:1]), default=0)
        knows = -1 if fault else -2 if refused.code == "table_no_id" else 0
        return _Try((knows, widest), refused=fault or refused)
    header = _padded(rows[at], rows[at + 1 :])
    names = {folded(name) for name in header}
    asked = {folded(name) for name in wanted.names}
    below = [row for row in rows[at + 1 :] if any(cell.strip(SPACE) for cell in row)]
    fits = [row for row in below if len(row) == len(header)]
    fitting = len(fits) / len(below) if below else 1.0
    found = Found(dialect, header, starts[at] + said, ends[at] + said, said)
    known = len(names & asked)
    spread = min(len(header), 2) if wanted.id_column is None else 0
    quoted = _is_quoted(header, fits[:_ROWS_LOOKED_AT])
    behind = [] if dialect.skip_blank else [name for name in header[1:] if name]
    blanks = bool(behind) and all(name.startswith(" ") for name in behind)
    width = len(header) if wanted.id_column is None else 0
    return _Try((known, spread, not fault, round(fitting, 2), not quoted, not blanks, width), found)


def _is_quoted(header: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether quotes that were meant to be quotes stand around names, or around a whole column."""
    if any(map(_looks_quoted, header)):
        return True
    columns = ([cell for cell in column if cell.strip(SPACE)] for column in zip(*rows, strict=True))
    return any(column and all(map(_looks_quoted, column)) for column in columns)


def _looks_quoted(text: str) -> bool:
    text = text.strip(SPACE)
    return len(text) > 2 and text[0] == text[-1] and text[0] in "\"'"  # something is between


def _other_habits(delimiter: str, text: str) -> Iterator[Dialect]:
    plain, sign = Dialect(delimiter), re.escape(delimiter)
    blanks = bool(re.search(rf"{sign} ", text))
    if blanks:
        yield replace(plain, skip_blank=True)
    if '\\"' in text:
        yield replace(plain, escape="\\")
    if re.search(rf"(?:^|{sign}) *'[^\r\n]*'(?:$|\r|{sign})", text, re.MULTILINE):
        yield replace(plain, quote="'")
        if blanks:
            yield replace(plain, quote="'", skip_blank=True)
        if "\\'" in text:
            yield replace(plain, quote="'", escape="\\")


def _rows(
    dialect: Dialect, lines: Sequence[str], *, whole: bool
) -> tuple[list[list[str]], list[int], list[int], TableRefused | None]:
    """Rows of the sample, on which line each starts and ends, and what is wrong after them."""
    rows: list[list[str]] = []
    starts: list[int] = []
    ends: list[int] = []
    reader = dialect.reader(iter(lines))
    start = 1
    try:
        for row in reader:
            rows.append(row)
            starts.append(start)
            ends.append(reader.line_num)
            start = reader.line_num + 1
    except csv.Error as error:
        if whole or "end of data" not in str(error):
            return rows, starts, ends, TableRefused("table_quotes", in_words(error), start)
    return rows, starts, ends, None


def _padded(header: list[str], below: Sequence[Sequence[str]]) -> list[str]:
    """The header with nameless columns at its end, where rows go on with empty fields."""
    wider = [row for row in below if len(row) > len(header)]
    if not wider or len(wider) < len([row for row in below if any(row)]):
        return header
    width = min(map(len, wider))
    if any(clean(cell) for row in wider for cell in row[len(header) :]):
        return header
    return header + [""] * (width - len(header))


def in_words(error: csv.Error) -> str:
    text = str(error)
    if "end of data" in text:
        return "a quote is opened in this row and never closed"
    if "expected after" in text:
        return "text follows a closing quote in this row"
    return text
