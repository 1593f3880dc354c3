"""The directory of a 7z: its entries and how their bytes are packed, as the file states it.

Only the form is judged here; whether what it states may be trusted is the matter of
`seven_zip_file.py`. The format: 7zFormat.txt of the LZMA SDK, which is in the public domain.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from mm_assets.contract.errors import UploadError
from mm_assets.uploads.archives.rules import Caps, check_count, refusal

MAGIC = b"7z\xbc\xaf\x27\x1c"
_START = struct.Struct("<6sBBIQQI")
_LONGEST_DIRECTORY = 64 << 20  # bytes; 200,000 entries need about 20 MB
_MOST_CODERS = 4
_ATTRIBUTE_FOLDER, _ATTRIBUTE_LINK, _ATTRIBUTE_UNIX = 0x10, 0x400, 0x8000

(
    _ENDS, _HEADER, _PROPERTIES, _MORE_STREAMS, _STREAMS, _FILES, _PACKED, _UNPACKED, _PARTS,
    _SIZES, _CRCS, _FOLDERS, _CODER_SIZES, _COUNTS, _EMPTY, _EMPTY_FILES, _ANTI, _NAMES,
) = range(18)  # fmt: skip
_ATTRIBUTES, _PACKED_HEADER = 0x15, 0x17


@dataclass(frozen=True, slots=True)
class Coder:
    """One step of unpacking: which, with what parameters, into how many bytes."""

    method: bytes
    parameters: bytes
    size: int


@dataclass(slots=True)
class Folder:
    """What was packed together: its place in the file, the steps in order, and its parts."""

    at: int
    packed: int
    coders: list[Coder]
    crc: int | None
    parts: list[tuple[int, int | None]] = field(default_factory=list)  # size, CRC

    @property
    def size(self) -> int:
        return self.coders[-1].size


@dataclass(slots=True)
class SevenZipEntry:
    """`folder`: which one holds its bytes; None if it has none."""

    name: str
    size: int = 0
    crc: int | None = None
    folder: int | None = None
    is_folder: bool = False
    mode: int = 0  # as Unix has it, 0 if the archive does not say
    is_link: bool = False
    is_anti: bool = False


@dataclass(frozen=True, slots=True)
class Listing:
    folders: list[Folder]
    entries: list[SevenZipEntry]


def read_start(file: BinaryIO, file_size: int, where: str) -> tuple[bytes, int]:
    """The directory's bytes, perhaps packed themselves, and the position where they start."""
    file.seek(0)
    start = file.read(_START.size)
    if len(start) < _START.size or start[:6] != MAGIC:
        raise unreadable("no 7z archive, or cut short", where)
    _, _, _, start_crc, offset, size, crc = _START.unpack(start)
    if zlib.crc32(start[12:]) != start_crc:
        raise refusal("archive_corrupt", "the checksum of its first bytes is wrong", where)
    end = _START.size + offset + size
    if end > file_size:
        what = "its directory lies outside of the file: it is cut short, or one part of several"
        raise unreadable(what, where)
    if end < file_size:
        raise refusal("archive_corrupt", "bytes lie behind the end of the archive", where)
    check_directory_size(size, where)
    file.seek(_START.size + offset)
    data = file.read(size)
    if zlib.crc32(data) != crc:
        raise refusal("archive_corrupt", "the checksum of its directory is wrong", where)
    return data, _START.size + offset


def check_directory_size(size: int, where: str) -> None:
    if size > _LONGEST_DIRECTORY:
        what = f"a directory of {size:,} bytes; {_LONGEST_DIRECTORY:,} are accepted"
        raise refusal("archive_too_large", what, where)


def unreadable(what: str, where: str) -> UploadError:
    return refusal("archive_unreadable", what, where)


def is_packed(data: bytes) -> bool:
    return data[0] == _PACKED_HEADER


def read_packed(data: bytes, end: int, where: str, caps: Caps) -> Folder:
    """Where the real directory lies, when the directory is packed. end: of all packed bytes."""
    folders = _Reader(data[1:], end, where, caps).streams()
    if len(folders) != 1 or len(folders[0].parts) != 1:
        raise unreadable("its directory cannot be read", where)
    return folders[0]


def read_listing(data: bytes, end: int, where: str, caps: Caps) -> Listing:
    """All entries and what holds their bytes. end: of all packed bytes."""
    return _Reader(data, end, where, caps).listing()


class _Reader:
    """Reads a directory from start to end; each number is checked before it counts anything."""

    def __init__(self, data: bytes, end: int, where: str, caps: Caps) -> None:
        self._data = data
        self._at = 0
        self._end = end
        self._where = where
        self._caps = caps

    def listing(self) -> Listing:
        self._expect(_HEADER)
        kind = self._byte()
        if kind == _PROPERTIES:
            while self._byte() != _ENDS:
                self._take(self._number())
            kind = self._byte()
        folders: list[Folder] = []
        if kind == _STREAMS:
            folders = self.streams()
            kind = self._byte()
        entries: list[SevenZipEntry] = []
        if kind == _FILES:
            entries = self._entries(folders)
            kind = self._byte()
        if kind != _ENDS or self._at != len(self._data):
            raise self._fault()
        return Listing(folders, entries)

    # -- bytes ------------------------------------------------------------------------------------

    def _fault(self) -> UploadError:
        return unreadable("its directory cannot be read", self._where)

    def _take(self, count: int) -> bytes:
        found = self._data[self._at : self._at + count]
        if len(found) != count:
            raise self._fault()
        self._at += count
        return found

    def _byte(self) -> int:
        return self._take(1)[0]

    def _expect(self, kind: int) -> None:
        if self._byte() != kind:
            raise self._fault()

    def _number(self) -> int:
        """The first byte's leading ones tell how many bytes follow, the rest is the high part."""
        first = self._byte()
        more = 8 - (first ^ 0xFF).bit_length()
        low = int.from_bytes(self._take(more), "little")
        return low if more >= 7 else low | (first & (0x7F >> more)) << 8 * more

    def _count(self) -> int:
        """A number of things, of which there are no more than entries."""
        number = self._number()
        check_count(number, self._where, self._caps)
        return number

    def _bits(self, count: int) -> list[bool]:
        packed = self._take(-(-count // 8))
        return [bool(packed[i >> 3] & 0x80 >> (i & 7)) for i in range(count)]

    def _given(self, count: int) -> list[bool]:
        return [True] * count if self._byte() else self._bits(count)

    def _crcs(self, count: int) -> list[int | None]:
        return [
            int.from_bytes(self._take(4), "little") if given else None
            for given in self._given(count)
        ]

    # -- what is packed ---------------------------------------------------------------------------

    def streams(self) -> list[Folder]:
        """The folders, with the parts of each."""
        places: list[tuple[int, int]] = []
        folders: list[Folder] = []
        kind = self._byte()
        if kind == _PACKED:
            places = self._places()
            kind = self._byte()
        if kind == _UNPACKED:
            folders = self._folders(places)
            kind = self._byte()
        for folder in folders:
            folder.parts = [(folder.size, folder.crc)]
        if kind == _PARTS:
            self._parts(folders)
            kind = self._byte()
        if kind != _ENDS or len(folders) != len(places):
            raise self._fault()
        return folders

    def _places(self) -> list[tuple[int, int]]:
        """Position and size of each packed stream: one behind the other."""
        at = _START.size + self._number()
        count, sizes = self._count(), []
        while (kind := self._byte()) != _ENDS:
            if kind == _SIZES:
                sizes = [self._number() for _ in range(count)]
            elif kind == _CRCS:
                self._crcs(count)
            else:
                raise self._fault()
        if len(sizes) != count:
            raise self._fault()
        places = []
        for size in sizes:
            places.append((at, size))
            at += size
        if at > self._end:
            raise refusal("archive_overlap", "packed bytes reach beyond their end", self._where)
        return places

    def _folders(self, places: list[tuple[int, int]]) -> list[Folder]:
        self._expect(_FOLDERS)
        count = self._count()
        if self._byte() or count != len(places):
            if count < len(places):  # BCJ2 and its like: several streams for one folder
                raise self._compression("several packed streams for one file")
            raise self._fault()
        chains = [self._coders() for _ in range(count)]
        self._expect(_CODER_SIZES)
        folders = []
        for (at, packed), chain in zip(places, chains, strict=True):
            sizes = [self._number() for _ in chain[0]]
            coders = [Coder(*chain[0][i], sizes[i]) for i in chain[1]]
            folders.append(Folder(at, packed, coders, None))
        kind = self._byte()
        if kind == _CRCS:
            for folder, crc in zip(folders, self._crcs(count), strict=True):
                folder.crc = crc
            kind = self._byte()
        if kind != _ENDS:
            raise self._fault()
        return folders

    def _coders(self) -> tuple[list[tuple[bytes, bytes]], list[int]]:
        """Method and parameters of each coder, and the order in which they unpack."""
        count = self._number()
        if not 0 < count <= _MOST_CODERS:
            raise self._compression(f"{count:,} steps to unpack one file")
        coders = [self._coder() for _ in range(count)]
        follows = {}  # coder: the one that takes what it gives
        for _ in range(count - 1):
            taker = self._number()
            follows[self._number()] = taker
        chain = [at for at in range(count) if at not in follows.values()][:1]
        while chain and (after := follows.get(chain[-1])) is not None and len(chain) < count:
            chain.append(after)
        if sorted(chain) != list(range(count)):
            raise self._fault()
        return coders, chain

    def _coder(self) -> tuple[bytes, bytes]:
        flags = self._byte()
        method = self._take(flags & 0x0F)
        if flags & 0x10 and (self._number(), self._number()) != (1, 1):
            raise self._compression(f"method {method.hex()}, which joins several streams")
        if flags & 0xC0:
            raise self._fault()
        return method, self._take(self._number()) if flags & 0x20 else b""

    def _compression(self, what: str) -> UploadError:
        return refusal("archive_compression", f"{what}: not accepted", self._where)

    def _parts(self, folders: list[Folder]) -> None:
        """What each folder holds: all sizes but the last are written."""
        kind, counts = self._byte(), [1] * len(folders)
        if kind == _COUNTS:
            counts = [self._count() for _ in folders]
            check_count(sum(counts), self._where, self._caps)
            kind = self._byte()
        sizes = []
        for folder, count in zip(folders, counts, strict=True):
            some = [self._number() for _ in range(count - 1)] if kind == _SIZES else []
            last = folder.size - sum(some)
            if last < 0 or len(some) != max(0, count - 1) or (last and not count):
                raise self._fault()
            sizes.append([*some, last] if count else [])
        kind = self._byte() if kind == _SIZES else kind
        # A folder of one part has told its CRC already.
        told = [len(some) == 1 and folder.crc is not None
                for folder, some in zip(folders, sizes, strict=True)]  # fmt: skip
        crcs: Iterator[int | None] = iter(())
        if kind == _CRCS:
            left = sum(len(some) for some, is_told in zip(sizes, told, strict=True) if not is_told)
            crcs = iter(self._crcs(left))
            kind = self._byte()
        if kind != _ENDS:
            raise self._fault()
        for folder, some, is_told in zip(folders, sizes, told, strict=True):
            folder.parts = [(size, folder.crc if is_told else next(crcs, None)) for size in some]

    # -- files ------------------------------------------------------------------------------------

    def _entries(self, folders: list[Folder]) -> list[SevenZipEntry]:
        count = self._count()
        empty, files, anti = [False] * count, b"", b""
        entries = [SevenZipEntry("") for _ in range(count)]
        while (kind := self._byte()) != _ENDS:
            size = self._number()
            rest = self._at + size
            if kind == _EMPTY:
                empty = self._bits(count)
            elif kind == _EMPTY_FILES:
                files = self._take(size)
            elif kind == _ANTI:
                anti = self._take(size)
            elif kind == _NAMES:
                self._names(entries, size)
            elif kind == _ATTRIBUTES:
                self._attributes(entries)
            else:  # times, padding
                self._take(size)
            if self._at != rest:
                raise self._fault()
        self._fill(entries, folders, empty, files, anti)
        return entries

    def _names(self, entries: list[SevenZipEntry], size: int) -> None:
        if size < 1 or self._byte():
            raise self._fault()
        try:
            text = self._take(size - 1).decode("utf-16-le")
        except UnicodeDecodeError:
            what = "a name is no valid UTF-16"
            raise refusal("archive_unsafe_name", what, self._where) from None
        names = text.split("\0")
        if len(names) != len(entries) + 1 or names[-1]:
            raise self._fault()
        for entry, name in zip(entries, names[:-1], strict=True):
            entry.name = name

    def _attributes(self, entries: list[SevenZipEntry]) -> None:
        given = self._given(len(entries))
        if self._byte():
            raise self._fault()
        for entry, is_given in zip(entries, given, strict=True):
            value = int.from_bytes(self._take(4), "little") if is_given else 0
            entry.is_folder = bool(value & _ATTRIBUTE_FOLDER)
            entry.is_link = bool(value & _ATTRIBUTE_LINK)
            entry.mode = value >> 16 if value & _ATTRIBUTE_UNIX else 0

    def _fill(
        self,
        entries: list[SevenZipEntry],
        folders: list[Folder],
        empty: list[bool],
        files: bytes,
        anti: bytes,
    ) -> None:
        """Give each entry its part, in order, or say what an entry without bytes is."""
        parts = iter([(n, *part) for n, folder in enumerate(folders) for part in folder.parts])
        seen = 0  # entries without bytes; the two lists of bits count only these
        for entry, is_empty in zip(entries, empty, strict=True):
            if is_empty:
                entry.is_folder = not _bit(files, seen)
                entry.is_anti = _bit(anti, seen)
                seen += 1
            elif (part := next(parts, None)) is None:
                raise self._fault()
            else:
                entry.folder, entry.size, entry.crc = part
        if next(parts, None) is not None:
            raise self._fault()


def _bit(packed: bytes, at: int) -> bool:
    return at >> 3 < len(packed) and bool(packed[at >> 3] & 0x80 >> (at & 7))
