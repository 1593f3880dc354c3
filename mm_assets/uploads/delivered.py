"""One file of an upload as it arrived, wherever it comes from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mm_assets.lake.local import CHUNK

IN_MEMORY = 64 << 20  # bytes; a larger file goes through local disk


@dataclass(frozen=True, slots=True)
class Delivered:
    """One file as it arrived. `content` is its bytes, or a local file when it is large.

    keep: that file is the sender's own, and nobody may move or delete it. holds: it is an archive
    whose files, so many, come behind it; then it has no content any more.
    """

    name: str
    size: int
    sha256: str
    content: bytes | Path
    problem: str | None = None
    reason: str = ""
    keep: bool = False
    holds: int | None = None

    @property
    def head(self) -> bytes:
        if isinstance(self.content, bytes):
            return self.content[: 64 << 10]
        with self.content.open("rb") as file:
            return file.read(64 << 10)


def take_member(name: str, stream: BinaryIO, workdir: Path) -> Delivered:
    """Read one archive member, into memory if it is small enough, else onto local disk."""
    data = stream.read(IN_MEMORY + 1)
    if len(data) <= IN_MEMORY:
        return Delivered(name, len(data), hashlib.sha256(data).hexdigest(), data)
    digest, size = hashlib.sha256(data), len(data)
    path = workdir / f"large-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    with path.open("wb") as file:
        file.write(data)
        while data := stream.read(CHUNK):
            digest.update(data)
            size += len(data)
            file.write(data)
    return Delivered(name, size, digest.hexdigest(), path)
