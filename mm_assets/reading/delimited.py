"""CSV, TSV and their like: from bytes to rows of text, strictly, a block at a time.

A quote in the middle of an unquoted field (`5" pipe`) is plain text, as in every spreadsheet; a
quoted field must be closed and followed by a delimiter. A block whose quotes are regular is parsed
by Arrow, which is fast; any other goes through Python's csv module, which is exact and can say on
which line something is wrong. Both give the same rows.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from mm_assets.contract.ids import SPACE
from mm_assets.reading.dialect import Dialect, Found, find_dialect, in_words
from mm_assets.reading.encodings import Encoding, detect_encoding
from mm_assets.reading.header import clean, folded
from mm_assets.reading.table import (
    BLOCK_BYTES,
    BLOCK_ROWS,
    FIELD_LIMIT,
    ROW_LIMIT,
    Block,
    Reject,
    Source,
    TableRefused,
    Wanted,
)

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

SAMPLE_BYTES = 256 << 10
_DRAWN = re.compile(r"[-=+| ]{3,}")  # a line below the header, as databases print it
_TEXT_FORMULA = r'(?s)^="([^"]|"")*"$'
_DOS_END = "\x1a"  # old programs close a file with it
_LINE = re.compile(rb"[^\r\n]*(?:\r\n|\r|\n)")


def open_delimited(path: Path, wanted: Wanted) -> Delimited:
    """Detect encoding and dialect, find the header. Raises TableRefused."""
    if not path.stat().st_size:
        raise TableRefused("table_header", "the file is empty")
    encoding = detect_encoding(path, wanted.encoding)
    with _Text(path, encoding) as text:
        head, more = text.read(SAMPLE_BYTES), text.read(1)
        while more and not re.search(rb"[\r\n]", head):  # a header longer than the sample
            if len(head) >= ROW_LIMIT:
                reason = "a line of more than 4 million characters"
                raise TableRefused("table_row_too_long", reason, 1)
            head += more + text.read(SAMPLE_BYTES)
            more = text.read(1)
    sample = head.decode("utf-8", "ignore")  # a character may be cut at the end
    return Delimited(path, encoding, find_dialect(sample, wanted, whole=not more), wanted)


class Delimited(Source):
    """A delimited text file whose header is known."""

    def __init__(self, path: Path, encoding: Encoding, found: Found, wanted: Wanted) -> None:
        self.header = found.header
        self.dialect = found.dialect
        told = {"encoding": encoding.name, "encoding_because": encoding.why}
        self.facts = {**told, **found.facts()}
        self._path = path
        self._encoding = encoding
        self._skip = found.lines
        names = [folded(name) for name in self.header]
        wanted_id = folded(wanted.id_column) if wanted.id_column is not None else None
        self._id_at = names.index(wanted_id) if wanted_id in names else None
        self._named = max(at for at, name in enumerate(self.header, 1) if clean(name))

    def blocks(self) -> Iterator[Block]:
        """All rows. Raises TableRefused: table_quotes, table_nul, table_row_too_long."""
        import pyarrow.compute as pc

        with _Text(self._path, self._encoding) as text:
            buffer = _Buffer(text)
            buffer.skip_lines(self._skip)
            while buffer.fill():
                end = None if not self.dialect.is_plain else buffer.regular_end(self.dialect)
                block = self._exact(buffer) if end is None else self._fast(buffer, end)
                if self.dialect.skip_blank:
                    block.columns = [pc.utf8_trim(column, " ") for column in block.columns]
                if len(block.lines) or block.rejects:
                    block.columns = [_without_formula(column) for column in block.columns]
                    yield block

    # -- regular blocks ---------------------------------------------------------------------------

    def _fast(self, buffer: _Buffer, end: int) -> Block:
        """Parse what lies before `end`, whole rows with regular quotes."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.csv

        data, starts, lengths = buffer.take(end)
        odd: list[tuple[int, str]] = []

        def note(row: Any) -> str:
            odd.append((row.number - 1, row.text))
            return "skip"

        names = [f"c{at}" for at in range(len(self.header))]
        table = pa.csv.read_csv(
            pa.BufferReader(data),
            read_options=pa.csv.ReadOptions(
                use_threads=False, block_size=len(data) + 1, column_names=names
            ),
            parse_options=pa.csv.ParseOptions(
                delimiter=self.dialect.delimiter, quote_char=self.dialect.quote,
                newlines_in_values=True, invalid_row_handler=note,
            ),
            convert_options=pa.csv.ConvertOptions(
                column_types={name: pa.string() for name in names}, check_utf8=False,
                strings_can_be_null=False,
            ),
        )  # fmt: skip
        columns = [_one(column) for column in table.columns]
        odd_places = [place for place, _ in odd]
        lines = pa.array(np.delete(starts, odd_places))
        lengths = np.delete(lengths, odd_places)
        block = Block(lines, columns)
        if lengths.size and lengths.max() > FIELD_LIMIT:
            block = self._without_long_fields(block)
        if odd:
            rows = [(self._parsed(text), int(starts[place])) for place, text in odd]
            block = self._with_rows(block, rows)
        return block

    def _parsed(self, text: str) -> list[str]:
        return next(self.dialect.reader(iter([text])), [])

    def _without_long_fields(self, block: Block) -> Block:
        import pyarrow.compute as pc

        for name, column in zip(self.header, block.columns, strict=True):
            long = pc.greater(pc.utf8_length(column), FIELD_LIMIT)
            if not pc.any(long).as_py():
                continue
            for at in pc.indices_nonzero(long).to_pylist():
                row = [one[at].as_py() for one in block.columns]
                block.rejects.append(self._too_long(name, row, block.lines[at].as_py()))
            kept = pc.invert(long)
            columns = [one.filter(kept) for one in block.columns]
            block = Block(block.lines.filter(kept), columns, block.rejects)
        return block

    # -- all others -------------------------------------------------------------------------------

    def _exact(self, buffer: _Buffer) -> Block:
        """About a block of rows, read one by one."""
        import pyarrow as pa

        rows: list[tuple[list[str], int]] = []
        reader = self.dialect.reader(buffer.lines())
        start = buffer.begin_row()
        try:
            for row in reader:
                rows.append((row, start))
                start = buffer.begin_row()
                if buffer.taken >= BLOCK_BYTES or len(rows) >= BLOCK_ROWS:
                    break
        except csv.Error as error:
            raise TableRefused("table_quotes", in_words(error), start) from None
        nothing = pa.array([], pa.string())
        empty = Block(pa.array([], pa.int64()), [nothing] * len(self.header))
        return self._with_rows(empty, rows)

    def _with_rows(self, block: Block, rows: list[tuple[list[str], int]]) -> Block:
        """Add rows that were read one by one, those that fit."""
        import pyarrow as pa

        cells: list[str] = []  # lists of rows would keep the garbage collector busy
        lines: list[int] = []
        for row, line in rows:
            fitted = self._fitted(row, line, block.rejects)
            if fitted is not None:
                cells += fitted
                lines.append(line)
        if not lines:
            return block
        width = len(self.header)
        columns = [
            pa.concat_arrays([column, pa.array(cells[at::width], pa.string())])
            for at, column in enumerate(block.columns)
        ]
        return Block(pa.concat_arrays([block.lines, pa.array(lines)]), columns, block.rejects)

    def _fitted(self, row: list[str], line: int, rejects: list[Reject]) -> list[str] | None:
        """A row as wide as the header, or None if it is blank or a reject.

        Empty fields beyond the header do not count, nor do missing ones under no name.
        """
        width = len(self.header)
        if len(row) != width:
            if not any(cell.strip(SPACE) for cell in row) or row == [_DOS_END]:
                return None
            if len(row) == 1 and _DRAWN.fullmatch(row[0]):
                return None
            fits = not any(cell.strip(SPACE) for cell in row[width:]) and len(row) >= self._named
            if not fits:
                reason = f"{len(row)} fields under a header of {width}"
                rejects.append(Reject("row_width", reason, line, self._id_of(row)))
                return None
            row = row[:width] + [""] * (width - len(row))
        for name, value in zip(self.header, row, strict=True):
            if len(value) > FIELD_LIMIT:
                rejects.append(self._too_long(name, row, line))
                return None
        return row

    def _too_long(self, name: str, row: list[str], line: int) -> Reject:
        reason = f"the field in column '{clean(name)}' is too long"
        return Reject("field_too_long", reason, line, self._id_of(row))

    def _id_of(self, row: list[str]) -> str | None:
        return row[self._id_at] if self._id_at is not None and self._id_at < len(row) else None


def _without_formula(column: pa.Array) -> pa.Array:
    """`="007"` is the text 007: programs write so what Excel shall not make a number of."""
    import pyarrow.compute as pc

    if not pc.any(pc.starts_with(column, '="')).as_py():
        return column
    texts = pc.match_substring_regex(column, _TEXT_FORMULA)
    inside = pc.replace_substring(pc.utf8_slice_codeunits(column, 2, -1), '""', '"')
    return pc.if_else(texts, inside, column)


def _one(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


# -- bytes ----------------------------------------------------------------------------------------


class _Text:
    """The file's text in UTF-8, whatever its encoding."""

    def __init__(self, path: Path, encoding: Encoding) -> None:
        self._path = path
        self._encoding = encoding
        self._decoder: codecs.IncrementalDecoder | None = None
        if encoding.codec.replace("_", "-") not in ("utf-8", "ascii"):
            self._decoder = codecs.getincrementaldecoder(encoding.codec)()
        self._rest = b""

    def __enter__(self) -> _Text:
        self._file: BinaryIO = self._path.open("rb")
        self._file.seek(self._encoding.skip)
        return self

    def __exit__(self, *_error: object) -> None:
        self._file.close()

    def read(self, size: int) -> bytes:
        """Some text, about `size` bytes of the file; b'' at its end."""
        if self._decoder is None:
            return self._file.read(size)
        while data := self._file.read(size):
            if text := self._decoder.decode(data):
                return text.encode("utf-8", "surrogatepass")
        return self._decoder.decode(b"", final=True).encode("utf-8", "surrogatepass")


class _Buffer:
    """What was read and not parsed yet; knows the line it stands on."""

    def __init__(self, text: _Text) -> None:
        self.line = 1
        self.taken = 0  # bytes that `lines` has handed out since the last `fill`
        self._text = text
        self._data = b""
        self._at = 0
        self._ended = False
        self._row = (1, 0)  # line and place where the present row begins
        self._newlines: np.ndarray
        self._row_ends: np.ndarray

    def fill(self) -> bool:
        """Have at least a block, or all that is left; False when nothing is."""
        self._data = self._data[self._at :]
        self._at = self.taken = 0
        while not self._ended and len(self._data) < BLOCK_BYTES:
            self._read()
        while not self._ended and self._data.endswith(b"\r"):  # perhaps half of a CR LF
            self._read(1)
        return bool(self._data)

    def _read(self, size: int = 0) -> None:
        more = self._text.read(size or BLOCK_BYTES)
        self._ended = not more
        self._data += more

    def skip_lines(self, count: int) -> None:
        lines = self.lines()
        for _ in range(count):
            next(lines, None)

    # -- a row at a time --------------------------------------------------------------------------

    def lines(self) -> Iterator[str]:
        """The lines from here on, with their ends. Raises TableRefused for one without end."""
        while True:
            match = _LINE.match(self._data, self._at)
            # A CR at the end may be half of a CR LF.
            if match is None or (match.end() == len(self._data) and not self._ended):
                if not self._ended:
                    self._check_row(len(self._data) - self._at)
                    self._read()
                    continue
                if self._at == len(self._data):
                    return
            end = match.end() if match else len(self._data)
            line = self._data[self._at : end]
            self._check_row(len(line))
            if b"\0" in line:
                raise TableRefused("table_nul", "a NUL byte", self.line)
            if self._row == (self.line, self.taken):  # else it is within a value in quotes
                shown = line.removeprefix(codecs.BOM_UTF8)  # of a file put behind another one
            else:
                shown = line
            self.taken += len(line)
            self._at = end
            self.line += 1
            yield shown.decode("utf-8", "surrogatepass")

    def begin_row(self) -> int:
        """Note that a row ends here; returns the line on which the next one begins."""
        self._row = (self.line, self.taken)
        return self.line

    def _check_row(self, more: int) -> None:
        line, before = self._row
        if self.taken - before + more < ROW_LIMIT:
            return
        if self.line > line:
            reason = "a quote is opened here and not closed within 4 million characters"
            raise TableRefused("table_quotes", reason, line)
        reason = "a line of more than 4 million characters"
        raise TableRefused("table_row_too_long", reason, line)

    # -- whole blocks -----------------------------------------------------------------------------

    def regular_end(self, dialect: Dialect) -> int | None:
        """Where the last whole row ends, if everything before it is regular; else None."""
        import numpy as np

        data = self._data
        array = np.frombuffer(data, np.uint8)
        newlines = np.flatnonzero(array == 10)
        if newlines.size > BLOCK_ROWS:  # lines of few bytes; not so many rows at once
            newlines = newlines[:BLOCK_ROWS]
            data = data[: int(newlines[-1]) + 1]
            array = array[: len(data)]
        is_last = self._ended and len(data) == len(self._data)
        returns = np.count_nonzero(array == 13)
        if b"\0" in data or returns != _before(array, newlines, 13):
            return None
        if data.startswith(codecs.BOM_UTF8):  # text here, but Arrow leaves it out
            return None
        if b"\n" + codecs.BOM_UTF8 in data:  # read row by row, in `lines`
            return None
        quotes = np.flatnonzero(array == ord(dialect.quote))
        row_ends = newlines[np.searchsorted(quotes, newlines) % 2 == 0]
        end = len(data) if is_last else int(row_ends[-1]) + 1 if row_ends.size else 0
        if not end or not _are_regular(array[:end], quotes[quotes < end], dialect):
            return None
        if not row_ends.size or row_ends[-1] < end - 1:  # the last row has no line break
            row_ends = np.append(row_ends, end - 1)
        if np.diff(row_ends, prepend=-1).max() >= ROW_LIMIT:
            return None
        self._newlines, self._row_ends = newlines, row_ends
        return end

    def take(self, end: int) -> tuple[bytes, np.ndarray, np.ndarray]:
        """What `regular_end` has found: the bytes, the line and the length of each row in it."""
        import numpy as np

        data = self._data[:end]
        ends = self._row_ends
        starts = np.concatenate(([0], ends[:-1] + 1))
        lengths = ends - starts
        # As many line breaks as come before it, whether between rows or inside of them.
        lines = self.line + np.searchsorted(self._newlines, starts)
        first = np.frombuffer(data, np.uint8)[starts]
        filled = (lengths > 1) | ((first != 10) & (first != 13))
        self.line += int(np.searchsorted(self._newlines, end))
        self._at = end
        self._row = (self.line, self.taken)
        return data, lines[filled].astype(np.int64), lengths[filled]


def _before(array: np.ndarray, places: np.ndarray, byte: int) -> int:
    """How many of the places have this byte right before them."""
    import numpy as np

    return int(np.count_nonzero(array[places[places > 0] - 1] == byte))


def _are_regular(array: np.ndarray, quotes: np.ndarray, dialect: Dialect) -> bool:
    """Whether quotes stand where the strict grammar has them, opening and closing by turns."""
    import numpy as np

    if not quotes.size:
        return True
    if quotes.size % 2:
        return False
    ends = np.array([ord(dialect.delimiter), 10, 13], np.uint8)
    opening, closing = quotes[0::2], quotes[1::2]
    before = array[np.maximum(opening - 1, 0)]
    after = array[np.minimum(closing + 1, array.size - 1)]
    doubled = np.concatenate(([False], opening[1:] == closing[:-1] + 1))
    opens = (opening == 0) | np.isin(before, ends) | doubled
    closes = (closing == array.size - 1) | np.isin(after, ends) | np.append(doubled[1:], False)
    return bool(opens.all() and closes.all())
