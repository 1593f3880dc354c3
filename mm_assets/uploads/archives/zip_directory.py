"""The directory of a zip: which entries there are and where they lie, as the file states it.

Only the form is judged here; whether what it states may be trusted is the matter of `zip_file.py`.
Python's zipfile is not used: it cuts names at a NUL and reads a directory of any size.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from typing import BinaryIO

from mm_assets.contract.errors import UploadError
from mm_assets.reading.encoding_guess import likely_readings
from mm_assets.reading.encodings import is_utf8
from mm_assets.uploads.archives.rules import Caps, check_count, refusal

_END, _END64, _LOCATOR = b"PK\5\6", b"PK\6\6", b"PK\6\7"
_CENTRAL = struct.Struct("<4sBBHHHHHIIIHHHHHII")
_FULL16, FULL32 = 0xFFFF, 0xFFFF_FFFF
_UTF8 = 0x0800
_DOS = 0  # the system that an entry names; Windows calls itself so, too
_DOS_CODECS = ("cp437", "cp850")
_NAMES_LOOKED_AT = 64 << 10  # bytes of names, to tell their code page
_NOT_YET = "\0"  # stands for a name until the code page of all is known


@dataclass(slots=True)
class ZipEntry:
    name: str
    raw_name: bytes
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    offset: int
    mode: int
    system: int = 3
    data_at: int = 0

    @property
    def is_folder(self) -> bool:
        return self.name.endswith("/")


def read_directory(
    file: BinaryIO, file_size: int, where: str, caps: Caps
) -> tuple[list[ZipEntry], int]:
    """All entries as they are listed, and the position where the list starts.

    Raises UploadError when the file is no zip, or cut short, or lists too many entries.
    """
    return _Directory(file, file_size, where, caps).read()


class _Directory:
    """Reads the records at the end of the file and then the list of entries."""

    def __init__(self, file: BinaryIO, file_size: int, where: str, caps: Caps) -> None:
        self._file = file
        self._size = file_size
        self._where = where
        self._caps = caps

    def read(self) -> tuple[list[ZipEntry], int]:
        """All entries as they are listed, and the position where the list starts."""
        end_at, disks, count, size, offset = self._end_record()
        list_end = end_at
        if self._at(end_at - 20, 4) == _LOCATOR:
            list_end, disks, count, size, offset = self._end_record_64(end_at)
        if disks:
            raise self._unreadable("the archive is split over several files")
        check_count(count, self._where, self._caps)
        start = list_end - size
        if start < 0 or offset > start:
            raise self._unreadable("the directory lies outside of the file; it may be cut short")
        shift = start - offset  # bytes in front of the archive that its positions leave out
        self._file.seek(start)
        entries = [self._entry(shift) for _ in range(count)]
        _name_others([entry for entry in entries if entry.name is _NOT_YET])
        for entry in entries:  # Windows' own Compress-Archive writes `folder\file`
            if entry.system == _DOS:
                entry.name = entry.name.replace("\\", "/")
        if self._file.tell() != list_end:
            raise self._unreadable("the directory is not as long as it says")
        return entries, start

    def _at(self, position: int, length: int) -> bytes:
        if position < 0:
            return b""
        self._file.seek(position)
        return self._file.read(length)

    def _end_record(self) -> tuple[int, int, int, int, int]:
        """Position, disk numbers (together), count, directory size and offset."""
        tail_at = max(0, self._size - 22 - _FULL16)
        tail = self._at(tail_at, 22 + _FULL16)
        found = []
        at = tail.rfind(_END)
        while at >= 0:
            ends = at + 22 + int.from_bytes(tail[at + 20 : at + 22], "little")
            if at + 22 <= len(tail) and ends == len(tail):
                found.append(at)
            at = tail.rfind(_END, 0, at)
        if len(found) != 1:
            what = "two directories in one file" if found else "no zip archive, or cut short"
            raise self._unreadable(what)
        fields = struct.unpack_from("<HHHHII", tail, found[0] + 4)
        disk, list_disk, here, count, size, offset = fields
        zip64 = _FULL16 in (disk, list_disk, here, count) or FULL32 in (size, offset)
        disks = 0 if zip64 else disk | list_disk | (here ^ count)
        return tail_at + found[0], disks, count, size, offset

    def _end_record_64(self, end_at: int) -> tuple[int, int, int, int, int]:
        (given,) = struct.unpack("<Q", self._at(end_at - 12, 8))
        at = end_at - 20 - 56
        record = self._at(at, 56)
        if record[:4] != _END64:
            at = given
            record = self._at(at, 56) if at < end_at else b""
        if record[:4] != _END64 or len(record) < 56:
            raise self._unreadable("the zip64 directory record is missing")
        disk, list_disk, here, count, size, offset = struct.unpack_from("<IIQQQQ", record, 16)
        return at, disk | list_disk | (here ^ count), count, size, offset

    def _entry(self, shift: int) -> ZipEntry:
        fixed = self._file.read(_CENTRAL.size)
        if len(fixed) < _CENTRAL.size or fixed[:4] != b"PK\1\2":
            raise self._unreadable("the directory lists fewer entries than it says")
        (_, _, system, _, flags, method, _, _, crc, packed, size, n_name, n_extra, n_comment,
         disk, _, attributes, offset) = _CENTRAL.unpack(fixed)  # fmt: skip
        raw_name = self._file.read(n_name)
        extra = self._file.read(n_extra)
        self._file.seek(n_comment, io.SEEK_CUR)
        fields = _extra_fields(extra)
        name = self._decoded(raw_name, flags, fields)
        wide = fields.get(1, b"")
        values = [size, packed, offset]
        for i, value in enumerate(values):
            if value == FULL32 and wide:
                values[i], wide = int.from_bytes(wide[:8], "little"), wide[8:]
        if disk not in (0, _FULL16):
            raise self._unreadable("the archive is split over several files")
        size, packed, offset = values
        mode = attributes >> 16
        return ZipEntry(
            name, raw_name, flags, method, crc, packed, size, offset + shift, mode, system
        )

    def _decoded(self, raw: bytes, flags: int, fields: dict[int, bytes]) -> str:
        """ASCII, and UTF-8 if flagged so or told so by Info-ZIP's field; else not known yet."""
        field = fields.get(0x7075, b"")
        if field[:1] == b"\1" and field[1:5] == zlib.crc32(raw).to_bytes(4, "little"):
            raw, flags = field[5:], flags | _UTF8
        if not flags & _UTF8 and not raw.isascii():
            return _NOT_YET
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            what, name = "the name is not valid UTF-8", raw.decode("cp437")
            raise refusal("archive_unsafe_name", what, self._where, name) from None

    def _unreadable(self, what: str) -> UploadError:
        return refusal("archive_unreadable", what, self._where)


def _name_others(entries: list[ZipEntry]) -> None:
    """Name entries in the code page of the machine that made the zip, which nothing in it tells.

    UTF-8, if most of them are; of the others that of DOS, as the format has it, if such names may
    be words; else the likeliest one. (A short name in Chinese may look like UTF-8 by chance.)
    """
    as_utf8 = [entry for entry in entries if is_utf8(entry.raw_name)]
    if 2 * len(as_utf8) > len(entries):
        for entry in as_utf8:
            entry.name = entry.raw_name.decode("utf-8")
        entries = [entry for entry in entries if entry.name is _NOT_YET]
    if not entries:
        return
    sample = b"\n".join(entry.raw_name for entry in entries)[:_NAMES_LOOKED_AT]
    likely = [one.codec for one in likely_readings(sample) if _has_letters(one.text)]
    codec = next((one for one in likely if one in _DOS_CODECS), (*likely, *_DOS_CODECS)[0])
    for entry in entries:
        try:
            entry.name = entry.raw_name.decode(codec)
        except UnicodeDecodeError:
            entry.name = entry.raw_name.decode(_DOS_CODECS[0])


def _has_letters(text: str) -> bool:
    """Whether there is a letter beyond ASCII: names hold hardly any sign from there."""
    return any(letter.isalpha() for letter in text if not letter.isascii())


def _extra_fields(extra: bytes) -> dict[int, bytes]:
    fields: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        fields.setdefault(kind, extra[at + 4 : at + 4 + length])
        at += 4 + length
    return fields
