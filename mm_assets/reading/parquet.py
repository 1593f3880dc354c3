"""Parquet. A row's line is its number in the file, counted from 1.

It is read page by page, a few thousand rows at a time, whatever the size of its row groups. A
column of lists, objects or bytes is left out unless it is wanted; then its rows are rejects. The
index that pandas writes as `__index_level_0__` is left out. The facts tell of both. Images inside
are handed out where they are wanted (images_inside.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mm_assets.reading.apart import open_apart
from mm_assets.reading.images_inside import MOST_ROWS as IMAGE_ROWS
from mm_assets.reading.images_inside import VALUES_TRIED, find_images
from mm_assets.reading.table import BLOCK_BYTES, Block, Source, TableRefused, Wanted
from mm_assets.reading.typed import Columns, id_place, refusing_damage, usable

if TYPE_CHECKING:
    import pyarrow as pa

MOST_ROWS = 8_192  # of a block: a page may stand for far more text than it has bytes


def open_parquet(path: Path, wanted: Wanted) -> Source:
    """Open a Parquet file. Raises TableRefused."""
    return open_apart(f"{__name__}:ParquetSource", path, wanted)


class ParquetSource(Source):
    """A Parquet file, read in this process."""

    typed = True

    def __init__(self, path: Path, wanted: Wanted) -> None:
        self._path = path
        with refusing_damage("Parquet file"), self._open() as file:
            schema = file.schema_arrow
            names = schema.names
            groups = [file.metadata.row_group(at) for at in range(file.num_row_groups)]
            size = sum(group.total_byte_size for group in groups)
            width = max(1, size // max(1, sum(group.num_rows for group in groups)))
            self._rows = max(1, min(MOST_ROWS, BLOCK_BYTES // width))
            first = partial(self._first_rows, names)
            self._inside = find_images(names, schema.types, wanted, path.stat().st_size, first)
        if self._inside is not None:
            self._rows = min(self._rows, IMAGE_ROWS)
        taken, self.header, self.facts = usable(schema, wanted, self._inside)
        self._read = [names[at] for at in taken]
        self._id_at, _ = id_place(self.header, wanted)

    def blocks(self) -> Iterator[Block]:
        row = 1
        for batch in self._batches():
            columns = Columns(self.header, self._id_at, self._inside)
            for array in batch.columns:
                columns.add(array)
            yield columns.block(row)
            row += batch.num_rows

    def _batches(self) -> Iterator[pa.RecordBatch]:
        with refusing_damage("Parquet file"), self._open() as file:
            for batch in file.iter_batches(self._rows, columns=self._read):
                if batch.schema.names != self._read:
                    raise TableRefused("table_header", "two columns cannot be told apart by name")
                yield batch

    def _first_rows(self, names: list[str], places: list[int]) -> Iterator[pa.Array]:
        rows = min(self._rows, VALUES_TRIED)
        with self._open() as file:
            for batch in file.iter_batches(rows, columns=[names[at] for at in places]):
                batch.validate(full=True)
                yield batch.column(0)

    def _open(self) -> Any:
        import pyarrow.parquet as pq

        # pre_buffer would hold whole row groups; with a buffer a column is read in pieces.
        return pq.ParquetFile(self._path, pre_buffer=False, buffer_size=1 << 20)
