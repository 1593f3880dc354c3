"""What a table is to those who read one, whatever file it came in.

A format is one module with a `Source`: the names in its header, and its rows in blocks of text.
`Table` is the rest, the same for all of them: it matches the header with the columns that are
wanted, leaves out columns without a name and rows without a value, and counts.

Every value is handed out as the text that stands in the file. Where a file has types (a workbook,
Parquet, JSON), a number is its exact text with '.' as decimal point, `true` and `false` stand for
truth, dates are ISO 8601, and what is missing is null; such a source is `typed`.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from mm_assets.contract.errors import Refusal
from mm_assets.contract.ids import MAXIMUM_BYTES

if TYPE_CHECKING:
    import pyarrow as pa

FILE_COLUMN = "_file"
LINE_COLUMN = "_line"
FIELD_LIMIT = 131_072  # characters; a longer field makes its row a reject
ROW_LIMIT = 4 << 20  # characters; a longer row refuses the table
BLOCK_BYTES = 8 << 20  # about as much is held at once
MOST_COLUMNS = 10_000


class TableRefused(Exception):  # noqa: N818  not a fault of ours, it speaks of the file
    """A whole table is refused. `code` is one of errors.REFUSALS' table_* codes."""

    def __init__(self, code: str, reason: str, line: int | None = None) -> None:
        self.code = code
        self.reason = reason
        self.line = line
        super().__init__(code, reason, line)

    def __str__(self) -> str:
        where = f" (line {self.line})" if self.line else ""
        return f"[{self.code}] {self.reason}{where}"


@dataclass(frozen=True)
class Wanted:
    """What is looked for in a table. Without `id_column`, whatever its header holds.

    columns: further names; a table need not have them, but they help to tell its header.
    encoding: of a text file; "auto" detects it.
    """

    id_column: str | None = None
    columns: tuple[str, ...] = ()
    encoding: str = "auto"

    @property
    def names(self) -> tuple[str, ...]:
        return self.columns if self.id_column is None else (self.id_column, *self.columns)


class Reject(NamedTuple):
    """A row that cannot be used: one of errors.REFUSALS' codes for rows, why, where, whose."""

    code: str
    reason: str
    line: int
    record_id: str | None = None


@dataclass
class Block:
    """Some rows. lines: [rows] int64, where each starts, counted from 1 (in files without lines:
    which row of the sheet or file it is). columns: one array of strings for each column of the
    header, [rows]; null where there is no value. rejects: rows that are not among them.
    """

    lines: pa.Array
    columns: list[pa.Array]
    rejects: list[Reject] = field(default_factory=list)


class Source(ABC):
    """A file of one format, opened: its header is known, its rows are not read yet.

    header: the names as they stand in the file, '' for a column without one. facts: how it was
    read, in JSON; it goes into the receipt. typed: whether the file itself says what is a number.
    """

    header: list[str]
    facts: dict[str, Any]
    typed = False

    @abstractmethod
    def blocks(self) -> Iterator[Block]:
        """All rows, every time from the start. Raises TableRefused when the rest is unreadable."""


class Table:
    """A table whose header fits what was wanted; made by `open_table`.

    `n_rows` (rows seen, with rejects), `n_blank` (rows without any value) and `rejects` grow while
    `batches` is iterated. Callers write to a temporary file: a refusal can come up in the middle.
    """

    def __init__(self, source: Source, *, file: str, wanted: Wanted) -> None:
        from mm_assets.reading.header import match_header

        matched = match_header(source.header, wanted)
        self.file = file
        self.header = list(matched.names)
        self.typed = source.typed
        self.facts = {**source.facts, **matched.facts}
        self.id_column = matched.id_column
        self.n_rows = self.n_blank = 0
        self.rejects: list[Refusal] = []
        self._source = source
        self._places = matched.places

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Rows as text: `_file`, `_line` where each starts, then the columns of the header.

        Raises TableRefused when the rest of the file cannot be read, or after the last row when
        not one row fits the header.
        """
        self.n_rows = self.n_blank = 0
        self.rejects = []
        for block in self._source.blocks():
            self._reject(block.rejects)
            if batch := self._batch(block):
                yield batch
        wrong = [reject for reject in self.rejects if reject.code == "row_width"]
        if self.n_rows and len(wrong) == self.n_rows:
            raise TableRefused(
                "table_width", f"no row fits the header; the first one: {wrong[0].reason}"
            )

    def _reject(self, rejects: list[Reject]) -> None:
        self.n_rows += len(rejects)
        for code, reason, line, record_id in rejects:
            known = record_id if record_id and len(record_id) <= MAXIMUM_BYTES else None
            # Interned, so that a million rejects of one kind share one text.
            self.rejects.append(Refusal(code, sys.intern(reason), self.file, line, known))

    def _batch(self, block: Block) -> pa.RecordBatch | None:
        import pyarrow as pa

        lines, columns = block.lines, [block.columns[place] for place in self._places]
        if (kept := _with_a_value(columns)) is not None:
            self.n_blank += len(lines) - len(kept)
            lines, columns = lines.take(kept), [column.take(kept) for column in columns]
        if not len(lines):
            return None
        self.n_rows += len(lines)
        files = pa.repeat(pa.scalar(self.file, pa.string()), len(lines))
        return pa.RecordBatch.from_arrays(
            [files, lines, *columns], names=[FILE_COLUMN, LINE_COLUMN, *self.header]
        )


def _with_a_value(columns: list[pa.Array]) -> pa.Array | None:
    """The places of rows in which something stands, or None if that is every row."""
    import pyarrow.compute as pc

    blank: pa.Array | None = None
    for column in columns:
        empty = pc.fill_null(pc.equal(pc.utf8_trim_whitespace(column), ""), True)
        blank = empty if blank is None else pc.and_(blank, empty)
        if not pc.any(blank).as_py():
            return None
    return None if blank is None else pc.indices_nonzero(pc.invert(blank))
