"""Records that were answered, kept as uploads: live traffic comes in by the same door as all else.

What was asked is noted on disk and sent, some records at a time, into the dataset's inbox; from
there the ordinary flow takes it, so monitoring, drift and the review queue see it. What a process
left behind when it died is sent by the next one. Nobody waits for any of it: what cannot be noted
in time is dropped, and said.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import os
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.errors import MMError
from mm_assets.lake.lake import Lake
from mm_assets.serving.reading import Read
from mm_assets.uploads.in_hand import in_hand, write_zip
from mm_assets.uploads.send import send

logger = logging.getLogger(__name__)
MOST_RECORDS = 500  # in one upload
SECONDS = 60.0  # after which what was noted is sent
MOST_PENDING = 256  # requests that wait to be noted


@dataclass(frozen=True)
class Asked:
    """What a request asked. image: the bytes that came. named: whether the record came with an ID;
    else it gets one that nobody else has.
    """

    read: Read
    image: bytes | None
    named: bool


class Recorder:
    """Keeps what is asked of datasets in a lake. Of one event loop."""

    def __init__(
        self,
        lake: Lake,
        folder: Path,
        *,
        most_records: int = MOST_RECORDS,
        seconds: float = SECONDS,
    ) -> None:
        """folder: where records lie until they are sent."""
        self.dropped = 0
        self._lake, self._folder = lake, folder
        self._most_records, self._seconds = most_records, seconds
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="record")  # one writes, and sends
        self._pending = 0
        self._open: dict[str, _Open] = {}
        self._specs: dict[str, DatasetSpec] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self, specs: Mapping[str, DatasetSpec]) -> None:
        """Send what was left behind, and from now on what is noted. specs: of the datasets."""
        self._specs.update(specs)
        self._task = asyncio.get_running_loop().create_task(self._run())

    def note(self, spec: DatasetSpec, asked: Sequence[Asked]) -> None:
        """Keep these records; those that were refused are none. Returns at once."""
        if self._pending >= MOST_PENDING:
            self.dropped += len(asked)
            if self.dropped == len(asked) or self.dropped % 1_000 < len(asked):
                logger.warning("%d records were not kept: the disk is too slow", self.dropped)
            return
        self._pending += 1
        self._specs.setdefault(spec.dataset, spec)
        future = asyncio.get_running_loop().run_in_executor(self._thread, self._noted, spec, asked)
        future.add_done_callback(self._done)

    async def close(self) -> None:
        """Send all that was noted."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await asyncio.get_running_loop().run_in_executor(self._thread, self._send_all, True)
        self._thread.shutdown()

    async def _run(self) -> None:
        while True:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._send_all, False)
            await asyncio.sleep(min(self._seconds, 5.0))

    def _done(self, future: asyncio.Future[None]) -> None:
        self._pending -= 1
        if not future.cancelled() and (error := future.exception()) is not None:
            self.dropped += 1
            logger.warning("what was asked could not be kept: %s", error)

    # -- in the recorder's own thread ---------------------------------------------------------

    def _noted(self, spec: DatasetSpec, asked: Sequence[Asked]) -> None:
        name = spec.dataset
        opened = self._open.get(name)
        if opened is None:
            folder = self._folder / name
            folder.mkdir(parents=True, exist_ok=True)
            moment = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
            path = folder / f"served-{moment}-{uuid.uuid4().hex[:8]}.{os.getpid()}.jsonl"
            opened = self._open[name] = _Open(path, time.monotonic())
        with opened.path.open("a", encoding="utf-8") as file:
            for one in asked:
                if one.read.features is None:
                    continue
                record_id = one.read.record_id if one.named else f"served-{uuid.uuid4().hex}"
                image = base64.b64encode(one.image).decode() if one.image is not None else None
                line = {"id": record_id, "features": dict(one.read.features), "image": image}
                file.write(json.dumps(line) + "\n")
                opened.records += 1
        if opened.records >= self._most_records:
            self._close(name)

    def _close(self, name: str) -> None:
        self._open.pop(name)

    def _send_all(self, everything: bool) -> None:
        for name, opened in list(self._open.items()):
            if everything or time.monotonic() - opened.since >= self._seconds:
                self._close(name)
        mine = {opened.path for opened in self._open.values()}
        for name, spec in self._specs.items():
            for path in sorted((self._folder / name).glob("served-*.jsonl")):
                if path not in mine and (claimed := _claimed(path)) is not None:
                    self._send(spec, claimed)

    def _send(self, spec: DatasetSpec, path: Path) -> None:
        """One file as one upload; it stays for the next time if the lake cannot be reached."""
        import pandas as pd

        records = {one["id"]: one for one in _lines(path)}  # of one ID the newest
        if not records:
            path.unlink()
            return
        rows = [{spec.id_column: i, **one["features"]} for i, one in records.items()]
        frame = pd.DataFrame(rows, dtype=object)
        images: Any = None
        if spec.has_images:
            images = [
                base64.b64decode(o["image"]) if o["image"] else None for o in records.values()
            ]
        try:
            with tempfile.TemporaryDirectory(prefix="mm-served-") as folder:
                made = Path(folder) / "served.zip"
                write_zip(made, in_hand(spec, frame, images, labels=False).files())
                send(self._lake, made, spec.dataset, path.name.split(".")[0])
        except MMError as error:
            logger.warning("%s: what was asked is kept, and not sent yet: %s", spec.dataset, error)
            return
        path.unlink()


@dataclass
class _Open:
    path: Path
    since: float
    records: int = 0


def _claimed(path: Path) -> Path | None:
    """The file, if it is this process's own or that of one which is gone; renamed to be ours."""
    stem, pid = path.name.removesuffix(".jsonl").rsplit(".", 1)
    if pid == str(os.getpid()):
        return path
    if not pid.isdigit() or _is_alive(int(pid)):
        return None
    ours = path.with_name(f"{stem}.{os.getpid()}.jsonl")
    try:
        return path.rename(ours)
    except OSError:  # another process was faster
        return None


def _is_alive(pid: int) -> bool:
    import psutil

    return bool(psutil.pid_exists(pid))


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a file; a last line that a crash cut short is none."""
    for line in path.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(ValueError):
            yield json.loads(line)
