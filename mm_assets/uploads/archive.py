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
import io
import lzma
import re
import stat
import struct
import unicodedata
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from mm_assets.contract.errors import UploadError
from mm_assets.uploads.zip_directory import FULL32, Entry, read_directory, refusal

CHUNK = 256 << 10
RATIO_FROM = 1 << 20  # bytes unpacked before the ratio of an entry is judged
TOTAL_RATIO_FROM = 64 << 20  # and that of the whole archive: many small bombs are one
MAXIMUM_LZMA_DICTIONARY = 64 << 20
STORED, DEFLATED, BZIP2, LZMA = 0, 8, 12, 14

_LOCAL = struct.Struct("<4sHHHHHIIIHH")
_ENCRYPTED = 0x0001 | 0x0040 | 0x2000
_STREAMED, _PATCHED, _LZMA_ENDS = 0x0008, 0x0020, 0x0002

_NESTED_NAME = re.compile(
    r"\.(zip|zipx|jar|7z|rar|tar(\.[a-z0-9]+)?|t[agbxz]z2?|tzst|lz4?|lzma|cab|iso|arj|cpio|z)$",
    re.IGNORECASE,
)
# Zips by their bytes, read or refused one by one later: by their name or their first part.
_OFFICE_NAME = re.compile(r"\.(xlsx|xlsm|xlsb|xls|docx|pptx|ods|odt|odp)$", re.IGNORECASE)
_OFFICE_MAGIC = re.compile(rb"(?s)PK\x03\x04.{26}(?:\[Content_T|_rels/|docProps/|xl/|mimetypeap)")
# What holds several files; a compressed table is one, and judged when it is read.
_NESTED_MAGIC = re.compile(
    rb"PK\x03\x04|PK\x05\x06|7z\xbc\xaf\x27\x1c|Rar!\x1a\x07|\x04\x22\x4d\x18|MSCF\0\0\0\0"
    rb"|.{257}ustar",
    re.DOTALL,
)
_DRIVE = re.compile(r"[A-Za-z]:")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class Caps:
    """The most an archive may hold. `ratio`: bytes out to bytes in, of an entry and of all."""

    entries: int = 200_000
    entry_bytes: int = 2 << 30
    total_bytes: int = 200 << 30
    ratio: int = 200


def open_archive(path: Path, *, where: str, caps: Caps = Caps()) -> Archive:
    """Check the whole directory of a zip. Raises UploadError with an archive_* code."""
    file = path.open("rb")
    try:
        return Archive(file, path.stat().st_size, where, caps)
    except BaseException:
        file.close()
        raise


class Archive:
    """A zip whose directory is sound; made by `open_archive`, used in a `with`, by one thread."""

    def __init__(self, file: BinaryIO, file_size: int, where: str, caps: Caps) -> None:
        self._file = file
        self._where = where
        entries, end_of_data = read_directory(file, file_size, where, caps.entries)
        _check_names(entries, where)
        _check_kinds(entries, where)
        _check_sizes(entries, where, caps)
        entries.sort(key=lambda entry: entry.offset)
        _check_positions(file, entries, end_of_data, where)
        self._entries = [entry for entry in entries if not entry.is_folder]

    @property
    def names(self) -> list[tuple[str, int]]:
        """Each file's name and unpacked size, in the order in which they lie in the archive."""
        return [(entry.name, entry.size) for entry in self._entries]

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    def entries(self) -> Iterator[tuple[str, BinaryIO]]:
        """Each file in order, as (name, stream). A stream lives until the next one is asked for.

        What the reader leaves unread is read and verified too. Raises UploadError as soon as the
        bytes do not agree with the directory, and at the latest at the end of the entry.
        """
        for entry in self._entries:
            stream = _EntryStream(self._file, entry, self._where)
            yield entry.name, cast("BinaryIO", stream)
            while stream.read(CHUNK):
                pass


# -- what the directory must be -------------------------------------------------------------------


def _check_kinds(entries: list[Entry], where: str) -> None:
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
            what = f"compression method {entry.method} is not accepted"
            raise refusal("archive_compression", what, where, entry.name)


def _name_fault(name: str) -> str | None:
    if _CONTROL.search(name):
        return "the name holds a control character"
    if "\\" in name:
        return "the name holds a backslash"
    if name.startswith("/") or _DRIVE.match(name):
        return "the name is an absolute path"
    for part in name.removesuffix("/").split("/"):
        if part in ("", ".", ".."):
            return f"the name has the part '{part}'"
        if len(part) > 63 and len(part.encode()) > 255:
            return "the name has a part of more than 255 bytes"
    return None


def _folded(name: str) -> str:
    """The name as a file system that ignores case and Unicode form compares it."""
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _check_names(entries: list[Entry], where: str) -> None:
    seen: dict[str, str] = {}
    folders: set[str] = set()
    for entry in entries:
        name = entry.name
        if fault := _name_fault(name):
            raise refusal("archive_unsafe_name", fault, where, name)
        if _NESTED_NAME.search(name):
            raise refusal("archive_nested", "an archive inside the archive", where, name)
        key = _folded(name)
        if key in seen:
            what = f"the name is also that of {seen[key][:200]!a}"
            raise refusal("archive_name_collision", what, where, name)
        seen[key] = name
        folder = key.rpartition("/")[0]
        while folder and folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
    for folder in folders:
        if folder in seen:
            what = "the name is that of a file and of a folder"
            raise refusal("archive_name_collision", what, where, seen[folder])


def _check_sizes(entries: list[Entry], where: str, caps: Caps) -> None:
    total = packed = 0
    for entry in entries:
        total += entry.size
        packed += entry.packed
        if entry.size > caps.entry_bytes:
            what = f"{entry.size:,} bytes; an entry may hold {caps.entry_bytes:,}"
            raise refusal("archive_too_large", what, where, entry.name)
        if entry.size > max(RATIO_FROM, caps.ratio * entry.packed):
            what = f"{entry.packed:,} bytes unpack into {entry.size:,}"
            raise refusal("archive_bomb", what, where, entry.name)
    if total > caps.total_bytes:
        what = f"{total:,} bytes; an archive may hold {caps.total_bytes:,}"
        raise refusal("archive_too_large", what, where)
    if total > max(TOTAL_RATIO_FROM, caps.ratio * packed):
        raise refusal("archive_bomb", f"{packed:,} bytes unpack into {total:,}", where)


def _check_positions(file: BinaryIO, entries: list[Entry], end: int, where: str) -> None:
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


class _Unpacker(Protocol):
    """What bz2 and lzma offer, and the two classes below."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Stored:
    """No compression. It ends when its input does."""

    eof = False
    needs_input = True
    unused_data = b""

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:  # noqa: ARG002
        return data


class _Inflate:
    """Raw deflate."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)

    @property
    def eof(self) -> bool:
        return self._inflate.eof

    @property
    def needs_input(self) -> bool:
        return not self._inflate.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inflate.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._inflate.decompress(self._inflate.unconsumed_tail + data, max(0, max_length))


def _lzma(file: BinaryIO, entry: Entry) -> tuple[_Unpacker, int]:
    """The decompressor, and the length of the header that says how it works."""
    header = file.read(9)
    if entry.packed < 9 or header[2:4] != b"\5\0" or header[4] >= 225:
        raise lzma.LZMAError("no LZMA header")
    rest, context = divmod(header[4], 9)
    position, literal = divmod(rest, 5)
    dictionary = int.from_bytes(header[5:9], "little")
    if dictionary > MAXIMUM_LZMA_DICTIONARY:
        raise lzma.LZMAError(f"a dictionary of {dictionary:,} bytes")
    parts = {"id": lzma.FILTER_LZMA1, "lc": context, "lp": literal, "pb": position,
             "dict_size": max(4096, dictionary)}  # fmt: skip
    return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[parts]), 9


class _EntryStream(io.RawIOBase):
    """The unpacked bytes of one entry, never more than the directory says, verified at the end.

    The directory's sizes are within the caps, so what is handed out is within them too.
    """

    def __init__(self, file: BinaryIO, entry: Entry, where: str) -> None:
        super().__init__()
        self._file = file
        self._entry = entry
        self._where = where
        self._at = entry.data_at
        self._end = entry.data_at + entry.packed
        self._out = 0
        self._crc = 0
        self._ahead = b""
        self._unpacker: _Unpacker | None = None
        self._done = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        return self.read()

    def read(self, size: int | None = -1) -> bytes:
        """`size` bytes, or all; fewer only at the end."""
        wanted = self._entry.size + 1 if size is None or size < 0 else size
        parts: list[bytes] = []
        while wanted > 0 and (piece := self._ahead or self._next()):
            parts.append(piece[:wanted])
            self._ahead = piece[wanted:]
            wanted -= len(parts[-1])
        return parts[0] if len(parts) == 1 else b"".join(parts)

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

    def _open(self) -> _Unpacker:
        if self._entry.method == LZMA:
            unpacker, header = _lzma(self._file, self._entry)
            self._at += header
            self._file.seek(self._at)
            return unpacker
        if self._entry.method == BZIP2:
            return bz2.BZ2Decompressor()
        return _Inflate() if self._entry.method == DEFLATED else _Stored()

    @property
    def _open_ended(self) -> bool:
        """LZMA without an end mark: only the size says where it ends."""
        return self._entry.method == LZMA and not self._entry.flags & _LZMA_ENDS

    def _count(self, piece: bytes) -> None:
        if (
            not self._out
            and _NESTED_MAGIC.match(piece)
            and not (_OFFICE_NAME.search(self._entry.name) or _OFFICE_MAGIC.match(piece))
        ):
            what = "an archive inside the archive, by its first bytes"
            raise refusal("archive_nested", what, self._where, self._entry.name)
        self._out += len(piece)
        self._crc = zlib.crc32(piece, self._crc)
        if self._out > self._entry.size:
            raise self._corrupt("the entry holds more than the directory says")

    def _finish(self, unpacker: _Unpacker) -> bytes:
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
