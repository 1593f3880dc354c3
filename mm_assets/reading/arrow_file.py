"""Arrow's own files: IPC files (Feather), and IPC streams. A row's line is its number, from 1.

The file is mapped into memory, so that a batch of any size that is not compressed is read in
slices. What holds for columns is the same as in Parquet.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mm_assets.reading.apart import open_apart
from mm_assets.reading.images_inside import MOST_ROWS as IMAGE_ROWS
from mm_assets.reading.images_inside import VALUES_TRIED, find_images
from mm_assets.reading.table import BLOCK_BYTES, Block, Source, TableRefused, Wanted
from mm_assets.reading.typed import Columns, id_place, refusing_damage, usable

if TYPE_CHECKING:
    import pyarrow as pa

FILE_MAGIC = b"ARROW1"
FEATHER_1_MAGIC = b"FEA1"
MOST_ROWS = 8_192


def open_arrow(path: Path, wanted: Wanted) -> Source:
    """Open an Arrow IPC file or stream. Raises TableRefused."""
    return open_apart(f"{__name__}:ArrowSource", path, wanted)


class ArrowSource(Source):
    """An Arrow file, read in this process."""

    typed = True

    def __init__(self, path: Path, wanted: Wanted) -> None:
        self._path = path
        with path.open("rb") as file:
            if file.read(4) == FEATHER_1_MAGIC:
                reason = "this is Feather's first version, which is no longer read"
                raise TableRefused("table_damaged", reason)
            file.seek(0)
            with refusing_damage("Arrow file"):
                schema = _opened(_mapped(file)).schema
                self._inside = find_images(
                    schema.names, schema.types, wanted, path.stat().st_size, self._first_rows
                )
        self._most_rows = MOST_ROWS if self._inside is None else IMAGE_ROWS
        self._taken, self.header, self.facts = usable(schema, wanted, self._inside)
        self._id_at, _ = id_place(self.header, wanted)

    def blocks(self) -> Iterator[Block]:
        row = 1
        for arrays in self._batches(self._taken, self._most_rows):
            columns = Columns(self.header, self._id_at, self._inside)
            for array in arrays:
                columns.add(array)
            yield columns.block(row)
            row += len(arrays[0])

    def _first_rows(self, places: list[int]) -> Iterator[pa.Array]:
        for arrays in self._batches(places, VALUES_TRIED):
            arrays[0].validate(full=True)
            yield arrays[0]

    def _batches(self, places: list[int], most: int) -> Iterator[list[pa.Array]]:
        """The columns at these places, up to `most` rows at a time."""
        with refusing_damage("Arrow file"), self._path.open("rb") as file:
            mapped = _mapped(file)
            for batch in _whole_batches(_opened(mapped)):
                batch.validate()
                arrays = [batch.column(at) for at in places]
                size = max(1, min(most, BLOCK_BYTES // _width(arrays)))
                for start in range(0, batch.num_rows, size):
                    yield [array.slice(start, size) for array in arrays]
                    mapped.madvise(mmap.MADV_DONTNEED)  # what was read is not held


def _mapped(file: Any) -> mmap.mmap:
    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _opened(mapped: mmap.mmap) -> Any:
    import pyarrow as pa

    buffer = pa.py_buffer(mapped)
    if mapped[: len(FILE_MAGIC)] == FILE_MAGIC:
        return pa.ipc.open_file(buffer)
    return pa.ipc.open_stream(buffer)


def _whole_batches(reader: Any) -> Iterator[pa.RecordBatch]:
    if hasattr(reader, "num_record_batches"):
        for at in range(reader.num_record_batches):
            yield reader.get_batch(at)
    else:
        yield from reader


def _width(arrays: list[pa.Array]) -> int:
    """About how many bytes a row takes, with the values that dictionaries stand for."""
    width = 1
    for array in arrays:
        width += array.nbytes // max(1, len(array))
        if values := getattr(array, "dictionary", None):
            width += values.nbytes // max(1, len(values))
    return width
