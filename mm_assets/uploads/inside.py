"""Archives among the files of an upload: their files take their place.

An archive in a folder is opened, and so is one in an archive; what lies deeper is refused. One
that is refused is one refused file: it is read through before any file of it is handed out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from mm_assets.contract.errors import UploadError
from mm_assets.uploads.archives.opening import open_archive, suffix_of
from mm_assets.uploads.archives.rules import CAPS, CHUNK, TOTAL_RATIO_FROM, Archive, Caps
from mm_assets.uploads.clutter import clutter
from mm_assets.uploads.delivered import Delivered, take_member
from mm_assets.uploads.webdataset import samples_gathered

DEEPEST = 2  # archives around a file


def archives_opened(
    files: Iterable[Delivered],
    workdir: Path,
    *,
    archive_size: int | None = None,
    caps: Caps = CAPS,
) -> Iterator[Delivered]:
    """The files, and behind each archive (`holds`) its own, named `ARCHIVE/NAME`.

    archive_size: of the archive that all of them come from; None for a folder. `caps` hold for
    everything that is unpacked here together.
    """
    opening = _Opening(workdir, caps, archive_size)
    for file in files:
        yield from opening.of(file, 1 if archive_size is None else 2)


class _Opening:
    def __init__(self, workdir: Path, caps: Caps, archive_size: int | None) -> None:
        self._workdir = workdir
        self._caps = caps
        self._packed = archive_size or 0
        self._entries = self._bytes = 0

    def of(self, file: Delivered, depth: int) -> Iterator[Delivered]:
        """The file itself, or what is in it. depth: archives around its files."""
        if file.problem is not None or not file.size or clutter(file.name, file.head):
            yield file
            return
        if depth > DEEPEST or suffix_of(file.content, file.name) is None:
            yield file
            return
        try:
            yield from self._files(file, depth)
        finally:
            if isinstance(file.content, Path) and not file.keep:
                file.content.unlink(missing_ok=True)

    def _files(self, file: Delivered, depth: int) -> Iterator[Delivered]:
        if depth == 1:
            self._packed += file.size
        try:
            archive = open_archive(file.content, where=file.name, caps=self._left(depth))
        except UploadError as error:
            yield _refused(file, error)
            return
        with archive:
            try:
                _read_through(archive)
            except UploadError as error:
                yield _refused(file, error)
                return
            self._entries += len(archive.names)
            self._bytes += sum(size for _, size in archive.names)
            yield replace(file, content=b"", holds=len(archive.names))
            prefix = f"{file.name}/"
            members = (
                take_member(f"{prefix}{name}", stream, self._workdir)
                for name, stream in archive.entries()
            )
            for member in samples_gathered(archive, members, self._workdir, prefix):
                yield from self.of(member, depth + 1)

    def _left(self, depth: int) -> Caps:
        """What is left for the next one: of everything together, as of one archive."""
        allowed = max(TOTAL_RATIO_FROM, self._caps.ratio * self._packed)
        return replace(
            self._caps,
            entries=max(0, self._caps.entries - self._entries),
            total_bytes=max(0, self._caps.total_bytes - self._bytes),
            bomb_bytes=max(0, allowed - self._bytes),
            inside=depth < DEEPEST,
        )


def _read_through(archive: Archive) -> None:
    for _, stream in archive.entries():
        while stream.read(CHUNK):
            pass


def _refused(file: Delivered, error: UploadError) -> Delivered:
    place = error.where.removeprefix(file.name).removeprefix(", ")
    reason = f"{error.what} ({place})" if place else error.what
    return replace(file, content=b"", problem=error.code, reason=reason)
