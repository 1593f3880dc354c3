"""JSON Lines (NDJSON): one object a line, UTF-8. Empty lines do not matter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mm_assets.reading.json_objects import (
    UTF8_MARK,
    Objects,
    refuse_other_encodings,
    refuse_utf16,
)
from mm_assets.reading.table import BLOCK_BYTES, ROW_LIMIT, Source, TableRefused, Wanted

if TYPE_CHECKING:
    import pyarrow as pa


def open_json_lines(path: Path, wanted: Wanted) -> Source:
    """Open a JSON Lines file and read through it once for its keys. Raises TableRefused."""
    return JsonLinesSource(path, wanted)


class JsonLinesSource(Objects):
    def _texts(self) -> Iterator[tuple[pa.Array, pa.Array]]:
        line = 1
        for data in self._whole_lines():
            refuse_other_encodings(data, line)
            texts, lines, count = _filled_lines(data, line)
            yield texts, lines
            line += count

    def _whole_lines(self) -> Iterator[bytes]:
        with self._path.open("rb") as file:
            rest = file.read(4)
            refuse_utf16(rest)
            rest = rest.removeprefix(UTF8_MARK)
            while chunk := file.read(BLOCK_BYTES):
                data = rest + chunk
                end = data.rfind(b"\n") + 1
                data, rest = data[:end], data[end:]
                if data:
                    yield data
                if len(rest) > ROW_LIMIT:
                    break  # it is refused when it is looked at
        if rest:
            yield rest + b"\n"


def _filled_lines(data: bytes, first: int) -> tuple[pa.Array, pa.Array, int]:
    """The lines that are not empty, their numbers, and how many there are with the empty ones.

    data: whole lines, from line `first`.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    starts = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n")) + 1
    starts = np.concatenate([[0], starts]).astype(np.int32)
    if (long := np.flatnonzero(np.diff(starts) > ROW_LIMIT)).size:
        raise TableRefused("table_row_too_long", "a line of more than 4 MB", first + int(long[0]))
    count = len(starts) - 1
    whole = pa.StringArray.from_buffers(count, pa.py_buffer(starts), pa.py_buffer(data))
    lines = pa.array(np.arange(first, first + count, dtype=np.int64))
    if pc.all(pc.starts_with(whole, "{")).as_py():
        return whole, lines, count
    texts = pc.ascii_trim(whole, " \t\r\n")
    filled = pc.not_equal(texts, "")
    return texts.filter(filled), lines.filter(filled), count
