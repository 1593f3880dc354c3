"""Which kind of archive a file is, told by its bytes and never by its name; and opening it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO

from mm_assets.reading.compressed import compression_of, unpack
from mm_assets.reading.table import TableRefused
from mm_assets.uploads.archives.rules import CAPS, Archive, Caps, is_office_file, refusal
from mm_assets.uploads.archives.seven_zip_directory import MAGIC
from mm_assets.uploads.archives.seven_zip_file import SevenZipArchive
from mm_assets.uploads.archives.tar_directory import BLOCK, is_tar
from mm_assets.uploads.archives.tar_file import TarArchive
from mm_assets.uploads.archives.zip_file import ZipArchive

_ZIP = (b"PK\3\4", b"PK\5\6")
_EMPTY_TAR = bytes(2 * BLOCK)
_TAR_SUFFIX = {None: ".tar", "gzip": ".tar.gz", "bzip2": ".tar.bz2", "xz": ".tar.xz",
               "zstd": ".tar.zst"}  # fmt: skip
# What an archive in the inbox is called. Only for telling uploads from other files there.
SUFFIXES = (".zip", ".7z", *_TAR_SUFFIX.values(), ".tgz", ".tbz2", ".tbz", ".txz", ".tzst")
_OTHERS = {
    b"Rar!\x1a\x07": "a RAR archive", b"MSCF\0\0\0\0": "a CAB archive",
    b"\x04\x22\x4d\x18": "LZ4 data", b"\x1f\x9d": "data of `compress` (.Z)", b"LZIP": "lzip data",
}  # fmt: skip


def open_archive(source: Path | bytes, *, where: str, caps: Caps = CAPS) -> Archive:
    """Check the whole directory of an archive; of a tar, all of it. To be used in a `with`.

    source: a local file, or the bytes of one. What is no archive at all is refused as a zip would
    be. Raises UploadError with an archive_* code.
    """
    file, size = _opened(source)
    try:
        head = file.read(2 * BLOCK)
        if head.startswith(MAGIC):
            return SevenZipArchive(file, size, where, caps)
        if compression := compression_of(head):
            return TarArchive(file, size, compression, where, caps)
        if is_tar(head) or head == _EMPTY_TAR:
            return TarArchive(file, size, None, where, caps)
        for magic, what in _OTHERS.items():
            if head.startswith(magic):
                raise refusal("archive_unreadable", f"{what} is not read here: send a zip", where)
        return ZipArchive(file, size, where, caps)
    except BaseException:
        file.close()
        raise


def _opened(source: Path | bytes) -> tuple[BinaryIO, int]:
    if isinstance(source, bytes):
        return io.BytesIO(source), len(source)
    return source.open("rb"), source.stat().st_size


def suffix_of(source: Path | bytes, name: str) -> str | None:
    """`.zip`, `.7z`, `.tar`, `.tar.gz` … if it is an archive by its bytes, else None.

    A document is none (`name`: what it is called), although most are zips; nor is one compressed
    file.
    """
    file, _ = _opened(source)
    with file:
        head = file.read(2 * BLOCK)
        if head.startswith(MAGIC):
            return ".7z"
        if head.startswith(_ZIP):
            return None if is_office_file(name, head) else ".zip"
        compression = compression_of(head)
        if compression:
            file.seek(0)
            head = _first_bytes(file, compression)
        return _TAR_SUFFIX[compression] if is_tar(head) else None


def _first_bytes(file: BinaryIO, compression: str) -> bytes:
    """The first block of what is compressed; less if it cannot be unpacked."""
    found = b""
    try:
        for piece in unpack(file, compression):
            found += piece
            if len(found) >= BLOCK:
                break
    except TableRefused:
        pass
    return found


def without_suffix(name: str) -> str:
    """An archive's name without the ending that says what it is."""
    longest_first = sorted(SUFFIXES, key=len, reverse=True)
    ending = next((one for one in longest_first if name.lower().endswith(one)), "")
    return name[: len(name) - len(ending)]
