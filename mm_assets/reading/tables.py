"""Bytes to strictly read rows of text: the one way in.

Every field is handed out as the text that stands in the file; nothing is guessed, trimmed or
turned into a number here. A row that does not fit is a reject with its line; a file that cannot
be read with certainty is refused whole. A quote in the middle of an unquoted field (`5" pipe`) is
plain text, as in every spreadsheet; a quoted field must be closed and followed by a delimiter.

Callers of `Table.batches` write to a temporary file: a refusal can come up in the middle.
"""

from __future__ import annotations

import codecs
import csv
import difflib
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mm_assets.contract.errors import Refusal
from mm_assets.contract.ids import MAXIMUM_BYTES
from mm_assets.reading.encodings import AUTO, detect_encoding
from mm_assets.reading.images import is_image
from mm_assets.reading.table import TableRefused as TableRefused  # noqa: PLC0414  re-exported

if TYPE_CHECKING:
    import pyarrow as pa

DELIMITERS = (",", "\t", ";", "|")
FIELD_LIMIT = 131_072  # characters; a longer field makes its row a reject
ROW_LIMIT = 4 << 20  # characters; more than this is a quote that was never closed
BATCH_CHARACTERS = 32 << 20  # a batch is cut here, whatever its number of rows
FILE_COLUMN = "_file"
LINE_COLUMN = "_line"
_SHOWN_COLUMNS = 20

_UTF16_UNMARKED = re.compile(rb"[^\0]\0[^\0]\0|\0[^\0]\0[^\0]", re.DOTALL)
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_BINARY_MAGICS = (
    b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd",
    b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07", b"%PDF-", b"PAR1", b"ARROW1", b"\x89HDF", b"Obj\x01",
    b"SQLite format 3", b"\xd0\xcf\x11\xe0", b"{\\rtf", b"\x7fELF", b"%!PS",
)  # fmt: skip
_BZIP2 = re.compile(rb"BZh[1-9]1AY&SY")
_CONTROLS = bytes(set(range(1, 32)) - set(b"\t\n\v\f\r\x1a\x1b"))


def looks_like_text(head: bytes, *, named_table: bool = False) -> bool:
    """Whether a file that starts with these bytes (up to 64 KB) may be a table.

    What calls itself a table is read unless it surely is something else: reading says what is
    wrong in it, and where.
    """
    if head.startswith(_UTF16_MARKS):
        return True
    if head.startswith(_BINARY_MAGICS) or _BZIP2.match(head) or is_image(head):
        return False
    if named_table:
        return True
    if b"\0" in head:
        return False
    controls = len(head) - len(head.translate(None, _CONTROLS))
    return controls * 100 <= len(head)


class Table:
    """A table whose header is read and checked; made by `open_table`.

    `n_rows` (data rows seen, with rejects) and `rejects` grow while `batches` is iterated.
    """

    def __init__(
        self, path: Path, *, file: str, header: list[str], delimiter: str, encoding: str, id_at: int
    ) -> None:
        self.file = file
        self.header = header
        self.delimiter = delimiter
        self.n_rows = 0
        self.rejects: list[Refusal] = []
        self._path = path
        self._encoding = encoding
        self._id_at = id_at

    def batches(self, size: int = 50_000) -> Iterator[pa.RecordBatch]:
        """Rows as text, at most `size` a batch, with `_file` and the line where each starts.

        Raises TableRefused when the rest of the file cannot be read (quotes, encoding, NUL), or
        after the last row when not one row fits the header.
        """
        self.n_rows, self.rejects = 0, []
        with _Reading(self._path, self._encoding, self.delimiter) as reading:
            reading.first_row()
            yield from self._fitting_rows(reading, size)
        wrong = [reject for reject in self.rejects if reject.code == "row_width"]
        if self.n_rows and len(wrong) == self.n_rows:
            raise TableRefused(
                "table_width", f"no row fits the header; the first one: {wrong[0].reason}"
            )

    def _fitting_rows(self, reading: _Reading, size: int) -> Iterator[pa.RecordBatch]:
        width = len(self.header)
        # All cells in one list: lists of rows would keep the garbage collector busy (2x slower).
        cells: list[str] = []
        lines: list[int] = []
        batch_end = BATCH_CHARACTERS
        start = reading.row_ends()
        for row in reading.reader:
            short = reading.characters - reading.before_row <= FIELD_LIMIT
            if (short and len(row) == width) or (row and self._fits(row, start)):
                cells.extend(row)
                lines.append(start)
            start = reading.row_ends()
            if len(lines) >= size or reading.characters >= batch_end:
                if lines:
                    yield self._batch(cells, lines)
                cells, lines = [], []
                batch_end = reading.characters + BATCH_CHARACTERS
        if lines:
            yield self._batch(cells, lines)

    def _fits(self, row: list[str], line: int) -> bool:
        """Whether a long row, or one of another width, can be used; if not it is a reject."""
        width = len(self.header)
        if len(row) != width:
            self._reject("row_width", f"{len(row)} fields under a header of {width}", row, line)
            return False
        long = next((n for n, v in zip(self.header, row, strict=True) if len(v) > FIELD_LIMIT), "")
        if long:
            self._reject("field_too_long", f"the field in column '{long}' is too long", row, line)
        return not long

    def _reject(self, code: str, reason: str, row: list[str], line: int) -> None:
        record_id = row[self._id_at] if self._id_at < len(row) else ""
        if len(record_id) > MAXIMUM_BYTES:
            record_id = ""
        # Interned, so that a million rejects of one kind share one text.
        self.rejects.append(Refusal(code, sys.intern(reason), self.file, line, record_id or None))
        self.n_rows += 1

    def _batch(self, cells: list[str], lines: list[int]) -> pa.RecordBatch:
        import pyarrow as pa

        self.n_rows += len(lines)
        width = len(self.header)
        files = pa.repeat(pa.scalar(self.file, pa.string()), len(lines))
        columns = [pa.array(cells[at::width], pa.string()) for at in range(width)]
        return pa.RecordBatch.from_arrays(
            [files, pa.array(lines, pa.int64()), *columns],
            names=[FILE_COLUMN, LINE_COLUMN, *self.header],
        )


def open_table(path: Path, *, file: str, id_column: str, encoding: str) -> Table:
    """Read and check the header of a delimited text file; `file` is its name in messages.

    The delimiter is the first of `,` TAB `;` `|` under which the header holds `id_column`; so it
    is the comma where the ID stands alone.
    Raises TableRefused.
    """
    if encoding == AUTO:
        found = detect_encoding(path)
        encoding = "utf-16" if found.name == "utf-16" and found.skip else found.codec
    _check_byte_order_mark(path, encoding)
    headers: dict[str, list[str]] = {}
    quotes: TableRefused | None = None
    for delimiter in DELIMITERS:
        try:
            with _Reading(path, encoding, delimiter) as reading:
                headers[delimiter] = [_clean(name) for name in reading.first_row()]
        except TableRefused as refused:
            if refused.code != "table_quotes":
                raise
            quotes = quotes or refused
            continue
        header = headers[delimiter]
        if id_column in header:
            _check_header(header)
            at = header.index(id_column)
            return Table(
                path, file=file, header=header, delimiter=delimiter, encoding=encoding, id_at=at
            )
    if quotes and all(len(header) <= 1 for header in headers.values()):
        raise quotes
    raise _without_id(max(headers.values(), key=len), id_column)


# -- the header -----------------------------------------------------------------------------------


def _clean(name: str) -> str:
    return name.strip().strip("\ufeff").strip()


def _check_header(header: Sequence[str]) -> None:
    if not all(header):
        raise TableRefused("table_header", f"column {list(header).index('') + 1} has no name", 1)
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        raise TableRefused("table_header", f"more than one column is named {_listed(twice)}", 1)
    reserved = [name for name in header if name in (FILE_COLUMN, LINE_COLUMN)]
    if reserved:
        raise TableRefused("table_header", f"the name {_listed(reserved)} is reserved", 1)


def _without_id(header: list[str], id_column: str) -> TableRefused:
    if not header:
        return TableRefused("table_header", "the file holds no header row")
    folded = {name.casefold(): name for name in header if name}
    close = difflib.get_close_matches(id_column.casefold(), folded, n=1)
    hint = f"; did you mean '{folded[close[0]]}'?" if close else ""
    return TableRefused(
        "table_no_id", f"no column is named '{id_column}'; found: {_listed(header)}{hint}", 1
    )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name[:80]}'" for name in names[:_SHOWN_COLUMNS])
    more = len(names) - _SHOWN_COLUMNS
    return f"{shown} and {more} more" if more > 0 else shown


# -- rows and lines -------------------------------------------------------------------------------


class _Reading:
    """One pass over the file: csv rows out of lines, with what is needed to speak of faults.

    `characters` counts what was read in all, `before_row` what was read before the present row.
    """

    def __init__(self, path: Path, encoding: str, delimiter: str) -> None:
        if csv.field_size_limit() < ROW_LIMIT:  # global to the process; we check lengths ourselves
            csv.field_size_limit(ROW_LIMIT)
        self.characters = self.before_row = 0
        self._path = path
        self._encoding = encoding
        self._row_start = 1
        codec = "utf-8-sig" if encoding == "utf-8" else encoding
        self._stream = path.open(encoding=codec, newline="")
        self.reader = csv.reader(
            self._lines(self._stream.readline), delimiter=delimiter, strict=True
        )

    def __enter__(self) -> _Reading:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._stream.close()
        if isinstance(error, csv.Error):
            raise TableRefused("table_quotes", _in_words(error), self._row_start) from None
        if isinstance(error, UnicodeError):
            raise _undecodable(self._path, self._encoding) from None

    def first_row(self) -> list[str]:
        """The first row that is not an empty line; [] when the file has none."""
        row: list[str] = next((row for row in self.reader if row), [])
        return row

    def row_ends(self) -> int:
        """Note that a row is done; returns the line where the next one starts."""
        self.before_row = self.characters
        self._row_start = self.reader.line_num + 1
        return self._row_start

    def _lines(self, readline: Callable[[int], str]) -> Iterator[str]:
        while line := readline(ROW_LIMIT):
            self.characters += len(line)
            if self.characters - self.before_row >= ROW_LIMIT:
                raise self._endless()
            if "\0" in line:
                raise TableRefused("table_nul", "a NUL byte", self.reader.line_num + 1)
            yield line

    def _endless(self) -> TableRefused:
        if self.reader.line_num + 1 > self._row_start:
            reason = "a quote is opened here and not closed within 4 million characters"
            return TableRefused("table_quotes", reason, self._row_start)
        reason = "a line of more than 4 million characters"
        return TableRefused("table_row_too_long", reason, self._row_start)


def _in_words(error: csv.Error) -> str:
    text = str(error)
    if "end of data" in text:
        return "a quote is opened in this row and never closed"
    if "expected after" in text:
        return "text follows a closing quote in this row"
    return text


# -- encoding -------------------------------------------------------------------------------------


def _check_byte_order_mark(path: Path, encoding: str) -> None:
    with path.open("rb") as stream:
        head = stream.read(4)
    if not head:
        raise TableRefused("table_header", "the file is empty")
    marked = head.startswith(_UTF16_MARKS)
    if marked and not encoding.startswith("utf-16"):
        reason = f"the file is UTF-16 (its byte order mark says so), not {encoding}"
        raise TableRefused("table_encoding", reason, 1)
    if not encoding.startswith("utf-16") and _UTF16_UNMARKED.match(head):
        reason = "the file looks like UTF-16 without a byte order mark"
        raise TableRefused("table_encoding", reason, 1)
    if encoding == "utf-16" and not marked:
        raise TableRefused("table_encoding", "no UTF-16 byte order mark at the start", 1)
    if encoding == "latin-1" and head.startswith(codecs.BOM_UTF8):
        reason = "the file is UTF-8 (its byte order mark says so), not latin-1"
        raise TableRefused("table_encoding", reason, 1)


def _undecodable(path: Path, encoding: str) -> TableRefused:
    """Find the byte and the line that cannot be decoded."""
    decoder = codecs.getincrementaldecoder(encoding)()
    offset, line, after_return = 0, 1, False
    with path.open("rb") as stream:
        while True:
            chunk = stream.read(1 << 20)
            pending = len(decoder.getstate()[0])
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                good = error.object[: error.start].decode(encoding, errors="ignore")
                line += _line_breaks(good, after_return)
                at, value = offset - pending + error.start, error.object[error.start]
                reason = f"byte {at} (0x{value:02x}) is not {encoding}"
                return TableRefused("table_encoding", reason + _guess(encoding, error), line)
            if not chunk:
                return TableRefused("table_encoding", f"the file is not {encoding}")
            line += _line_breaks(text, after_return)
            after_return = text.endswith("\r") if text else after_return
            offset += len(chunk)


def _line_breaks(text: str, after_return: bool) -> int:
    """How many lines end in `text`; a CR LF cut in two by the caller counts once."""
    split = after_return and text.startswith("\n")
    return text.count("\n") + text.count("\r") - text.count("\r\n") - split


def _guess(encoding: str, error: UnicodeDecodeError) -> str:
    """Whether latin-1 is likely: no UTF-8 before the fault, and no control codes around it."""
    start = error.start
    before, around = error.object[:start], error.object[max(0, start - 1000) : start + 1000]
    if encoding != "utf-8" or not before.isascii() or any(0x80 <= b < 0xA0 for b in around):
        return ""
    shown = before[-12:].splitlines()[-1:] + error.object[start : start + 12].splitlines()[:1]
    text = b"".join(shown).decode("latin-1")
    return f"; as latin-1 it reads {text!r}: if that is right, set `encoding: latin-1`"
