"""What a table is to those who read one, whatever file it came in.

A format is one module with a `Source`: the names in its header, and its rows in blocks of text.
What is the same for all of them is in `tables.py`.

Every value is handed out as the text that stands in the file. Where a file has types (a workbook,
Parquet, JSON), a number is its exact text with '.' as decimal point, `true` and `false` stand for
truth, dates are ISO 8601, and what is missing is null; such a source is `typed`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pyarrow as pa

FILE_COLUMN = "_file"
LINE_COLUMN = "_line"
IMAGE_COLUMN = "_image"  # the bytes of images inside a table
FILE_NAME = ".name"  # `photo.name` as the ID: of the path in `photo` the last part
FIELD_LIMIT = 131_072  # characters; a longer field makes its row a reject
ROW_LIMIT = 4 << 20  # characters; a longer row refuses the table
BLOCK_BYTES = 8 << 20  # about as much is held at once
BLOCK_ROWS = 131_072  # or fewer bytes, where rows are very short
MOST_COLUMNS = 10_000
MOST_REJECTS = 500_000  # each of them is kept in memory until the receipt is written


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
    encoding: of a text file; "auto" detects it. lines_as: a column more, first, which holds the
    line of each row; in a table that has no such column. images: those inside the table are read
    as well, of the column `image_column` if that holds some (images_inside.py). all_images: of a
    list all of them, not the first alone. sheet: of a workbook, this one and no other.
    """

    id_column: str | None = None
    columns: tuple[str, ...] = ()
    encoding: str = "auto"
    lines_as: str | None = None
    images: bool = False
    image_column: str | None = None
    all_images: bool = False
    sheet: str | None = None

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
    header, [rows]; null where there is no value. rejects: rows that are not among them. images:
    bytes, [rows], null where a row has none; None where the table holds no images.
    """

    lines: pa.Array
    columns: list[pa.Array]
    rejects: list[Reject] = field(default_factory=list)
    images: pa.Array | None = None


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
