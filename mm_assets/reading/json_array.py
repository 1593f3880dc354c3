"""A JSON array of objects, also as the only value of one object (`{"data": [...]}`), UTF-8.

The array is cut into its elements here, block by block, so that a file of any size can be read;
an element's line is where it begins.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from mm_assets.reading.json_objects import (
    UTF8_MARK,
    Objects,
    refuse_other_encodings,
    refuse_utf16,
)
from mm_assets.reading.table import BLOCK_BYTES, ROW_LIMIT, Source, TableRefused, Wanted

if TYPE_CHECKING:
    import pyarrow as pa

WRAPPED = re.compile(rb'\s*\{\s*"(?:[^"\\]|\\.)*"\s*:\s*\[')
_BARE = re.compile(rb"\s*\[")
_HEAD = 64 << 10
_SIGNS = bytes(sign in b'",[]{}' for sign in range(256))
_STEPS = bytes((sign in b"[{") + 255 * (sign in b"]}") for sign in range(256))  # as int8: 1, -1


def open_json_array(path: Path, wanted: Wanted) -> Source:
    """Open a JSON array and read through it once for its keys. Raises TableRefused."""
    return JsonArraySource(path, wanted)


class JsonArraySource(Objects):
    def _texts(self) -> Iterator[tuple[pa.Array, pa.Array]]:
        with self._path.open("rb") as file:
            head = file.read(_HEAD)
            refuse_utf16(head)
            head = head.removeprefix(UTF8_MARK)
            wrapped = WRAPPED.match(head)
            begin = wrapped or _BARE.match(head)
            if begin is None:
                whole = len(head) < _HEAD  # else a character may be cut in two
                refuse_other_encodings(head if whole else head[: head.rfind(b"\n") + 1], 1)
                reason = "this is neither an array of objects nor an object for each line"
                raise TableRefused("table_json", reason, 1)
            line = 1 + begin[0].count(b"\n")
            yield from _elements(file, head[begin.end() :], line, b"}" if wrapped else b"")


def _elements(
    file: BinaryIO, rest: bytes, line: int, closing: bytes
) -> Iterator[tuple[pa.Array, pa.Array]]:
    """Blocks of elements. rest: what was read already behind the `[`, which is on `line`."""
    while True:
        chunk = file.read(BLOCK_BYTES)
        data = rest + chunk
        cut = _cut(data, line)
        if len(cut.texts):
            yield cut.texts, cut.lines
        line += data.count(b"\n", 0, cut.end)
        if cut.closed:
            _check_end(data[cut.end :], file, closing, line)
            return
        rest = data[cut.end :]
        if len(rest) > ROW_LIMIT:
            raise TableRefused("table_row_too_long", "an element of more than 4 MB", line)
        if not chunk:
            raise TableRefused("table_json", "the array is never closed", line)


class _Cut(NamedTuple):
    """Whole elements, and where they end in the data: behind a comma, or behind the `]`."""

    texts: pa.Array
    lines: pa.Array
    end: int
    closed: bool


def _cut(data: bytes, line: int) -> _Cut:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    # Without escapes (two backslashes first) every quote that is left begins or ends a string.
    plain = data.replace(b"\\\\", b"  ").replace(b'\\"', b"  ")
    signs = np.flatnonzero(np.frombuffer(plain.translate(_SIGNS), bool))
    kinds = np.frombuffer(plain, np.uint8)[signs]
    outside = (np.cumsum(kinds == ord('"'), dtype=np.int32) & 1) == 0
    signs, kinds = signs[outside], kinds[outside]
    depth = np.cumsum(np.frombuffer(_STEPS, np.int8)[kinds], dtype=np.int32)
    closing = np.flatnonzero(depth < 0)[:1]
    if closing.size:
        signs, kinds, depth = signs[: closing[0] + 1], kinds[: closing[0] + 1], depth[: closing[0]]
    ends = signs[: len(depth)][(depth == 0) & (kinds[: len(depth)] == ord(","))]
    closed = bool(closing.size)
    if closed:
        ends = np.append(ends, signs[-1])
    if not ends.size:
        return _Cut(pa.array([], pa.string()), pa.array([], pa.int64()), 0, False)
    end = int(ends[-1]) + 1
    refuse_other_encodings(data[:end], line)
    text = np.frombuffer(data, np.uint8, end).copy()
    text[ends] = ord(" ")
    starts = np.concatenate([[0], ends + 1]).astype(np.int32)
    if np.diff(starts).max() > ROW_LIMIT:
        raise TableRefused("table_row_too_long", "an element of more than 4 MB", line)
    whole = pa.StringArray.from_buffers(len(ends), pa.py_buffer(starts), pa.py_buffer(text))
    texts = pc.ascii_trim(whole, " \t\r\n")
    lines = pa.array(_lines_at(data[:end], signs, starts[:-1], line))
    if closed and texts[-1].as_py() == "":  # `[]`, or a comma at the end
        texts, lines = texts[:-1], lines[:-1]
    return _Cut(texts, lines, end, closed)


def _lines_at(data: bytes, signs: Any, starts: Any, line: int) -> Any:
    """The line on which each element's first sign stands. signs, starts: positions, [n] int."""
    import numpy as np

    breaks = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n"))
    first = signs[np.searchsorted(signs, starts)]
    return (line + np.searchsorted(breaks, first)).astype(np.int64)


def _check_end(rest: bytes, file: BinaryIO, closing: bytes, line: int) -> None:
    while True:
        rest = rest.strip(b" \t\r\n")
        if closing and rest.startswith(closing):
            rest, closing = rest[len(closing) :], b""
            continue
        if closing and rest:
            reason = "the array stands in an object that has more than this one key"
            raise TableRefused("table_json", reason, line)
        if rest:
            raise TableRefused("table_json", "more follows behind the end of the array", line)
        rest = file.read(BLOCK_BYTES)
        if not rest:
            break
    if closing:
        raise TableRefused("table_json", "the object around the array is never closed", line)
