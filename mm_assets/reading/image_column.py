"""Which file the cell of an image column means, among the files of one upload.

People write `IMG_1000.jpg`, `images\\IMG_1000.JPG`, `/home/ada/data/images/IMG_1000.jpg` or
`IMG_1000`. A cell means a file if one of the two paths ends with the other; so a folder that only
the cell or only the upload has does not matter, and a folder that differs does. As it is written
comes first, then without regard to case, then without the ending. What could mean two files means
none of them.
"""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

LISTED = "\x1f"  # between the paths of a list, which stood in one cell of a Parquet file
MOST_NAMED = 5  # of several files that a cell could mean


@dataclass(frozen=True)
class Ambiguous:
    """A cell that could mean each of these files."""

    files: tuple[str, ...]

    @property
    def words(self) -> str:
        shown = " or ".join(self.files[:MOST_NAMED])
        return f"{shown}{' or others' if len(self.files) > MOST_NAMED else ''}"


class ImageFiles:
    """The image files of an upload, by whatever a cell may call them."""

    def __init__(self, files: Iterable[str]) -> None:
        """files: paths in the upload, '/' between folders."""
        self._ways = [_Way(key) for key in _KEYS]
        for file in files:
            for way in self._ways:
                way.add(file)

    def meant(self, cell: str, table: str) -> str | Ambiguous | None:
        """The file that a cell of this table means; None if none does.

        cell: a name or path. table: the table's own path in the upload, for paths from there.
        """
        for way in self._ways:
            if found := way.find(cell, posixpath.dirname(table)):
                return found[0] if len(found) == 1 else Ambiguous(found)
        return None


def key_of(path: str) -> str:
    """What is equal of a file and of every cell that means it: the name, without its ending."""
    return _without_ending(path).rpartition("/")[2]


def same_path(path: str) -> str:
    """Paths that are equal in this are the same place."""
    return _folded(path)


def cells_of(text: str | None, separator: str | None, missing: frozenset[str]) -> list[str]:
    """What a cell names, one after the other; nothing where it stands for a missing value."""
    lists = (text or "").split(LISTED)
    parts = [part for one in lists for part in (one.split(separator) if separator else [one])]
    return [part.strip() for part in parts if part.strip() not in missing and part.strip()]


class _Way:
    """One way of reading paths: those that are equal in it are the same."""

    def __init__(self, key: Callable[[str], str]) -> None:
        self._key = key
        self._whole: dict[str, list[str]] = defaultdict(list)
        self._ends: dict[str, list[str]] = defaultdict(list)

    def add(self, file: str) -> None:
        key = self._key(file)
        self._whole[key].append(file)
        for end in _ends(key):
            self._ends[end].append(file)

    def find(self, cell: str, folder: str) -> tuple[str, ...]:
        key = self._key(cell)
        if not key:
            return ()
        beside = self._key(posixpath.join(folder, key))
        for exact in (beside, key):
            if exact in self._whole:
                return tuple(self._whole[exact])
        if key in self._ends:
            return tuple(self._ends[key])
        return next((tuple(self._whole[e]) for e in _ends(key) if e in self._whole), ())


def _ends(path: str) -> Sequence[str]:
    """The path without its first folder, without its first two, … the name alone."""
    parts = path.split("/")
    return ["/".join(parts[n:]) for n in range(1, len(parts))]


def _as_written(path: str) -> str:
    path = unicodedata.normalize("NFC", path.strip().replace("\\", "/"))
    return re.sub(r"^(\.\./)+", "", posixpath.normpath(path).lstrip("/")) if path else ""


def _folded(path: str) -> str:
    return _as_written(unquote(path)).casefold()


def _without_ending(path: str) -> str:
    """Only where the ending is one of a file; `v1.2` has none."""
    root, ending = posixpath.splitext(_folded(path))
    return root if ending[1:].isalpha() or ending[1:] in ("jp2", "jpeg2") else _folded(path)


_KEYS = (_as_written, _folded, _without_ending)
