"""Safe reading of a zip from a local file.

The archive's directory is hostile until it is checked whole: nothing is handed out of an archive
in which one name, kind, size or position is wrong. What only the bytes can show (sizes that lie,
checksums, an archive inside, an entry that unpacks into far more than it should) stops the
reading where it comes up; whoever reads must then drop what came before.

Names are handed out as the archive holds them; nothing is rewritten to fit. Python's zipfile cuts
names at a NUL and trusts the sizes, so directory and entries are read here.
"""

from __future__ import annotations

import bz2
import lzma
import stat
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO, cast

from mm_assets.contract.errors import UploadError
from mm_assets.uploads.archives.inflate import Inflate, Stored, Unpacker
from mm_assets.uploads.archives.rules import (
    CHUNK,
    MAXIMUM_DICTIONARY,
    RATIO_FROM,
    Archive,
    Caps,
    PieceStream,
    check_entry_size,
    check_head,
    check_names,
    check_total,
    refusal,
)
from mm_assets.uploads.archives.zip_directory import FULL32, ZipEntry, read_directory

STORED, DEFLATED, BZIP2, LZMA = 0, 8, 12, 14

_LOCAL = struct.Struct("<4sHHHHHIIIHH")
_ENCRYPTED = 0x0001 | 0x0040 | 0x2000
_STREAMED, _PATCHED, _LZMA_ENDS = 0x0008, 0x0020, 0x0002


class ZipArchive(Archive):
    """A zip whose directory is sound. Raises UploadError with an archive_* code."""

    kind = "zip"

    def __init__(self, file: BinaryIO, file_size: int, where: str, caps: Caps) -> None:
        self._file = file
        self._where = where
        self._caps = caps
        entries, end_of_data = read_directory(file, file_size, where, caps)
        check_names(entries, where, caps)
        _check_kinds(entries, where)
        _check_sizes(entries, where, caps)
        entries.sort(key=lambda entry: entry.offset)
        _check_positions(file, entries, end_of_data, where)
        self._entries = [entry for entry in entries if not entry.is_folder]

    @property
    def names(self) -> list[tuple[str, int]]:
        return [(entry.name, entry.size) for entry in self._entries]

    def entries(self) -> Iterator[tuple[str, BinaryIO]]:
        for entry in self._entries:
            stream = _EntryStream(self._file, entry, self._where, self._caps)
            yield entry.name, cast("BinaryIO", stream)
            while stream.read(CHUNK):
                pass


# -- what the directory must be -------------------------------------------------------------------


_OTHER_METHODS = {9: "Deflate64", 93: "Zstandard", 95: "XZ", 98: "PPMd"}


def _check_kinds(entries: list[ZipEntry], where: str) -> None:
    for entry in entries:
        kind = stat.S_IFMT(entry.mode)
        if entry.flags & _ENCRYPTED or entry.method == 99:
            raise refusal("archive_encrypted", "the entry is encrypted", where, entry.name)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            what = "a symbolic link" if kind == stat.S_IFLNK else "neither a file nor a folder"
            raise refusal("archive_special_file", what, where, entry.name)
        if (kind == stat.S_IFDIR and not entry.is_folder) or (entry.is_folder and entry.size):
            what = "a folder by one sign and a file by another"
            raise refusal("archive_special_file", what, where, entry.name)
        if entry.method not in (STORED, DEFLATED, BZIP2, LZMA) or entry.flags & _PATCHED:
            name = _OTHER_METHODS.get(entry.method, f"method {entry.method}")
            what = f"compression by {name} is not accepted"
            raise refusal("archive_compression", what, where, entry.name)


def _check_sizes(entries: list[ZipEntry], where: str, caps: Caps) -> None:
    total = packed = 0
    for entry in entries:
        total += entry.size
        packed += entry.packed
        check_entry_size(entry, where, caps)
        if entry.size > max(RATIO_FROM, caps.ratio * entry.packed):
            what = f"{entry.packed:,} bytes unpack into {entry.size:,}"
            raise refusal("archive_bomb", what, where, entry.name)
    check_total(total, packed, where, caps)


def _check_positions(file: BinaryIO, entries: list[ZipEntry], end: int, where: str) -> None:
    """Each local header agrees with the directory, and no entry reaches into another.

    `entries` are in order of their positions; `end` is where the directory starts.
    """
    free_from = 0
    for entry in entries:
        if entry.offset < free_from or entry.offset + _LOCAL.size > end:
            raise refusal("archive_overlap", "the entry overlaps another", where, entry.name)
        file.seek(entry.offset)
        header = file.read(_LOCAL.size)
        (magic, _, flags, method, _, _, crc, packed, size, n_name, n_extra) = _LOCAL.unpack(header)
        if magic != b"PK\3\4" or file.read(n_name) != entry.raw_name:
            what = "the entry's own header names another file"
            raise refusal("archive_corrupt", what, where, entry.name)
        same = method == entry.method and not (flags ^ entry.flags) & (_ENCRYPTED | _PATCHED)
        if not flags & _STREAMED:
            same = same and crc == entry.crc
            same = same and packed in (entry.packed, FULL32) and size in (entry.size, FULL32)
        if not same:
            what = "the entry's own header says other than the directory"
            raise refusal("archive_corrupt", what, where, entry.name)
        entry.data_at = entry.offset + _LOCAL.size + n_name + n_extra
        free_from = entry.data_at + entry.packed
        if free_from > end:
            what = "the entry reaches beyond the end of the data"
            raise refusal("archive_overlap", what, where, entry.name)


# -- the bytes of one entry -----------------------------------------------------------------------


def _lzma(file: BinaryIO, entry: ZipEntry) -> tuple[Unpacker, int]:
    """The decompressor, and the length of the header that says how it works."""
    header = file.read(9)
    if entry.packed < 9 or header[2:4] != b"\5\0" or header[4] >= 225:
        raise lzma.LZMAError("no LZMA header")
    rest, context = divmod(header[4], 9)
    position, literal = divmod(rest, 5)
    dictionary = int.from_bytes(header[5:9], "little")
    if dictionary > MAXIMUM_DICTIONARY:
        raise lzma.LZMAError(f"a dictionary of {dictionary:,} bytes")
    parts = {"id": lzma.FILTER_LZMA1, "lc": context, "lp": literal, "pb": position,
             "dict_size": max(4096, dictionary)}  # fmt: skip
    return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[parts]), 9


class _EntryStream(PieceStream):
    """The unpacked bytes of one entry, never more than the directory says, verified at the end.

    The directory's sizes are within the caps, so what is handed out is within them too.
    """

    def __init__(self, file: BinaryIO, entry: ZipEntry, where: str, caps: Caps) -> None:
        super().__init__()
        self._file = file
        self._entry = entry
        self._where = where
        self._caps = caps
        self._at = entry.data_at
        self._end = entry.data_at + entry.packed
        self._out = 0
        self._crc = 0
        self._unpacker: Unpacker | None = None
        self._done = False

    def _next(self) -> bytes:
        """The next unpacked bytes; empty at the end, once everything is found to be right."""
        while not self._done:
            try:
                piece = self._unpack()
            except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError) as error:
                raise self._corrupt(f"the entry does not unpack: {error}") from None
            if piece:
                self._count(piece)
                return piece
        return b""

    def _unpack(self) -> bytes:
        self._file.seek(self._at)
        if self._unpacker is None:
            self._unpacker = self._open()
        unpacker, data = self._unpacker, b""
        left = self._entry.size - self._out
        if unpacker.eof or (self._open_ended and not left):
            return self._finish(unpacker)
        if unpacker.needs_input and self._at < self._end:
            data = self._file.read(min(CHUNK, self._end - self._at))
            self._at += len(data)
        piece = unpacker.decompress(data, min(CHUNK, left) if self._open_ended else CHUNK)
        if not piece and not data and unpacker.needs_input:
            return self._finish(unpacker)
        return piece

    def _open(self) -> Unpacker:
        if self._entry.method == LZMA:
            unpacker, header = _lzma(self._file, self._entry)
            self._at += header
            self._file.seek(self._at)
            return unpacker
        if self._entry.method == BZIP2:
            return bz2.BZ2Decompressor()
        return Inflate() if self._entry.method == DEFLATED else Stored()

    @property
    def _open_ended(self) -> bool:
        """LZMA without an end mark: only the size says where it ends."""
        return self._entry.method == LZMA and not self._entry.flags & _LZMA_ENDS

    def _count(self, piece: bytes) -> None:
        if not self._out:
            check_head(piece, self._entry.name, self._where, self._caps)
        self._out += len(piece)
        self._crc = zlib.crc32(piece, self._crc)
        if self._out > self._entry.size:
            raise self._corrupt("the entry holds more than the directory says")

    def _finish(self, unpacker: Unpacker) -> bytes:
        self._done = True
        marked = self._entry.method != STORED and not self._open_ended
        if self._out != self._entry.size or (marked and not unpacker.eof):
            raise self._corrupt("the entry holds less than the directory says")
        if marked and (unpacker.unused_data or self._at < self._end):
            raise self._corrupt("bytes lie behind the end of the entry's data")
        if self._crc != self._entry.crc:
            raise self._corrupt("the checksum is wrong")
        return b""

    def _corrupt(self, what: str) -> UploadError:
        return refusal("archive_corrupt", what, self._where, self._entry.name)
