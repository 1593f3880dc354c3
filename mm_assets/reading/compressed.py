"""Compressed tables: told by their bytes, never by their name, and unpacked within limits.

A compressed file is hostile until it is unpacked whole: it may be a bomb, cut short, or ask for
more memory than there is. What belongs here: gzip, bzip2, xz and Zstandard around one file. What
does not: archives of several files (uploads/archives).
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from mm_assets.reading.table import TableRefused

if TYPE_CHECKING:
    from _typeshed import SupportsRead

CHUNK = 1 << 20  # bytes out at a time
_READ = 64 << 10  # bytes in at a time; a bomb shows by what was read so far
LIMIT_BYTES = 2 << 30  # the limits of an entry in a zip
LIMIT_RATIO = 200  # bytes out to bytes in
RATIO_FROM = 1 << 20  # bytes out before the ratio of the whole file is judged
EARLY_RATIO_FROM = 64 << 20  # and that of what was read so far: a bomb need not be unpacked whole
MEMORY_LIMIT = 96 << 20  # of xz; its highest setting needs 65 MiB. Zstandard's own is 128 MiB
HEAD = 512  # bytes that tell the kind of a file

_MAGICS = {
    "gzip": b"\x1f\x8b\x08",
    "bzip2": b"BZh",
    "xz": b"\xfd7zXZ\0",
    "zstd": b"\x28\xb5\x2f\xfd",
}
_BZIP2_BLOCKS = (b"1AY&SY", b"\x17rE8P\x90")  # the first block, or the end of an empty file


def compression_of(head: bytes) -> str | None:
    """gzip, bzip2, xz or zstd if a file that begins so is compressed; None if it is not."""
    for name, magic in _MAGICS.items():
        if head.startswith(magic) and (name != "bzip2" or head[4:10] in _BZIP2_BLOCKS):
            return name
    return None


def unpack(stream: BinaryIO, kind: str) -> Iterator[bytes]:
    """The content of a compressed stream, piece by piece, without any limit on its size.

    kind: as `compression_of` says. Raises TableRefused (table_compressed) when it is damaged or
    cut short.
    """
    return _sound(_UNPACK[kind](stream), kind)


def unpacked(
    path: Path,
    target: Path,
    *,
    limit_bytes: int = LIMIT_BYTES,
    limit_ratio: int = LIMIT_RATIO,
) -> str:
    """Write the content of a compressed file to `target`; returns how it was compressed.

    Files that were compressed apart and put one behind the other are one content.
    Raises TableRefused (table_compressed) when it is damaged, cut short, compressed twice, or
    unpacks to more than `limit_bytes` or `limit_ratio` times its size; `target` is then gone.
    """
    try:
        with path.open("rb") as stream, target.open("wb") as out:
            kind = compression_of(stream.read(HEAD))
            stream.seek(0)
            if kind is None:
                raise _refused("the file is not compressed, or in a way that is not read here")
            size = path.stat().st_size
            done = 0
            for piece in unpack(stream, kind):
                if not done:
                    _check_inside(piece)
                done += len(piece)
                _check_size(done, stream.tell(), size, limit_bytes, limit_ratio)
                out.write(piece)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return kind


def _refused(reason: str) -> TableRefused:
    return TableRefused("table_compressed", reason)


# -- limits ---------------------------------------------------------------------------------------


def _check_size(done: int, read: int, size: int, limit_bytes: int, limit_ratio: int) -> None:
    if done > limit_bytes:
        raise _refused(f"it unpacks to more than {limit_bytes:,} bytes")
    whole = done > max(RATIO_FROM, limit_ratio * size)
    if whole or done > max(EARLY_RATIO_FROM, limit_ratio * read):
        raise _refused(f"it unpacks to more than {limit_ratio} times its size")


def _check_inside(piece: bytes) -> None:
    if inner := compression_of(piece):
        raise _refused(f"it is compressed twice: {inner} is inside")
    if piece[257:262] == b"ustar":
        raise _refused("a tar archive is inside")


def _sound(pieces: Iterator[bytes], kind: str) -> Iterator[bytes]:
    """The pieces that hold something; what the libraries say of a fault, in our words."""
    try:
        yield from filter(None, pieces)
    except (EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        if isinstance(error, OSError) and error.errno:  # the disk, not the file's content
            raise
        if isinstance(error, EOFError) or "truncated" in str(error).lower():
            raise _refused(f"the {kind} data is cut short") from None
        raise _refused(f"the {kind} data is damaged: {error}") from None


# -- how each is unpacked -------------------------------------------------------------------------


def _gzip(stream: BinaryIO) -> Iterator[bytes]:
    with gzip.GzipFile(fileobj=stream) as unpacker:
        yield from _read(unpacker)


def _zstd(stream: BinaryIO) -> Iterator[bytes]:
    import pyarrow as pa

    lent = pa.PythonFile(_Lent(stream), mode="r")
    with pa.CompressedInputStream(lent, "zstd") as unpacker:
        yield from _read(unpacker)


class _Lent:
    """A stream that pyarrow reads, and does not close: it is somebody else's."""

    closed = False

    def __init__(self, stream: BinaryIO) -> None:
        self.read = stream.read

    def close(self) -> None:
        pass


def _read(unpacker: SupportsRead[bytes]) -> Iterator[bytes]:
    while piece := unpacker.read(CHUNK):
        yield piece


def _one_behind_the_other(
    unpacker_for_one: Callable[[], bz2.BZ2Decompressor | lzma.LZMADecompressor],
) -> Callable[[BinaryIO], Iterator[bytes]]:
    """bzip2 and xz: the libraries' own files drop what is damaged behind the first part."""

    def unpack(stream: BinaryIO) -> Iterator[bytes]:
        data = stream.read(_READ)
        while data:
            unpacker = unpacker_for_one()
            yield unpacker.decompress(data, CHUNK)
            while not unpacker.eof:
                data = stream.read(_READ) if unpacker.needs_input else b""
                if unpacker.needs_input and not data:
                    raise EOFError
                yield unpacker.decompress(data, CHUNK)
            data = unpacker.unused_data.lstrip(b"\0")  # padding
            while not data and (more := stream.read(_READ)):
                data = more.lstrip(b"\0")

    return unpack


_UNPACK: dict[str, Callable[[BinaryIO], Iterator[bytes]]] = {
    "gzip": _gzip,
    "bzip2": _one_behind_the_other(bz2.BZ2Decompressor),
    "xz": _one_behind_the_other(
        lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY_LIMIT)
    ),
    "zstd": _zstd,
}
