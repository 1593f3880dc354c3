"""Send a folder, an archive or a file into the inbox: `mm upload PATH --dataset D`.

The marker is written last, so that an upload is never seen half. Sending resumes without any note
on the sender's disk: what lies in the inbox already is compared with the local file, by size and
then by content; what was received and moved out of the inbox counts as sent. On S3 the ETag tells
(the MD5 of one put, or of the MD5s of its parts); in a folder the stored file is read and hashed.
An ETag that is no MD5 (a bucket with encryption keys of its own) means "differs", and the file is
sent again. An archive is one object and starts again.

A delivery is never mixed with another: files that this folder does not have, or a marker that
announces other content, make the name taken.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import threading
import uuid
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mm_assets.contract.errors import UploadError
from mm_assets.lake.lake import Lake, LakeObject
from mm_assets.lake.layout import MARKER, SIZE_MARKER, inbox, received
from mm_assets.lake.local import sha256_of, utc_now
from mm_assets.uploads.archives.opening import without_suffix
from mm_assets.uploads.check import (
    LocalFile,
    Progress,
    Report,
    archive_suffix,
    cannot_be_sent,
    check,
    empty_folder,
    kind_of,
    list_folder,
    no_progress,
    reading,
    safe_name,
)
from mm_assets.uploads.find import announced_files

__all__ = ["Progress", "Report", "Sent", "check", "safe_name", "send"]

THREADS = 8
PART = 5 << 20  # bytes; obstore sends anything larger in parts of this size


@dataclass(frozen=True, slots=True)
class Sent:
    """What `send` did. `already_there`: all of it was in the inbox, and nothing was sent."""

    kind: str
    name: str
    key: str
    files: int
    bytes: int
    files_sent: int
    bytes_sent: int
    already_there: bool
    left_out: list[str]


def send(
    lake: Lake,
    path: Path,
    dataset: str,
    name: str | None = None,
    progress: Progress = no_progress,
) -> Sent:
    """Put a folder, an archive or a file into the dataset's inbox; after an interruption, again.

    `progress` is called in the calling thread; when it raises, sending stops and can be resumed.
    Raises UploadError (`name_taken`: other content lies under this name) and LakeError.
    """
    kind = kind_of(path)
    chosen = _inbox_name(path, name, kind)
    if kind == "folder":
        return _FolderSending(lake, path, dataset, chosen, progress).run()
    return _send_archive(lake, path, dataset, chosen, kind, progress)


def _inbox_name(path: Path, name: str | None, kind: str) -> str:
    if name is None:
        return safe_name(path)
    given = name if kind == "folder" else without_suffix(name)
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}", given):
        raise UploadError(
            code="upload_name",
            what=f"{name!r} is no name for an upload",
            where="--name",
            todo="Use up to 100 letters, digits, '.', '_' and '-', and no '.' at the start.",
        )
    return given


def _name_taken(lake: Lake, key: str, what: str) -> UploadError:
    return UploadError(
        code="name_taken",
        what=what,
        where=f"{lake.url}/{key}",
        todo="Send it under another name: --name NAME.",
    )


def _newest_received(lake: Lake, dataset: str, name: str) -> str:
    """Where the newest upload of this name lies that was received, or ''."""
    uploads = lake.names(received(dataset, name))
    return received(dataset, name, uploads[-1]) if uploads else ""


def _send_archive(
    lake: Lake, path: Path, dataset: str, name: str, kind: str, progress: Progress
) -> Sent:
    file_name, size = name + archive_suffix(path), path.stat().st_size
    key = inbox(dataset) + file_name
    there = lake.stat(key)
    if there is not None and _comparison(lake, LocalFile(name, path, size), there) is None:
        raise _name_taken(lake, key, "the inbox holds another archive of this name")
    if there is None and (place := _newest_received(lake, dataset, file_name)):
        there = lake.stat(place + file_name)
        if there is not None and _comparison(lake, LocalFile(name, path, size), there) is None:
            there = None
        key = there.key if there is not None else key
    if there is None:
        _put_with_progress(lake, key, path, progress)
    progress(size, size, path.name)
    sent = there is None
    return Sent(kind, name, key, 1, size, int(sent), size * sent, not sent, [])


class _Meter:
    """Counts the bytes that several threads read."""

    def __init__(self) -> None:
        self.done = 0
        self._stopped = False
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        if self._stopped:
            raise InterruptedError("sending was stopped")
        with self._lock:
            self.done += count

    def stop(self) -> None:
        """Make every thread that reads on give up."""
        self._stopped = True


class _Reader(io.RawIOBase):
    """A local file that hashes and counts what is read of it, for one pass from start to end."""

    def __init__(self, file: io.BufferedReader, meter: _Meter) -> None:
        self._file = file
        self._meter = meter
        self.sha256 = hashlib.sha256()
        self.size = 0

    def read(self, size: int = -1, /) -> bytes:
        data = self._file.read(size)
        self.sha256.update(data)
        self.size += len(data)
        self._meter.add(len(data))
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


def _put(lake: Lake, key: str, data: Any) -> None:
    lake.write(key, data)  # obstore takes open files as well, in parts when they are large


def _put_with_progress(lake: Lake, key: str, path: Path, progress: Progress) -> None:
    meter, size = _Meter(), path.stat().st_size
    with path.open("rb") as file, ThreadPoolExecutor(1, thread_name_prefix="send") as pool:
        future = pool.submit(_put, lake, key, _Reader(file, meter))
        try:
            while wait([future], timeout=0.2).not_done:
                progress(min(meter.done, size), size, path.name)
        except BaseException:
            meter.stop()
            raise
        future.result()


def _comparison(lake: Lake, file: LocalFile, there: LakeObject) -> str | None:
    """The sha256 of the local file if the lake holds the same content, else None."""
    if there.size != file.size:
        return None
    sha256, whole, parts, n_parts = hashlib.sha256(), hashlib.md5(), hashlib.md5(), 0  # noqa: S324
    with file.path.open("rb") as stream:
        while data := stream.read(PART):
            n_parts += 1
            sha256.update(data)
            whole.update(data)
            parts.update(hashlib.md5(data).digest())  # noqa: S324  what S3 makes ETags of
    if lake.settings.is_s3:
        etags = (whole.hexdigest(), f"{parts.hexdigest()}-{n_parts}")
        return sha256.hexdigest() if there.etag in etags else None
    stored = hashlib.sha256()
    with lake.open(there.key) as stored_file:
        while data := stored_file.read(PART):
            stored.update(bytes(data))
    return sha256.hexdigest() if stored.digest() == sha256.digest() else None


class _FolderSending:
    """One folder on its way into the inbox."""

    def __init__(
        self, lake: Lake, folder: Path, dataset: str, name: str, progress: Progress
    ) -> None:
        self.lake = lake
        self.folder = folder
        self.name = name
        self.dataset = dataset
        self.prefix = f"{inbox(dataset)}{name}/"
        self.progress = progress
        self.files, self.left_out, faults = list_folder(folder)
        if faults:
            raise cannot_be_sent(folder, faults)
        if not self.files:
            raise empty_folder(folder, self.left_out)
        self.total = sum(file.size for file in self.files)
        self.meter = _Meter()
        self.one_large = threading.Lock()  # obstore sends a large file's parts side by side itself
        self.there: dict[str, LakeObject] = {}
        self.announced: dict[str, tuple[int, str]] | None = None
        self.contents: dict[str, tuple[int, str]] = {}
        self.sent: dict[str, int] = {}

    def run(self) -> Sent:
        self._look()
        if not self.there and self.announced is None and (place := self._received_before()):
            self.progress(self.total, self.total, "")
            return Sent("folder", self.name, place, len(self.files), self.total, 0, 0, True,
                        self.left_out)  # fmt: skip
        self._transfer()
        if self.announced is None:
            self._write_marker()
            already_there = False
        else:
            already_there = not self.sent
        return Sent(
            "folder", self.name, self.prefix, len(self.files), self.total, len(self.sent),
            sum(self.sent.values()), already_there, self.left_out,
        )  # fmt: skip

    def _look(self) -> None:
        """See what lies under this name. Raises UploadError if it belongs to another delivery."""
        for item in self.lake.list(self.prefix):
            if not item.key.endswith("/"):
                self.there[item.key[len(self.prefix) :]] = item
        if SIZE_MARKER in self.there:
            raise self._taken(f"the inbox holds an upload of this name with {SIZE_MARKER}")
        if self.there.pop(MARKER, None) is not None:
            self.announced = self._read_marker()
            sizes = {name: size for name, (size, _) in self.announced.items()}
            if sizes != {file.name: file.size for file in self.files}:
                raise self._other_content()
        elif strays := sorted(self.there.keys() - {file.name for file in self.files}):
            raise self._taken(
                "the inbox holds an unfinished upload of this name with files that are not in "
                f"the folder: {', '.join(map(ascii, strays[:3]))}"
            )

    def _received_before(self) -> str:
        """Where the same files lie, if they are the newest that was received under this name."""
        place = _newest_received(self.lake, self.dataset, self.name)
        marker = self.lake.read_json(place + MARKER) if place else None
        if marker is None:
            return ""
        announced = announced_files(marker)
        sizes = {name: size for name, (size, _) in announced.items()}
        if sizes != {file.name: file.size for file in self.files}:
            return ""
        for file in self.files:
            with reading(file.path):
                if sha256_of(file.path) != announced[file.name][1]:
                    return ""
        return place

    def _read_marker(self) -> dict[str, tuple[int, str]]:
        try:
            return announced_files(json.loads(self.lake.read(self.prefix + MARKER)))
        except ValueError as error:
            raise self._taken(f"the inbox holds a marker that cannot be read: {error}") from None

    def _taken(self, what: str) -> UploadError:
        return _name_taken(self.lake, self.prefix, what)

    def _other_content(self) -> UploadError:
        return self._taken("the inbox holds an upload of this name with other content")

    def _transfer(self) -> None:
        """Send what is not there yet; progress is told, and may raise, in this thread."""
        running: dict[Future[None], LocalFile] = {}
        with ThreadPoolExecutor(THREADS, thread_name_prefix="send") as pool:
            try:
                for file in self.files:
                    running[pool.submit(self._one, file)] = file
                    while len(running) >= 2 * THREADS:
                        self._collect(running)
                while running:
                    self._collect(running)
            except BaseException:
                self.meter.stop()
                for future in running:
                    future.cancel()
                raise

    def _collect(self, running: dict[Future[None], LocalFile]) -> None:
        finished = wait(running, timeout=0.2, return_when=FIRST_COMPLETED).done
        for future in finished:
            file = running.pop(future)
            future.result()
            self.progress(min(self.meter.done, self.total), self.total, file.name)
        if not finished:
            self.progress(min(self.meter.done, self.total), self.total, "")

    def _one(self, file: LocalFile) -> None:
        with reading(file.path):
            self._send_or_skip(file)

    def _send_or_skip(self, file: LocalFile) -> None:
        there = self.there.get(file.name)
        sha256 = _comparison(self.lake, file, there) if there else None
        announced = self.announced[file.name][1] if self.announced is not None else None
        if announced is not None and announced != (sha256 or sha256_of(file.path)):
            raise self._other_content()
        if sha256 is not None:
            self.meter.add(file.size)
            self.contents[file.name] = (file.size, sha256)
            return
        key = self.prefix + file.name
        if file.size <= PART:
            data = file.path.read_bytes()
            self.meter.add(len(data))
            _put(self.lake, key, data)
            content = (len(data), hashlib.sha256(data).hexdigest())
        else:
            with self.one_large, file.path.open("rb") as stream:
                reader = _Reader(stream, self.meter)
                _put(self.lake, key, reader)
                content = (reader.size, reader.sha256.hexdigest())
        self.contents[file.name] = content
        self.sent[file.name] = content[0]

    def _write_marker(self) -> None:
        files = [
            {"name": name, "size": size, "sha256": sha256}
            for name, (size, sha256) in sorted(self.contents.items())
        ]
        # Two markers must never be the same bytes: an ETag is a hash of them, and tells uploads
        # apart.
        marker = {"files": files, "sent_at": utc_now(), "delivery": uuid.uuid4().hex}
        if self.lake.create_json(self.prefix + MARKER, marker):
            return
        if self._read_marker() != self.contents:
            raise self._other_content()
