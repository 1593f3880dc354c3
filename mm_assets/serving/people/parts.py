"""A large file that a browser sends in parts: each continues where the one before ended.

What has come lies on the service's disk, below the name of a hash of what is sent and by whom, so
the same file chosen again goes on from there, also after the browser or the service has died. How
much there is, the file itself says: a part that begins anywhere else is refused with the place
where to go on. What nobody finished within a day is thrown away.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from mm_assets.serving.problems import Problem

KEPT_SECONDS = 24 * 3600
FREE_BYTES = 1 << 30  # that the disk keeps
MOST_NAME = 200


@dataclass(frozen=True)
class Part:
    """A file that is coming. name: safe as a file's name; size: of all of it."""

    key: str
    dataset: str
    who: str
    name: str
    size: int
    folder: Path

    @property
    def file(self) -> Path:
        return self.folder / "upload" / self.name

    @property
    def offset(self) -> int:
        """How much of it is there."""
        return self.file.stat().st_size


class Parts:
    """Of one service; its processes share the folder."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder, self._most = folder, most_bytes

    def begin(self, dataset: str, who: str, name: str, size: int, stamp: str) -> Part:
        """A new file, or one that has come in part. stamp: tells files of one name and size apart.

        Raises Problem for one that is too large.
        """
        if not 0 < size <= self._most:
            what = "the file is empty" if size < 1 else f"more than {self._most >> 20:,} MB"
            raise Problem(413, "body_too_large", what, "Send it with `mm upload`.")
        told = json.dumps([dataset, who, name, size, stamp])
        key = hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        self._sweep()
        part = Part(key, dataset, who, name, size, self._folder / key)
        if not part.file.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(self._folder).free < size + FREE_BYTES:
                raise Problem(507, "part_no_room", "the service has no room for this file",
                              "Send it with `mm upload`.")  # fmt: skip
            part.file.parent.mkdir(parents=True, exist_ok=True)
            part.file.touch()
            document = {"dataset": dataset, "who": who, "name": name, "size": size}
            (part.folder / "part.json").write_text(json.dumps(document), encoding="utf-8")
        return part

    def find(self, key: str, dataset: str, who: str) -> Part:
        """One that was begun by the same person. Raises Problem."""
        folder = self._folder / key
        try:
            if not re.fullmatch(r"[0-9a-f]{32}", key):
                raise ValueError(key)
            told = json.loads((folder / "part.json").read_text(encoding="utf-8"))
            part = Part(key, told["dataset"], told["who"], told["name"], told["size"], folder)
            is_own = (part.dataset, part.who) == (dataset, who) and part.file.exists()
        except (OSError, ValueError, KeyError, TypeError):
            is_own = False
        if not is_own:
            raise Problem(404, "part_unknown", "nothing of this file is here",
                          "Choose it again.")  # fmt: skip
        return part

    async def append(self, part: Part, offset: int, stream: AsyncIterator[bytes]) -> int:
        """Write what comes at the end; returns how much there is. What came before an
        interruption is kept. Raises Problem (part_offset, part_busy, body_too_large)."""
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(part.file.open("ab"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise Problem(
                    409, "part_busy", "another part of this file is coming", offset=part.offset
                ) from None
            there = os.fstat(file.fileno()).st_size
            if offset != there:
                raise Problem(
                    409, "part_offset", f"{there} bytes are here, and the part begins at {offset}",
                    offset=there,
                )  # fmt: skip
            async for some in stream:
                if there + len(some) > part.size:
                    raise Problem(413, "body_too_large", "more came than was announced")
                await asyncio.to_thread(file.write, some)
                there += len(some)
        return there

    def remove(self, part: Part) -> None:
        shutil.rmtree(part.folder, ignore_errors=True)

    def _sweep(self) -> None:
        """Throw away what nobody went on with."""
        for folder in self._folder.glob("*/"):
            with contextlib.suppress(OSError):
                newest = max(one.stat().st_mtime for one in [folder, *folder.rglob("*")])
                if time.time() - newest > KEPT_SECONDS:
                    shutil.rmtree(folder, ignore_errors=True)


def safe_file_name(given: str) -> str:
    """The last part of a path that a browser names, without what is no name of a file."""
    own = given.replace("\\", "/").rpartition("/")[2]
    kept = "".join(letter if letter.isprintable() else "_" for letter in own)
    return (
        kept.lstrip(".").encode("utf-8", "replace")[:MOST_NAME].decode("utf-8", "ignore") or "file"
    )
