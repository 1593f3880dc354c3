"""Safe reading of a tar, packed by gzip, bzip2, xz or Zstandard or not, from a local file.

It is gone through twice: once to see that every header, name and size in it is right and that it
ends as it should, before anything is handed out; and once to hand out. Nothing is unpacked to
disk. A tar holds no checksums of the data; those of its compression are verified.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, cast

from mm_assets.uploads.archives.rules import (
    CHUNK,
    Archive,
    Caps,
    PieceStream,
    check_count,
    check_entry_size,
    check_head,
    check_names,
    check_total,
    refusal,
)
from mm_assets.uploads.archives.tar_directory import TarEntry, TarSource, walk

_LONGEST_NAMES = 64 << 20  # characters of all names together


class TarArchive(Archive):
    """A tar that was read through once. Raises UploadError with an archive_* code.

    compression: gzip, bzip2, xz or zstd; None if it is not packed.
    """

    kind = "tar"

    def __init__(
        self, file: BinaryIO, file_size: int, compression: str | None, where: str, caps: Caps
    ) -> None:
        self._file = file
        self._size = file_size
        self._compression = compression
        self._where = where
        self._caps = caps
        self._names = self._check()

    @property
    def names(self) -> list[tuple[str, int]]:
        return self._names

    def entries(self) -> Iterator[tuple[str, BinaryIO]]:
        source = self._source()
        for entry in walk(source, self._where):
            if not entry.is_folder:
                stream = _EntryStream(source, entry, self._where, self._caps)
                yield entry.name, cast("BinaryIO", stream)
                while stream.read(CHUNK):
                    pass

    def _source(self) -> TarSource:
        return TarSource(self._file, self._size, self._compression, self._where, self._caps)

    def _check(self) -> list[tuple[str, int]]:
        found: list[TarEntry] = []
        total = letters = 0
        source = self._source()
        for entry in walk(source, self._where):
            found.append(entry)
            total += entry.size
            letters += len(entry.name)
            check_count(len(found), self._where, self._caps)
            check_entry_size(entry, self._where, self._caps)
            check_total(total, self._size, self._where, self._caps)
            if letters > _LONGEST_NAMES:
                what = f"the names are longer than {_LONGEST_NAMES:,} characters together"
                raise refusal("archive_too_large", what, self._where)
        check_names(found, self._where, self._caps)
        return [(entry.name, entry.size) for entry in found if not entry.is_folder]


class _EntryStream(PieceStream):
    """The bytes of one entry, which come next in the source."""

    def __init__(self, source: TarSource, entry: TarEntry, where: str, caps: Caps) -> None:
        super().__init__()
        self._source = source
        self._entry = entry
        self._left = entry.size
        self._where = where
        self._caps = caps

    def _next(self) -> bytes:
        if not self._left:
            return b""
        if self._left == self._entry.size:
            head = min(self._left, 512)  # all of what tells an archive, whatever the pieces are
            piece = self._source.exactly(head, self._entry.name[:200])
            check_head(piece, self._entry.name, self._where, self._caps)
        else:
            piece = self._source.read(min(self._left, CHUNK))
            if not piece:
                raise self._source.cut_short(self._entry.name[:200])
        self._left -= len(piece)
        return piece
