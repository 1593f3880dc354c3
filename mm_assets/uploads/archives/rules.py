"""What is asked of every archive, whatever its format: names, sizes, and how it is refused.

Names are handed out as the archive holds them; nothing is rewritten to fit.
"""

from __future__ import annotations

import io
import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol, Self

from mm_assets.contract.errors import REFUSED_ARCHIVES, UploadError

CHUNK = 256 << 10
RATIO_FROM = 1 << 20  # bytes unpacked before the ratio of an entry is judged
TOTAL_RATIO_FROM = 64 << 20  # and that of what is packed together: many small bombs are one
MAXIMUM_DICTIONARY = 64 << 20  # of LZMA: that much memory
LONGEST_NAME = 4096  # bytes

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
_FINDERS_ICON = re.compile(r"(^|/)(\._)?Icon\r$")  # what macOS keeps a folder's own icon in
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class Caps:
    """The most an archive may hold. `ratio`: bytes out to bytes in, of an entry and of all.

    inside: it may hold archives, which are opened as well. bomb_bytes: what it may unpack into
    besides, where it is part of something that is judged as a whole.
    """

    entries: int = 200_000
    entry_bytes: int = 2 << 30
    total_bytes: int = 200 << 30
    ratio: int = 200
    inside: bool = True
    bomb_bytes: int = 200 << 30


CAPS = Caps()


class Entry(Protocol):
    """A file or a folder in an archive, as its directory states it."""

    @property
    def name(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def is_folder(self) -> bool: ...


class Archive(ABC):
    """An archive whose directory is sound; made by `open_archive`, used by one thread.

    kind: zip, tar or 7z.
    """

    kind: str
    _file: BinaryIO

    @property
    @abstractmethod
    def names(self) -> list[tuple[str, int]]:
        """Each file's name and unpacked size, in the order in which they lie in the archive."""

    @abstractmethod
    def entries(self) -> Iterator[tuple[str, BinaryIO]]:
        """Each file in order, as (name, stream). A stream lives until the next one is asked for.

        What the reader leaves unread is read and verified too. Raises UploadError as soon as the
        bytes do not agree with the directory, and at the latest at the end of the entry.
        """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()


def refusal(code: str, what: str, where: str, name: str | None = None) -> UploadError:
    place = where if name is None else f"{where}, entry {name[:200]!a}"
    return UploadError(code=code, what=what, where=place, todo=REFUSED_ARCHIVES[code])


# -- names ----------------------------------------------------------------------------------------


def name_fault(name: str) -> str | None:
    """Why no file may be named so, in words, or None."""
    if _CONTROL.search(_FINDERS_ICON.sub("", name)):
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
    if len(name) > 1000 and len(name.encode()) > LONGEST_NAME:
        return f"the name is longer than {LONGEST_NAME:,} bytes"
    return None


def _folded(name: str) -> str:
    """The name as a file system that ignores case and Unicode form compares it."""
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def check_names(entries: Sequence[Entry], where: str, caps: Caps) -> None:
    """Raises UploadError for a name that is unsafe, is an archive's, or is there twice."""
    seen: dict[str, str] = {}
    folders: set[str] = set()
    for entry in entries:
        name = entry.name
        if fault := name_fault(name):
            raise refusal("archive_unsafe_name", fault, where, name)
        if not caps.inside and _NESTED_NAME.search(name):
            what = "an archive in an archive that lies in an archive"
            raise refusal("archive_nested", what, where, name)
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


def is_office_file(name: str, head: bytes) -> bool:
    """Whether a zip by its bytes is a document, which is no archive to people."""
    return bool(_OFFICE_NAME.search(name) or _OFFICE_MAGIC.match(head))


def check_head(head: bytes, name: str, where: str, caps: Caps) -> None:
    """Raises UploadError where a file's first bytes are those of an archive, and none may be."""
    if not caps.inside and _NESTED_MAGIC.match(head) and not is_office_file(name, head):
        what = "an archive in an archive that lies in an archive, by its first bytes"
        raise refusal("archive_nested", what, where, name)


# -- sizes ----------------------------------------------------------------------------------------


def check_entry_size(entry: Entry, where: str, caps: Caps) -> None:
    if entry.size > caps.entry_bytes:
        what = f"{entry.size:,} bytes; an entry may hold {caps.entry_bytes:,}"
        raise refusal("archive_too_large", what, where, entry.name)


def check_count(count: int, where: str, caps: Caps) -> None:
    if count > caps.entries:
        what = f"{count:,} entries; at most {caps.entries:,} are accepted"
        raise refusal("archive_too_large", what, where)


def check_total(total: int, packed: int, where: str, caps: Caps) -> None:
    """Of what was packed together: all of an archive, or a part of it."""
    if total > caps.total_bytes:
        what = f"{total:,} bytes; an archive may hold {caps.total_bytes:,}"
        raise refusal("archive_too_large", what, where)
    if total > min(max(TOTAL_RATIO_FROM, caps.ratio * packed), caps.bomb_bytes):
        raise refusal("archive_bomb", f"{packed:,} bytes unpack into {total:,}", where)


# -- streams --------------------------------------------------------------------------------------


class PieceStream(io.RawIOBase):
    """A stream of what `_next` gives piece by piece; b"" is the end."""

    def __init__(self) -> None:
        super().__init__()
        self._ahead = b""

    def _next(self) -> bytes:
        raise NotImplementedError

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
        wanted = -1 if size is None else size
        parts: list[bytes] = []
        while wanted and (piece := self._ahead or self._next()):
            parts.append(piece if wanted < 0 else piece[:wanted])
            self._ahead = piece[len(parts[-1]) :]
            wanted -= len(parts[-1]) if wanted > 0 else 0
        return parts[0] if len(parts) == 1 else b"".join(parts)
