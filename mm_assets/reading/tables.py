"""From a file of any format to a table: the one way in.

What the bytes are decides, never the name. A format is one module with a `Source`; what is the
same for all of them is here: the header is matched with the columns that are wanted, columns
without a name and rows without a value are left out, and everything is counted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mm_assets.contract.errors import Refusal
from mm_assets.contract.ids import MAXIMUM_BYTES, SPACE
from mm_assets.reading.arrow_file import open_arrow
from mm_assets.reading.compressed import compression_of, unpacked
from mm_assets.reading.delimited import open_delimited
from mm_assets.reading.formats import Format, format_of
from mm_assets.reading.header import clean, match_header
from mm_assets.reading.json_array import open_json_array
from mm_assets.reading.json_lines import open_json_lines
from mm_assets.reading.parquet import open_parquet
from mm_assets.reading.table import (
    FILE_COLUMN,
    FILE_NAME,
    IMAGE_COLUMN,
    LINE_COLUMN,
    MOST_REJECTS,
    Block,
    Reject,
    Source,
    TableRefused,
    Wanted,
)
from mm_assets.reading.workbook import open_workbook

if TYPE_CHECKING:
    import pyarrow as pa

HEAD = 64 << 10  # bytes that tell the kind of a file
_OPEN: dict[Format, Callable[[Path, Wanted], Source]] = {
    Format.DELIMITED: open_delimited,
    Format.JSON_LINES: open_json_lines,
    Format.JSON_ARRAY: open_json_array,
    Format.PARQUET: open_parquet,
    Format.ARROW: open_arrow,
    Format.WORKBOOK: open_workbook,
}


def may_be_table(path: Path, head: bytes, name: str) -> bool:
    """Whether a file is read as a table, judged by its first 64 KB; `name` is its sender's."""
    return compression_of(head) is not None or format_of(path, head, name) is not None


def open_table(path: Path, *, file: str, wanted: Wanted, scratch: Path) -> Table:
    """Find the format and read the header; `file` is the table's name in messages.

    scratch: a folder for what is unpacked; it must be there as long as the table is read.
    Raises TableRefused.
    """
    head = _head(path)
    packed = None
    if compression_of(head) is not None:
        target = scratch / f"{path.name}.unpacked"
        packed = unpacked(path, target)
        path, head = target, _head(target)
    found = format_of(path, head, file)
    if found is None:
        raise TableRefused("file_type", "no table is inside, judged by its content")
    source, asked = _opened(found, path, wanted)
    packing = {"compression": packed} if packed else {}
    source.facts = {"format": found.value, **packing, **source.facts}
    return Table(source, file=file, wanted=asked, id_column=wanted.id_column)


def _opened(found: Format, path: Path, wanted: Wanted) -> tuple[Source, Wanted]:
    """The source, and what was asked of it: for the ID `photo.name` the column `photo`."""
    try:
        return _OPEN[found](path, wanted), wanted
    except TableRefused:  # a text's delimiter is looked for by the ID, so the code may be any
        name = wanted.id_column or ""
        if not name.endswith(FILE_NAME):
            raise
        asked = replace(wanted, id_column=name.removesuffix(FILE_NAME))
        return _OPEN[found](path, asked), asked


def _head(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(HEAD)


class Table:
    """A table whose header fits what was wanted; made by `open_table`.

    `n_rows` (rows seen, with rejects), `n_blank` (rows without any value) and `rejects` grow while
    `batches` is iterated. Callers write to a temporary file: a refusal can come up in the middle.
    """

    def __init__(
        self, source: Source, *, file: str, wanted: Wanted, id_column: str | None = None
    ) -> None:
        """id_column: what the ID is called if it is not a column, but the names in its paths."""
        matched = match_header(source.header, wanted, source.facts.get("header_line", 1))
        self.file = file
        self.lines_as = [] if wanted.lines_as is None else [wanted.lines_as]
        self.id_column = id_column or matched.id_column
        self.header = [*self.lines_as, *matched.names]
        self._paths_at: int | None = None
        if self.id_column != matched.id_column and self.id_column is not None:
            self._paths_at = matched.names.index(matched.id_column or "")
            self.header.append(self.id_column)
        self.typed = source.typed
        self.facts = {**source.facts, **matched.facts}
        self.n_rows = self.n_blank = 0
        self._no_data = _NoData(
            [clean(source.header[place]) for place in matched.places],
            matched.names.index(matched.id_column) if matched.id_column else 0,
        )
        self.rejects: list[Refusal] = []
        self._source = source
        self._places = matched.places

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Rows as text: `_file`, `_line` where each starts, then the columns of the header; behind
        them `_image`, bytes, if the table holds images that were wanted.

        Raises TableRefused when the rest of the file cannot be read, when more than 500,000 rows
        cannot be used, or after the last row when not one row fits the header.
        """
        self.n_rows = self.n_blank = n_no_data = 0
        self.rejects = []
        for block in self._source.blocks():
            self._reject(block.rejects)
            n_no_data += self._leave_out(block)
            if n_no_data:
                self.facts["rows_of_no_data"] = n_no_data
            if batch := self._batch(block):
                yield batch
            if len(self.rejects) > MOST_REJECTS:
                raise self._too_many(f"more than {MOST_REJECTS:,} rows cannot be used")
        wrong = sum(reject.code == "row_width" for reject in self.rejects)
        if self.n_rows and wrong == self.n_rows:
            raise self._too_many("no row fits the header")

    def _too_many(self, what: str) -> TableRefused:
        first = self.rejects[0]
        reason = f"{what}; the first one: {first.reason}"
        if first.code != "row_width":
            return TableRefused("table_too_large", reason, first.line)
        hint = "quote fields with delimiters inside, and give each column a name"
        return TableRefused("table_width", f"{reason}; {hint}", first.line)

    def _reject(self, rejects: list[Reject]) -> None:
        self.n_rows += len(rejects)
        for code, reason, line, record_id in rejects:
            known = record_id if record_id and len(record_id) <= MAXIMUM_BYTES else None
            # Interned, so that a million rejects of one kind share one text.
            self.rejects.append(Refusal(code, sys.intern(reason), self.file, line, known))

    def _leave_out(self, block: Block) -> int:
        """Take rows out of the block that are no data; returns how many."""
        import numpy as np
        import pyarrow as pa

        found = self._no_data.rows([block.columns[place] for place in self._places])
        if len(found):
            kept = pa.array(np.delete(np.arange(len(block.lines)), found))
            block.lines = block.lines.take(kept)
            block.columns = [column.take(kept) for column in block.columns]
            block.images = None if block.images is None else block.images.take(kept)
        return len(found)

    def _batch(self, block: Block) -> pa.RecordBatch | None:
        import pyarrow as pa

        lines, columns = block.lines, [block.columns[place] for place in self._places]
        images = [] if block.images is None else [block.images]
        if (kept := _with_a_value(columns)) is not None:
            self.n_blank += len(lines) - len(kept)
            lines, columns = lines.take(kept), [column.take(kept) for column in columns]
            images = [image.take(kept) for image in images]
        if not len(lines):
            return None
        self.n_rows += len(lines)
        if self._paths_at is not None:
            columns.append(_file_names(columns[self._paths_at]))
        columns = [*(lines.cast(pa.string()) for _ in self.lines_as), *columns]
        files = pa.repeat(pa.scalar(self.file, pa.string()), len(lines))
        names = [FILE_COLUMN, LINE_COLUMN, *self.header, *(IMAGE_COLUMN for _ in images)]
        return pa.RecordBatch.from_arrays([files, lines, *columns, *images], names=names)


class _NoData:
    """Tells rows that are no data: those that repeat the header, as in files that were put one
    behind the other, and those that only draw a line (`---|:--:|`).

    names: of the columns, as they stand in the file; id_at: the one that is looked at first.
    """

    def __init__(self, names: list[str], id_at: int) -> None:
        self._names = names
        self._order = [id_at, *(at for at in range(len(names)) if at != id_at)]

    def rows(self, columns: list[pa.Array]) -> pa.Array:
        """The places of such rows. columns: one for each name."""
        import pyarrow as pa
        import pyarrow.compute as pc

        first = pc.utf8_trim(columns[self._order[0]], SPACE)
        repeated = pc.indices_nonzero(pc.equal(first, self._names[self._order[0]]))
        drawn = [pc.starts_with(first, sign) for sign in ("--", "==", ":-")]
        line = pc.indices_nonzero(pc.or_(pc.or_(drawn[0], drawn[1]), drawn[2]))
        for at in self._order:
            if not len(repeated) and not len(line):
                break
            same = pc.equal(pc.utf8_trim(columns[at].take(repeated), SPACE), self._names[at])
            repeated = repeated.filter(same)
            only = pc.match_substring_regex(columns[at].take(line), r"^[-=:+ ]*$")
            line = line.filter(pc.fill_null(only, True))
        return pa.concat_arrays([repeated, line])


def _file_names(paths: pa.Array) -> pa.Array:
    import pyarrow.compute as pc

    return pc.utf8_trim(pc.replace_substring_regex(paths, r"(?s)^.*[/\\]", ""), SPACE)


def _with_a_value(columns: list[pa.Array]) -> pa.Array | None:
    """The places of rows in which something stands, or None if that is every row."""
    import pyarrow.compute as pc

    blank: pa.Array | None = None
    for column in columns:
        empty = pc.fill_null(pc.equal(pc.utf8_trim(column, SPACE), ""), True)
        blank = empty if blank is None else pc.and_(blank, empty)
        if not pc.any(blank).as_py():
            return None
    return None if blank is None else pc.indices_nonzero(pc.invert(blank))
