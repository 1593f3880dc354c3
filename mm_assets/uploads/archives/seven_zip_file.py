"""Safe reading of a 7z from a local file: LZMA, LZMA2, bzip2, deflate or no compression.

The directory is checked whole before anything is handed out, as that of a zip is. What was packed
together is unpacked as a stream, so that memory is that of its dictionary, which has a limit.
Libraries that read 7z take the numbers of a hostile directory at their word, or are in C; what
unpacks is Python's own.
"""

from __future__ import annotations

import bz2
import io
import lzma
import stat
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

from mm_assets.contract.errors import UploadError
from mm_assets.uploads.archives.inflate import Inflate, Stored, Unpacker
from mm_assets.uploads.archives.rules import (
    CHUNK,
    MAXIMUM_DICTIONARY,
    Archive,
    Caps,
    PieceStream,
    check_entry_size,
    check_head,
    check_names,
    check_total,
    refusal,
)
from mm_assets.uploads.archives.seven_zip_directory import (
    Coder,
    Folder,
    Listing,
    SevenZipEntry,
    check_directory_size,
    is_packed,
    read_listing,
    read_packed,
    read_start,
    unreadable,
)

_COPY, _LZMA, _LZMA2, _DEFLATE, _BZIP2 = b"\0", b"\3\1\1", b"\x21", b"\4\1\x08", b"\4\2\2"
_ENCRYPTED = b"\6\xf1\7\1"
_DELTA = b"\3"
_BRANCHES = {
    b"\3\3\1\3": lzma.FILTER_X86, b"\4": lzma.FILTER_X86, b"\5": lzma.FILTER_POWERPC,
    b"\3\3\2\5": lzma.FILTER_POWERPC, b"\6": lzma.FILTER_IA64, b"\3\3\4\1": lzma.FILTER_IA64,
    b"\7": lzma.FILTER_ARM, b"\3\3\5\1": lzma.FILTER_ARM, b"\x08": lzma.FILTER_ARMTHUMB,
    b"\3\3\7\1": lzma.FILTER_ARMTHUMB, b"\x09": lzma.FILTER_SPARC, b"\3\3\x08\5": lzma.FILTER_SPARC,
}  # fmt: skip


class SevenZipArchive(Archive):
    """A 7z whose directory is sound. Raises UploadError with an archive_* code."""

    kind = "7z"

    def __init__(self, file: BinaryIO, file_size: int, where: str, caps: Caps) -> None:
        self._file = file
        self._where = where
        self._caps = caps
        listing = _read_directory(file, file_size, where, caps)
        _check_kinds(listing.entries, where)
        check_names(listing.entries, where, caps)
        total = 0
        for folder in listing.folders:
            _unpacker(folder, where)  # so that what is not accepted is known now
            check_total(folder.size, folder.packed, where, caps)
            total += folder.size
        for entry in listing.entries:
            check_entry_size(entry, where, caps)
        check_total(total, sum(folder.packed for folder in listing.folders), where, caps)
        self._folders = listing.folders
        self._entries = [entry for entry in listing.entries if not entry.is_folder]

    @property
    def names(self) -> list[tuple[str, int]]:
        return [(entry.name, entry.size) for entry in self._entries]

    def entries(self) -> Iterator[tuple[str, BinaryIO]]:
        number, source = -1, None
        for entry in self._entries:
            if entry.folder is None:
                yield entry.name, io.BytesIO()
                continue
            while source is None or number < entry.folder:
                if source is not None:
                    source.finish()
                number += 1
                source = FolderSource(self._file, self._folders[number], self._where)
            stream = _EntryStream(source, entry, self._where, self._caps)
            yield entry.name, cast("BinaryIO", stream)
            while stream.read(CHUNK):
                pass
        if source is not None:
            source.finish()


def _read_directory(file: BinaryIO, file_size: int, where: str, caps: Caps) -> Listing:
    data, end = read_start(file, file_size, where)
    if not data:
        return Listing([], [])
    for _ in range(4):
        if not is_packed(data):
            return read_listing(data, end, where, caps)
        folder = read_packed(data, end, where, caps)
        check_directory_size(folder.size, where)
        source = FolderSource(file, folder, where)
        data = b"".join(iter(lambda: source.read(CHUNK), b""))  # noqa: B023  used at once
        source.finish()
        if folder.crc is not None and zlib.crc32(data) != folder.crc:
            raise refusal("archive_corrupt", "the checksum of its directory is wrong", where)
        if not data:
            break
    raise unreadable("its directory cannot be read", where)


def _check_kinds(entries: list[SevenZipEntry], where: str) -> None:
    for entry in entries:
        kind = stat.S_IFMT(entry.mode)
        if kind == stat.S_IFLNK or entry.is_link:
            raise refusal("archive_special_file", "a symbolic link", where, entry.name)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or entry.is_anti:
            what = "neither a file nor a folder"
            raise refusal("archive_special_file", what, where, entry.name)
        if entry.is_folder != (kind == stat.S_IFDIR if kind else entry.is_folder) or (
            entry.is_folder and entry.folder is not None
        ):
            what = "a folder by one sign and a file by another"
            raise refusal("archive_special_file", what, where, entry.name)
        if entry.is_folder:
            entry.name = entry.name.removesuffix("/") + "/"
        elif entry.name.endswith("/"):
            raise refusal("archive_unsafe_name", "a file named as a folder", where, entry.name)


# -- the bytes of what was packed together --------------------------------------------------------


def _unpacker(folder: Folder, where: str) -> tuple[Unpacker, bool]:
    """What unpacks a folder, and whether its data says by itself where it ends."""
    first, *filters = folder.coders
    for coder in folder.coders:
        if coder.method == _ENCRYPTED:
            raise refusal("archive_encrypted", "the archive has a password", where)
    if first.method == _LZMA2 and len(first.parameters) == 1:
        chain: list[dict[str, Any]] = [_filter(coder, where) for coder in reversed(filters)]
        chain.append({"id": lzma.FILTER_LZMA2, "dict_size": _lzma2_dictionary(first, where)})
        return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=chain), True
    if filters:
        raise _not_accepted(filters[0], where)
    if first.method == _LZMA and len(first.parameters) == 5:
        return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[_lzma(first, where)]), False
    if first.method == _COPY:
        return Stored(), False
    if first.method == _BZIP2:
        return bz2.BZ2Decompressor(), True
    if first.method == _DEFLATE:
        return Inflate(), True
    raise _not_accepted(first, where)


_OTHER_METHODS = {
    b"\x03\x04\x01": "PPMd", b"\x03\x03\x01\x1b": "BCJ2", b"\x04\xf7\x11\x01": "Zstandard",
    b"\x04\xf7\x11\x02": "Brotli", b"\x04\xf7\x11\x04": "LZ4", b"\x04\x01\x09": "Deflate64",
}  # fmt: skip


def _not_accepted(coder: Coder, where: str) -> UploadError:
    name = _OTHER_METHODS.get(coder.method, f"method {coder.method.hex()}")
    what = f"compression by {name} is not accepted"
    return refusal("archive_compression", what, where)


def _filter(coder: Coder, where: str) -> dict[str, Any]:
    if coder.method == _DELTA and len(coder.parameters) == 1:
        return {"id": lzma.FILTER_DELTA, "dist": coder.parameters[0] + 1}
    if coder.method in _BRANCHES and not coder.parameters:
        return {"id": _BRANCHES[coder.method]}
    raise _not_accepted(coder, where)


def _lzma(coder: Coder, where: str) -> dict[str, Any]:
    rest, context = divmod(coder.parameters[0], 9)
    position, literal = divmod(rest, 5)
    if position > 4 or context + literal > 4:
        raise refusal("archive_corrupt", "no parameters of LZMA", where)
    stated = int.from_bytes(coder.parameters[1:], "little")
    return {"id": lzma.FILTER_LZMA1, "lc": context, "lp": literal, "pb": position,
            "dict_size": _dictionary(stated, coder, where)}  # fmt: skip


def _lzma2_dictionary(coder: Coder, where: str) -> int:
    code = coder.parameters[0]
    if code > 40:
        raise refusal("archive_corrupt", "no parameters of LZMA2", where)
    stated = 0xFFFF_FFFF if code == 40 else (2 | code & 1) << (code // 2 + 11)
    return _dictionary(stated, coder, where)


def _dictionary(stated: int, coder: Coder, where: str) -> int:
    """No more than there is to look back on, however much the archive asks for."""
    needed = max(4096, min(stated, coder.size))
    if needed > MAXIMUM_DICTIONARY:
        what = (
            f"it needs a dictionary of {needed:,} bytes; {MAXIMUM_DICTIONARY:,} are accepted "
            "(in 7-Zip: the normal level)"
        )
        raise refusal("archive_compression", what, where)
    return needed


class FolderSource:
    """The unpacked bytes of a folder from start to end, never more than the directory says."""

    def __init__(self, file: BinaryIO, folder: Folder, where: str) -> None:
        self._file = file
        self._folder = folder
        self._where = where
        self._unpacker, self._marked = _unpacker(folder, where)
        self._at = folder.at
        self._end = folder.at + folder.packed
        self._left = folder.size

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; none only at the end. Raises UploadError when it ends too early."""
        wanted = min(size, self._left)
        piece = b""
        while wanted and not piece:
            piece = self._step(wanted)
            if not piece and (self._unpacker.eof or self._is_dry):
                raise self._corrupt("the data holds less than the directory says")
        self._left -= len(piece)
        return piece

    def finish(self) -> None:
        """Raises UploadError unless everything was read, and the data ends there."""
        if self._left:
            raise self._corrupt("the data holds more than the directory says")
        while self._marked and not self._unpacker.eof and not self._is_dry:
            if self._step(1):
                raise self._corrupt("the data holds more than the directory says")
        if self._marked and not self._unpacker.eof:
            raise self._corrupt("the data does not end where it should")
        if self._at < self._end and (self._marked or isinstance(self._unpacker, Stored)):
            raise self._corrupt("bytes lie behind the end of the data")
        if self._unpacker.unused_data:
            raise self._corrupt("bytes lie behind the end of the data")

    @property
    def _is_dry(self) -> bool:
        return self._at == self._end and self._unpacker.needs_input

    def _step(self, most: int) -> bytes:
        data = b""
        if self._unpacker.needs_input and self._at < self._end:
            whole = isinstance(self._unpacker, Stored)
            self._file.seek(self._at)
            data = self._file.read(min(most if whole else CHUNK, self._end - self._at))
            self._at += len(data)
        try:
            return self._unpacker.decompress(data, most)
        except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError) as error:
            raise self._corrupt(f"the data does not unpack: {error}") from None

    def _corrupt(self, what: str) -> UploadError:
        return refusal("archive_corrupt", what, self._where)


class _EntryStream(PieceStream):
    """The bytes of one entry, which come next in its folder; verified at the end."""

    def __init__(self, source: FolderSource, entry: SevenZipEntry, where: str, caps: Caps) -> None:
        super().__init__()
        self._source = source
        self._entry = entry
        self._left = entry.size
        self._crc = 0
        self._where = where
        self._caps = caps

    def _next(self) -> bytes:
        first = self._left == self._entry.size
        piece = self._source.read(min(self._left, CHUNK))
        while first and 0 < len(piece) < min(512, self._entry.size):  # enough to tell an archive
            piece += self._source.read(self._entry.size - len(piece))
        if first and piece:
            check_head(piece, self._entry.name, self._where, self._caps)
        self._left -= len(piece)
        self._crc = zlib.crc32(piece, self._crc)
        if not piece and self._entry.crc not in (None, self._crc):
            raise refusal("archive_corrupt", "the checksum is wrong", self._where, self._entry.name)
        return piece
