"""Answered records, kept as uploads (`mm serve --record`): through the door that all data takes.

What was answered is written into a buffer on this machine's disk; every so many records or minutes
a buffer is sent into the dataset's inbox, as one upload. Nobody who asks waits for it: what does
not fit into the queue or onto the disk is dropped, counted and said. A crash loses what was not
written yet; what lies in a buffer is sent by the next service that starts with the same folder.

Of a record that is asked several times before a buffer is sent, the last one is in it. Records
without an ID get one. Labels are not kept: whoever may ask must not be able to teach.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import queue
import shutil
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.errors import MMError, UploadError
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.reading.images import NormalisedImage
from mm_assets.serving.reading import Images, Read
from mm_assets.uploads.in_hand import cell_of, image_file_name, write_zip
from mm_assets.uploads.send import send

logger = logging.getLogger(__name__)
# Puts a zip into the inbox of a dataset under a name.
Send = Callable[[str, Path, str], None]
TABLE = "records.jsonl"
_ROWS, _LOCK, _SEALED = "rows", "lock", ".sealed"
_PAUSES = (1.0, 5.0, 30.0, 120.0, 300.0)  # seconds between tries to send
_SAY_AGAIN = 60.0


@dataclass(frozen=True)
class Limits:
    """records, seconds: after which a buffer is sent. queued_bytes: that wait to be written;
    kept_bytes: on the disk, that wait to be sent."""

    records: int = 500
    seconds: float = 60.0
    queued_bytes: int = 64 << 20
    kept_bytes: int = 1 << 30


@dataclass(frozen=True)
class _Kept:
    """A record on its way to the disk. row: None where only its images are sent. files: they."""

    dataset: str
    record_id: str
    row: dict[str, Any] | None
    files: tuple[tuple[str, bytes], ...] = ()

    @property
    def size(self) -> int:
        return sum(len(data) for _, data in self.files)


@dataclass
class _Buffer:
    folder: Path
    began: float = field(default_factory=time.monotonic)
    records: int = 0


class Recorder:
    """Keeps what a service answers. counts: `kept`, `dropped`, `sent` (records), `uploads`.

    folder: on this machine's disk; several processes may share it.
    """

    def __init__(self, folder: Path, send: Send, limits: Limits | None = None) -> None:
        self.counts: Counter[str] = Counter()
        self._folder, self._send, self._limits = folder, send, limits or Limits()
        self._own = folder / _new_name()
        self._queue: queue.SimpleQueue[_Kept | None] = queue.SimpleQueue()
        self._lock = threading.Lock()  # of the two sums
        self._queued = self._on_disk = 0
        self._buffers: dict[str, _Buffer] = {}
        self._wake, self._ending = threading.Event(), threading.Event()
        self._told = 0.0
        self._writer = threading.Thread(target=self._write_all, name="record", daemon=True)
        self._sender = threading.Thread(target=self._send_all, name="record-send", daemon=True)

    def start(self) -> None:
        """Begin to write and to send, first of all what an earlier service left behind.

        Raises OSError if the folder cannot be written.
        """
        hidden = self._own.with_name(f".{self._own.name}")
        hidden.mkdir(parents=True)
        self._held = (hidden / _LOCK).open("w")
        fcntl.flock(self._held, fcntl.LOCK_EX)
        hidden.rename(self._own)  # nobody sees it without its lock
        self._on_disk = sum(_size(path) for path in self._folder.rglob("*"))
        self._writer.start()
        self._sender.start()

    def close(self, seconds: float = 20.0) -> None:
        """Write what waits and send it; what is not sent by then, the next service sends."""
        end = time.monotonic() + seconds
        self._queue.put(None)
        self._writer.join(seconds)
        self._ending.set()
        self._wake.set()
        self._sender.join(max(0.0, end - time.monotonic()))
        if not self._sender.is_alive() and not any(self._own.glob("*/*")):
            shutil.rmtree(self._own, ignore_errors=True)
        self._held.close()

    # -- keeping ------------------------------------------------------------------------------

    def keep(
        self,
        spec: DatasetSpec,
        reads: Sequence[Read],
        sent: Mapping[int, Images],
        answers: Sequence[Mapping[str, Any]],
    ) -> None:
        """Keep the records that have an answer. Returns at once and raises nothing.

        sent: the images as they came, by the record's place.
        """
        for place, (read, answer) in enumerate(zip(reads, answers, strict=True)):
            if answer["prediction"] is None:
                continue
            images = sent.get(place) if read.images else None
            try:
                self._put(_kept(spec, read, images))
            except UploadError as error:  # no file can be called so that its name yields this ID
                self._drop(error.what)
            except Exception as error:  # noqa: BLE001  whoever asked has an answer by now
                self._drop(f"{type(error).__name__}: {error}")

    def _put(self, kept: _Kept) -> None:
        size = kept.size + 1_000
        with self._lock:
            if self._on_disk + self._queued + size > self._limits.kept_bytes:
                return self._drop("too much waits to be sent")
            if self._queued + size > self._limits.queued_bytes:
                return self._drop("the disk does not keep up")
            self._queued += size
        self._queue.put(kept)
        return None

    def _drop(self, why: str) -> None:
        self.counts["dropped"] += 1
        if time.monotonic() - self._told > _SAY_AGAIN or not self._told:
            self._told = time.monotonic()
            total = self.counts["dropped"]
            logger.warning("answered records are not kept: %s (%d so far)", why, total)

    # -- writing ------------------------------------------------------------------------------

    def _write_all(self) -> None:
        ended = False
        while not ended:
            try:
                kept = self._queue.get(timeout=min(1.0, self._limits.seconds / 4))
                ended = kept is None
                if kept is not None:
                    self._write(kept)
            except queue.Empty:
                pass
            except Exception as error:  # noqa: BLE001  the next one may do
                self._drop(f"they cannot be written: {error}")
            for dataset, buffer in list(self._buffers.items()):
                old = time.monotonic() - buffer.began >= self._limits.seconds
                if old or ended or buffer.records >= self._limits.records:
                    self._seal(dataset)

    def _write(self, kept: _Kept) -> None:
        with self._lock:
            self._queued -= kept.size + 1_000
        buffer = self._buffers.get(kept.dataset) or self._new(kept.dataset)
        line: dict[str, Any] = {"id": kept.record_id, "row": kept.row, "at": buffer.records}
        first, *more = [name for name, _ in kept.files] or [""]
        line |= {"file": first, "more": more}
        data = ("\n" + json.dumps(line)).encode()  # not even a torn line spoils the next
        for number, (_, image) in enumerate(kept.files):
            (buffer.folder / _place(buffer.records, number)).write_bytes(image)
        with (buffer.folder / _ROWS).open("ab") as rows:
            rows.write(data)
        buffer.records += 1
        with self._lock:
            self._on_disk += len(data) + kept.size
        self.counts["kept"] += 1

    def _new(self, dataset: str) -> _Buffer:
        buffer = _Buffer(self._own / dataset / _new_name())
        buffer.folder.mkdir(parents=True)
        self._buffers[dataset] = buffer
        return buffer

    def _seal(self, dataset: str) -> None:
        folder = self._buffers.pop(dataset).folder
        with contextlib.suppress(OSError):  # it stays; the next service sends it
            folder.rename(folder.with_name(folder.name + _SEALED))
            self._wake.set()

    # -- sending ------------------------------------------------------------------------------

    def _send_all(self) -> None:
        failures = 0
        while True:
            ending = self._ending.is_set()  # before the look: what was sealed until then is seen
            self._wake.clear()
            try:
                self._send_what_lies()
                failures = 0
            except (MMError, OSError) as error:
                failures += 1
                logger.warning("answered records cannot be sent yet: %s", error)
            if ending:
                return
            self._wake.wait(_PAUSES[min(failures, len(_PAUSES)) - 1] if failures else 60.0)

    def _send_what_lies(self) -> None:
        """Every buffer that is whole. Raises the last error, after all were tried."""
        fault: Exception | None = None
        for run in sorted(self._folder.glob("[!.]*")):
            with _left_behind(run) as is_left:
                for buffer in sorted(run.glob("*/*" if is_left else f"*/*{_SEALED}")):
                    if not is_left and run != self._own:
                        break  # its own service sends it
                    try:
                        self._send_one(buffer)
                    except (MMError, OSError) as error:
                        fault = error
                if is_left and not any(run.glob("*/*")):
                    shutil.rmtree(run)
        if fault is not None:
            raise fault

    def _send_one(self, buffer: Path) -> None:
        size = sum(map(_size, buffer.rglob("*")))
        lines = _lines(buffer)
        if lines:
            packed = buffer / "upload.zip"
            digest = write_zip(packed, _files(buffer, lines))
            name = f"served-{buffer.name.removesuffix(_SEALED)}-{digest}"
            self._send(buffer.parent.name, packed, name)
            self.counts["sent"] += len(lines)
            self.counts["uploads"] += 1
        shutil.rmtree(buffer)
        with self._lock:
            self._on_disk = max(0, self._on_disk - size)


def recording(settings: Settings) -> Recorder:
    """Keeps answered records of a project: in its data folder, then in the inbox of its lake."""
    lake = Lake(settings)

    def to_inbox(dataset: str, path: Path, name: str) -> None:
        send(lake, path, dataset, name)

    return Recorder(settings.data_folder / "serving" / "recorded", to_inbox)


def _kept(spec: DatasetSpec, read: Read, sent: Images) -> _Kept:
    """Raises UploadError where the name of no file yields the record's ID."""
    record_id = f"served-{uuid.uuid4().hex}" if read.numbered else read.record_id
    several = sent if isinstance(sent, list) else [sent]
    images = [one.data if isinstance(one, NormalisedImage) else one for one in several]
    by_id = spec.records == "images" or spec.image_column is None
    files = tuple(
        (
            image_file_name(spec, record_id, n, "", data) if by_id else f"{uuid.uuid4().hex}.png",
            data,
        )
        for n, data in enumerate(images, 1)
        if isinstance(data, bytes)
    )
    row = None if spec.records == "images" else {spec.id_column: record_id, **(read.features or {})}
    if row is not None and spec.image_column is not None:
        row[spec.image_column] = cell_of(spec, [name for name, _ in files])
    return _Kept(spec.dataset, record_id, row, files)


def _new_name() -> str:
    """A name that comes after those before it."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{uuid.uuid4().hex[:6]}"


@contextlib.contextmanager
def _left_behind(run: Path) -> Iterator[bool]:
    """Whether the service that wrote into a folder has ended; then it is this one's meanwhile."""
    try:
        lock = (run / _LOCK).open("r+")
    except OSError:  # another service has just sent all of it
        yield False
        return
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True


def _lines(buffer: Path) -> list[dict[str, Any]]:
    """The last line of each record, in their order. A line that a crash cut off is none."""
    last: dict[str, dict[str, Any]] = {}
    with contextlib.suppress(FileNotFoundError):
        for text in (buffer / _ROWS).read_bytes().splitlines():
            with contextlib.suppress(ValueError):
                line = json.loads(text)
                last.pop(line["id"], None)
                last[line["id"]] = line
    return list(last.values())


def _files(buffer: Path, lines: Sequence[dict[str, Any]]) -> Iterator[tuple[str, bytes]]:
    rows = [line["row"] for line in lines if line["row"] is not None]
    if rows:
        yield TABLE, "".join(json.dumps(row) + "\n" for row in rows).encode()
    for line in lines:
        names = [name for name in (line["file"], *line.get("more", ())) if name]
        for number, name in enumerate(names):
            yield name, (buffer / _place(line["at"], number)).read_bytes()


def _place(record: int, number: int) -> str:
    """The name of a record's image in its buffer."""
    return f"{record}-{number}" if number else str(record)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:
        return 0
