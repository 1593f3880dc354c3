"""Which uploads in the inbox are finished.

An archive is finished when it is there. A folder is finished when its marker holds: `upload.json`
names every file with size and sha256; `upload_size.json` says how many files there are. A finished
upload has a key: short, safe, sorted by the time of arrival, and different for each delivery.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Container
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from mm_assets.contract.errors import LakeError, UploadError
from mm_assets.lake.lake import Lake, LakeObject
from mm_assets.lake.layout import MARKER, SIZE_MARKER, inbox, of_upload
from mm_assets.uploads.archives.opening import SUFFIXES

# By its name: it tells uploads from other files. What an archive is, its bytes say.
Kind = Literal["zip", "tar", "7z", "folder"]
# No key with such a part can be read: control characters, backslashes, '', '.', '..', no Unicode.
UNSAFE = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]|(^|/)(\.\.?)?(/|$)")


@dataclass(frozen=True, slots=True)
class Source:
    """One finished upload: where its bytes came in. message: the ID of the one that named it."""

    upload: str
    dataset: str
    name: str
    kind: Kind
    key: str
    etag: str
    size: int
    arrived_at: str
    message: str = ""

    def as_dict(self) -> dict[str, Any]:
        told = {name: getattr(self, name) for name in self.__slots__}
        return told if self.message else {n: v for n, v in told.items() if n != "message"}


@dataclass(frozen=True, slots=True)
class Waiting:
    """A folder whose marker does not hold yet, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Found:
    """Finished uploads by key, and folders that are not finished.

    `after`: where the next look goes on, when there were more folders than one look takes.
    """

    finished: list[Source]
    waiting: list[Waiting]
    after: str = ""


def upload_key(modified: datetime, *identity: object) -> str:
    """`20261121-101530123-1f0c9a2b3c`: time of arrival, then a hash of what identifies it."""
    digest = hashlib.sha256("\x00".join(map(str, identity)).encode("utf-8", "surrogatepass"))
    stamp = f"{modified:%Y%m%d-%H%M%S}{modified.microsecond // 1000:03d}"
    return f"{stamp}-{digest.hexdigest()[:10]}"


def find_uploads(
    lake: Lake,
    dataset: str,
    known: Container[str] = frozenset(),
    *,
    after: str = "",
    at_most: int | None = None,
) -> Found:
    """Look once through the inbox of a dataset.

    `known` holds the keys of uploads that need no second look (the size of a known folder is
    given as 0). What a look costs depends on how
    many uploads lie in the inbox, not on how many files they have: one request for each 1,000
    archives and folders, one for each folder, and a listing of each folder whose marker is new. Of
    the folders it takes `at_most`, those behind `after`, going round.
    """
    objects, names = lake.top(inbox(dataset))
    finished: list[Source] = []
    waiting: list[Waiting] = []
    for item in objects:
        name = item.key[len(inbox(dataset)) :]
        if not name:
            continue  # the placeholder that consoles make for an empty folder
        _add(_of_object(dataset, name, item), finished, waiting)
    ordered = sorted(names)
    behind = [name for name in ordered if name > after]
    chosen = [*behind, *ordered[: len(ordered) - len(behind)]][:at_most]
    for name in chosen:
        _add(_of_folder(lake, dataset, name, known), finished, waiting)
    rest = chosen[-1] if len(chosen) < len(ordered) else ""
    return Found(sorted(finished, key=lambda s: s.upload), waiting, rest)


def look_at(lake: Lake, dataset: str, name: str, *, folder: bool) -> Source | Waiting | None:
    """What lies in the inbox under one name now; None if nothing does."""
    if folder:
        return _of_folder(lake, dataset, name, frozenset())
    item = None if UNSAFE.search(name) else lake.stat(inbox(dataset) + name)
    return _of_object(dataset, name, item) if item else None


def _add(found: Source | Waiting | None, finished: list[Source], waiting: list[Waiting]) -> None:
    if isinstance(found, Source):
        finished.append(found)
    elif found is not None:
        waiting.append(found)


def _unsafe(name: str) -> Waiting:
    reason = "rename it: no empty name, '.', '..', backslashes or control characters"
    return Waiting(printable(name), reason)


def _of_object(dataset: str, name: str, item: LakeObject) -> Source | Waiting | None:
    if UNSAFE.search(name):
        return _unsafe(name)
    if kind := _kind_by_name(name):
        return _source(dataset, name, kind, item, item.etag, item.size)
    if name in (".DS_Store", "README.md"):
        return None
    return Waiting(name, "not a .zip, .tar, .tar.gz or .7z, and not in a folder of its own")


def _kind_by_name(name: str) -> Kind | None:
    name = name.lower()
    if name.endswith(".zip"):
        return "zip"
    if name.endswith(".7z"):
        return "7z"
    return "tar" if name.endswith(SUFFIXES) else None


def _of_folder(
    lake: Lake, dataset: str, name: str, known: Container[str]
) -> Source | Waiting | None:
    if UNSAFE.search(name):
        return _unsafe(name)
    folder = f"{inbox(dataset)}{name}/"
    markers = {item.key[len(folder) :]: item for item in lake.list(folder, MARKER[:6])}
    marker = markers.get(MARKER) or markers.get(SIZE_MARKER)
    if marker is None:
        is_empty = all(item.key.endswith("/") for item in lake.list(folder))
        return None if is_empty else Waiting(name, f"no {MARKER} yet")
    if MARKER in markers:
        source = _source(dataset, name, "folder", marker, marker.etag, 0, folder)
        if source.upload in known:
            return source
    by_key = {
        item.key[len(folder) :]: item for item in lake.list(folder) if not item.key.endswith("/")
    }
    if MARKER not in by_key and SIZE_MARKER not in by_key:
        return Waiting(name, "the marker is gone")
    marker = by_key.get(MARKER) or by_key[SIZE_MARKER]
    size = sum(item.size for item in by_key.values())
    source = _source(dataset, name, "folder", marker, _identity(by_key, marker), size, folder)
    missing = None if source.upload in known else _missing(lake, by_key, marker)
    return source if missing is None else Waiting(name, missing)


def printable(name: str) -> str:
    """The name with whatever is not Unicode written as an escape."""
    return name.encode("utf-8", "backslashreplace").decode()


def register(lake: Lake, source: Source) -> None:
    """Note where an upload came in, so that its key alone is enough from now on."""
    lake.create_json(of_upload(source.dataset, source.upload, "source"), source.as_dict())


def read_source(lake: Lake, dataset: str, upload: str) -> Source:
    """The noted source of an upload. Raises UploadError if there is none."""
    document = lake.read_json(of_upload(dataset, upload, "source"))
    if document is None:
        raise UploadError(
            code="upload_unknown",
            what=f"there is no upload '{upload}' of dataset '{dataset}'",
            where=f"{lake.url}/{of_upload(dataset, upload, 'source')}",
            todo="Check the key and the dataset; `mm sync` looks for new uploads.",
        )
    return Source(**document)


def announced_files(document: Any) -> dict[str, tuple[int, str]]:
    """The files that an `upload.json` announces: name to (size in bytes, sha256).

    Raises ValueError, in words for a person, when the document is not of that shape.
    """
    files = document.get("files") if isinstance(document, dict) else None
    if not isinstance(files, list):
        raise ValueError('it needs "files": [{"name": …, "size": …, "sha256": …}, …]')
    announced: dict[str, tuple[int, str]] = {}
    for item in files:
        try:
            name, size, sha256 = item["name"], int(item["size"]), str(item["sha256"]).lower()
        except (TypeError, KeyError, ValueError, OverflowError):
            raise ValueError(f"this entry lacks name, size or sha256: {ascii(item)[:80]}") from None
        announced[str(name)] = (size, sha256)
    return announced


def _source(
    dataset: str,
    name: str,
    kind: Kind,
    item: LakeObject,
    etag: str,
    size: int,
    key: str | None = None,
) -> Source:
    return Source(
        upload=upload_key(item.modified, name, kind, etag),
        dataset=dataset,
        name=name,
        kind=kind,
        key=key or item.key,
        etag=etag,
        size=size,
        arrived_at=item.modified.isoformat(),
    )


def _identity(by_key: dict[str, LakeObject], marker: LakeObject) -> str:
    """What tells two deliveries in one folder apart: the marker, or all the files it counts."""
    if MARKER in by_key:
        return marker.etag
    digest = hashlib.sha256()
    for key, item in sorted(by_key.items()):
        digest.update(f"{key}\x00{item.size}\x00{item.etag}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def folder_identity(lake: Lake, folder: str) -> str:
    """The identity of a folder upload as it is now (for noticing that it changed meanwhile)."""
    by_key = {
        item.key[len(folder) :]: item for item in lake.list(folder) if not item.key.endswith("/")
    }
    marker = by_key.get(MARKER) or by_key.get(SIZE_MARKER)
    return _identity(by_key, marker) if marker else ""


def _missing(lake: Lake, by_key: dict[str, LakeObject], marker: LakeObject) -> str | None:
    """Why the marker does not hold yet, or None if it does."""
    try:
        document = json.loads(lake.read(marker.key))
    except LakeError as error:
        if error.code != "lake_not_found":
            raise
        return "the marker is gone"
    except (ValueError, RecursionError):
        return f"{marker.key.rpartition('/')[2]} is not JSON"
    if MARKER not in by_key:
        n_files = document.get("n_files") if isinstance(document, dict) else None
        if not isinstance(n_files, int) or isinstance(n_files, bool):
            return f'{SIZE_MARKER} needs {{"n_files": N}}'
        there = sum(name != SIZE_MARKER for name in by_key)
        return None if there == n_files else f"{there} of {n_files} announced files are there"
    try:
        announced = announced_files(document)
    except ValueError as error:
        return f"{MARKER}: {error}"
    absent = [
        name
        for name, (size, _) in announced.items()
        if name not in by_key or by_key[name].size != size
    ]
    if not absent:
        return None
    first = printable(absent[0])
    return f"{len(absent)} of {len(announced)} announced files are not there in full: {first}"
