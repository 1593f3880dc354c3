"""The headers of a tar, one after another, as the file states them.

A tar has no directory: each entry's header lies before its data. Python's tarfile takes a damaged
header for the end, and reads extended headers of any size into memory; so they are read here, and
only a header's fields are left to it.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from mm_assets.contract.errors import UploadError
from mm_assets.reading.compressed import unpack
from mm_assets.reading.table import TableRefused
from mm_assets.uploads.archives.rules import (
    CHUNK,
    LONGEST_NAME,
    TOTAL_RATIO_FROM,
    Caps,
    refusal,
)

BLOCK = 512
_LONGEST_EXTENSION = 1 << 20  # bytes of one extended header; file systems' attributes lie there
_READ_AHEAD = 512 << 10  # packed bytes that may be read before they are needed
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_LINKS = {tarfile.SYMTYPE: "a symbolic link", tarfile.LNKTYPE: "a hard link"}
_SPARSE_KEYS = b"GNU.sparse."
_SPARSE = "a sparse file; make the archive without holes in files (no --sparse)"


@dataclass(slots=True)
class TarEntry:
    name: str
    size: int
    is_folder: bool


def is_tar(block: bytes) -> bool:
    """Whether the first bytes of a file are a header whose checksum is right."""
    try:
        tarfile.TarInfo.frombuf(block[:BLOCK], "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        return False
    return True


class TarSource:
    """The bytes of a tar from start to end, unpacked on the way; `at`: how many were read.

    Raises UploadError when it unpacks into far more than it should.
    """

    def __init__(
        self, file: BinaryIO, size: int, compression: str | None, where: str, caps: Caps
    ) -> None:
        self.at = 0
        self._file = file
        self._size = size
        self._where = where
        self._caps = caps
        self._ahead = b""
        file.seek(0)
        self._pieces = unpack(file, compression) if compression else None

    @property
    def packed(self) -> int:
        """Bytes of the file that were read so far."""
        return self._file.tell()

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; none only at the end."""
        if self._pieces is None:
            data = self._file.read(size)
        else:
            piece = self._ahead or self._next(self._pieces)
            data, self._ahead = piece[:size], piece[size:]
        self.at += len(data)
        return data

    def exactly(self, size: int, what: str) -> bytes:
        parts = []
        while size:
            if not (data := self.read(size)):
                raise self.cut_short(what)
            parts.append(data)
            size -= len(data)
        return b"".join(parts)

    def skip(self, size: int, what: str) -> None:
        if self._pieces is None:
            if self.at + size > self._size:
                raise self.cut_short(what)
            self.at = self._file.seek(self.at + size)
            return
        while size:
            if not (data := self.read(min(size, CHUNK))):
                raise self.cut_short(what)
            size -= len(data)

    def cut_short(self, what: str) -> UploadError:
        return refusal("archive_unreadable", f"the tar is cut short: {what}", self._where)

    def check_entry(self, entry: TarEntry, packed: int) -> None:
        """Whether it came out of few bytes. packed: bytes that were read before it."""
        read = self.packed - packed + _READ_AHEAD
        if self._pieces and entry.size > max(TOTAL_RATIO_FROM, self._caps.ratio * read):
            what = f"about {read:,} bytes unpack into {entry.size:,}"
            raise refusal("archive_bomb", what, self._where, entry.name)

    def _next(self, pieces: Iterator[bytes]) -> bytes:
        try:
            piece = next(pieces, b"")
        except TableRefused as error:
            raise refusal("archive_corrupt", error.reason, self._where) from None
        done, allowed = self.at + len(piece), max(TOTAL_RATIO_FROM, self._caps.ratio * self.packed)
        if done > min(allowed, self._caps.bomb_bytes + TOTAL_RATIO_FROM):
            what = f"{self.packed:,} bytes unpack into more than {done:,}"
            raise refusal("archive_bomb", what, self._where)
        return piece


class _Extended:
    """What extended headers say of the entry that follows (PAX), and of all (its global ones)."""

    def __init__(self) -> None:
        self.always: dict[str, bytes] = {}
        self.once: dict[str, bytes] = {}

    def get(self, key: str) -> bytes | None:
        return self.once.get(key, self.always.get(key))

    @property
    def is_sparse(self) -> bool:
        return self.get("sparse") is not None


def walk(source: TarSource, where: str) -> Iterator[TarEntry]:
    """Each entry while its data comes next in the source; what is left of it is passed over.

    Raises UploadError when a header is wrong, an entry is no plain file or folder, or the tar does
    not end as it should.
    """
    extended = _Extended()
    while (info := _header(source, where)) is not None:
        if info.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.XGLTYPE):
            found = _records(_extension(source, info, where), where)
            extended.always |= found if info.type == tarfile.XGLTYPE else {}
            extended.once |= found if info.type != tarfile.XGLTYPE else {}
        elif info.type in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
            data = _extension(source, info, where).rstrip(b"\0")
            if info.type == tarfile.GNUTYPE_LONGNAME:
                extended.once.setdefault("path", data)
        else:
            entry = _entry(info, extended, where)
            extended.once = {}
            if entry is None:
                continue
            begin, packed = source.at, source.packed
            yield entry
            blocks = -(-entry.size // BLOCK) * BLOCK
            source.skip(begin + blocks - source.at, entry.name[:200])
            source.check_entry(entry, packed)
    if extended.once:
        raise refusal("archive_corrupt", "an extended header describes no entry", where)
    _check_rest(source, where)


def _header(source: TarSource, where: str) -> tarfile.TarInfo | None:
    """The next header; None at the mark of the end."""
    at = source.at
    block = source.exactly(BLOCK, "the blocks that mark its end are missing")
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        if not block.strip(b"\0"):
            return None
        if not at:
            raise refusal("archive_unreadable", "no tar archive", where) from None
        what = f"no header where one must be (at byte {at:,}): {error}"
        raise refusal("archive_corrupt", what, where) from None
    if info.size < 0:
        raise refusal("archive_corrupt", "an entry's size is negative", where, info.name)
    return info


def _extension(source: TarSource, info: tarfile.TarInfo, where: str) -> bytes:
    if info.size > _LONGEST_EXTENSION:
        what = f"an extended header of {info.size:,} bytes; {_LONGEST_EXTENSION:,} are accepted"
        raise refusal("archive_too_large", what, where)
    data = source.exactly(info.size, "an extended header")
    source.skip(-info.size % BLOCK, "an extended header")
    return data


def _records(data: bytes, where: str) -> dict[str, bytes]:
    """`LENGTH KEY=VALUE\\n`, where the length counts all of it; those that count here."""
    found: dict[str, bytes] = {}
    at = 0
    while at < len(data):
        digits = data[at : at + 8].partition(b" ")[0]
        length = int(digits) if digits.isdigit() else 0
        record = data[at : at + length]
        key, equals, value = record[len(digits) + 1 : -1].partition(b"=")
        if not equals or len(record) != length or record[-1:] != b"\n" or not key:
            raise refusal("archive_corrupt", "an extended header cannot be read", where)
        if key.startswith(_SPARSE_KEYS):
            found["sparse"] = b""
        elif key in (b"path", b"size"):  # others are not kept, so that memory stays flat
            found[key.decode()] = value
        at += length
    return found


def _entry(info: tarfile.TarInfo, extended: _Extended, where: str) -> TarEntry | None:
    """The entry that a header and what came before it describe; None for the folder itself."""
    name = _name(extended.get("path"), info, where)
    if what := _special(info, extended):
        raise refusal("archive_special_file", what, where, name)
    size, given = info.size, extended.get("size")
    if given is not None:
        if not given.isdigit() or len(given) > 19:
            raise refusal("archive_corrupt", "an entry's size is no number", where, name)
        size = int(given)
    # Before PAX, a folder was a file whose name ends so.
    is_folder = info.type == tarfile.DIRTYPE or name.endswith("/")
    while name.startswith("./"):
        name = name[2:].lstrip("/")
    if is_folder and size:
        what = "a folder by one sign and a file by another"
        raise refusal("archive_special_file", what, where, name)
    if is_folder and name.strip("/") in ("", "."):
        return None
    return TarEntry(name.rstrip("/") + "/" if is_folder else name, size, is_folder)


def _name(path: bytes | None, info: tarfile.TarInfo, where: str) -> str:
    if path is not None and len(path) > LONGEST_NAME:
        what = f"the name is longer than {LONGEST_NAME:,} bytes"
        raise refusal("archive_unsafe_name", what, where, path[:200].decode("utf-8", "replace"))
    name = info.name if path is None else path.decode("utf-8", "surrogateescape")
    try:
        name.encode()
    except UnicodeEncodeError:
        what = "the name is not valid UTF-8"
        raise refusal("archive_unsafe_name", what, where, name) from None
    return name


def _special(info: tarfile.TarInfo, extended: _Extended) -> str | None:
    """Why it is no plain file or folder, in words, or None."""
    if info.type in _LINKS:
        return _LINKS[info.type]
    if info.type == tarfile.GNUTYPE_SPARSE or extended.is_sparse:
        return _SPARSE
    if info.type == b"M":
        return "the rest of a file that begins in another part of the archive"
    if info.type != tarfile.DIRTYPE and info.type not in _FILES:
        return "neither a file nor a folder"
    return None


def _check_rest(source: TarSource, where: str) -> None:
    """Behind the end are only zeros; packed or not, whatever else there is would be lost."""
    while data := source.read(CHUNK):
        if data.strip(b"\0"):
            what = f"bytes lie behind the end of the archive (before byte {source.at:,})"
            raise refusal("archive_corrupt", what, where)
