"""The files of one upload, one after another, whatever it came as.

An archive is first streamed to local disk, so that what is checked is what is read; a folder's
files are fetched side by side, a bounded number of bytes ahead. Archives among the files are opened
as well. Memory does not depend on the size.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from mm_assets.contract.errors import LakeError, UploadError
from mm_assets.lake.lake import Lake, LakeObject
from mm_assets.lake.layout import INBOX_NOTE, MARKER, SIZE_MARKER, inbox, of_upload, received
from mm_assets.uploads.archives.opening import open_archive
from mm_assets.uploads.delivered import IN_MEMORY, Delivered, take_member
from mm_assets.uploads.find import UNSAFE, Source, announced_files, folder_identity, printable
from mm_assets.uploads.inside import archives_opened
from mm_assets.uploads.webdataset import samples_gathered

__all__ = ["IN_MEMORY", "Delivered", "delivery", "take_member"]

FETCHES = 16


@contextmanager
def delivery(lake: Lake, source: Source, workdir: Path) -> Iterator[Iterator[Delivered]]:
    """The files of an upload. Raises UploadError when the upload as a whole is refused."""
    opener = _folder_delivery if source.kind == "folder" else _archive_delivery
    with opener(lake, where_it_is(lake, source), workdir) as files:
        yield files


def where_it_is(lake: Lake, source: Source) -> Source:
    """The source itself, or where it was moved to; then nobody but us writes there: no ETag."""
    note = lake.read_json(of_upload(source.dataset, source.upload, INBOX_NOTE))
    if note is None or not note["moved"]:
        return source
    place = received(source.dataset, source.name, source.upload)
    key = place if source.kind == "folder" else place + source.name
    return replace(source, key=key, etag="")


def _superseded(lake: Lake, source: Source) -> UploadError:
    return UploadError(
        code="upload_superseded",
        what="the inbox no longer holds what this upload was when it was found",
        where=f"{lake.url}/{source.key}",
        todo="Nothing, if it was sent again under the same name: that is an upload of its own. "
        "Otherwise send it again.",
    )


@contextmanager
def _archive_delivery(lake: Lake, source: Source, workdir: Path) -> Iterator[Iterator[Delivered]]:
    local = workdir / "upload.archive"
    if not _holds(lake, source):
        raise _superseded(lake, source)
    with _staying(lake, source):
        lake.fetch(source.key, local)
    if not _holds(lake, source) or local.stat().st_size != source.size:
        raise _superseded(lake, source)
    # Named as it was sent, so that a receipt does not hang on where the archive lies by now.
    with open_archive(local, where=f"{inbox(source.dataset)}{source.name}") as archive:
        members = (take_member(name, stream, workdir) for name, stream in archive.entries())
        samples = samples_gathered(archive, members, workdir)
        yield archives_opened(samples, workdir, archive_size=source.size)


@contextmanager
def _staying(lake: Lake, source: Source) -> Iterator[None]:
    """What goes while it is read was replaced, or moved by another run of the same upload."""
    try:
        yield
    except LakeError as error:
        if error.code != "lake_not_found":
            raise
        raise _superseded(lake, source) from None


def _holds(lake: Lake, source: Source) -> bool:
    """Whether the source still is what it was when it was found.

    The same bytes sent again are another delivery. On S3 they have the same ETag, so that only
    the time tells; to the second, because not every server says it more exactly each time.
    """
    if source.kind != "folder":
        now = lake.stat(source.key)
        etag = now.etag if now else ""
    else:
        now = lake.stat(source.key + MARKER) or lake.stat(source.key + SIZE_MARKER)
        etag = folder_identity(lake, source.key) if source.etag else ""
    if now is None or not source.etag:
        return now is not None
    arrived = datetime.fromisoformat(source.arrived_at)
    return (etag, int(now.modified.timestamp())) == (source.etag, int(arrived.timestamp()))


@contextmanager
def _folder_delivery(lake: Lake, source: Source, workdir: Path) -> Iterator[Iterator[Delivered]]:
    # sha256 announced by the marker, or None where the marker only counts
    if not _holds(lake, source):
        raise _superseded(lake, source)
    announced: dict[str, tuple[int, str]] | None = None
    if (document := lake.stat(source.key + MARKER)) is not None:
        with _staying(lake, source):
            marker = lake.read(document.key)
        announced = announced_files(json.loads(marker))
    with ThreadPoolExecutor(FETCHES, thread_name_prefix="fetch") as pool:
        files = _fetch_folder(lake, source, workdir, announced, pool)
        yield archives_opened(files, workdir)
    if not _holds(lake, source):
        raise _superseded(lake, source)


def _fetch_folder(
    lake: Lake,
    source: Source,
    workdir: Path,
    announced: dict[str, tuple[int, str]] | None,
    pool: ThreadPoolExecutor,
) -> Iterator[Delivered]:
    ahead: deque[tuple[int, Future[Delivered]]] = deque()
    in_flight = 0
    gone = dict(announced or {})
    for item in lake.list(source.key):
        name = item.key[len(source.key) :]
        if name in ("", MARKER, SIZE_MARKER) or name.endswith("/"):
            continue
        gone.pop(name, None)
        while ahead and (in_flight + item.size > IN_MEMORY or len(ahead) >= 4 * FETCHES):
            size, future = ahead.popleft()
            in_flight -= size
            yield future.result()
        ahead.append((item.size, pool.submit(_fetch, lake, item, name, workdir, announced)))
        in_flight += item.size
    for _, future in ahead:
        yield future.result()
    for name, (size, sha256) in gone.items():
        reason = f"{MARKER} announces it, but it was deleted"
        yield Delivered(printable(name), size, sha256, b"", "checksum_differs", reason)


def _fetch(
    lake: Lake,
    item: LakeObject,
    name: str,
    workdir: Path,
    announced: dict[str, tuple[int, str]] | None,
) -> Delivered:
    if UNSAFE.search(name):
        reason = "the name is not a plain path"
        return Delivered(printable(name), item.size, "", b"", "unsafe_name", reason)
    content: bytes | Path
    try:
        if item.size <= IN_MEMORY:
            content = lake.read(item.key)
            sha256, size = hashlib.sha256(content).hexdigest(), len(content)
        else:
            content = workdir / f"large-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
            sha256 = lake.fetch(item.key, content)
            size = content.stat().st_size
    except LakeError as error:
        if error.code == "lake_not_found":
            return Delivered(name, item.size, "", b"", "checksum_differs", "it was deleted")
        raise
    if announced is not None:
        if name not in announced:
            reason = f"{MARKER} does not name this file"
            return Delivered(name, size, sha256, b"", "not_announced", reason)
        if announced[name] != (size, sha256):
            reason = f"its size or sha256 is not what {MARKER} announces"
            return Delivered(name, size, sha256, b"", "checksum_differs", reason)
    return Delivered(name, size, sha256, content)
