"""The lake as one run sees it, which does not ask for what it has written or verified itself.

The steps and checks of an upload's run each read what the step before published, some of it ten
times. The store has acknowledged it, so a run need not be told it again: only small objects are
kept, for as long as the run (or the few uploads that it has in its hands) lasts. What others may
write (notes, withdrawals, promotions, the documents of other uploads) is read from the store every
time, unless this very run wrote it last.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import is_of_an_upload
from mm_assets.lake.local import sha256_of

if TYPE_CHECKING:
    from obstore.store import ObjectStore

SMALL = 64 << 10  # bytes; larger ones are asked for
MOST = 8 << 20  # bytes that are kept at once


class RememberingLake(Lake):
    """A lake over the connections of another one."""

    def __init__(self, lake: Lake) -> None:
        super().__init__(lake.settings)
        self._lake = lake
        self._kept: dict[str, bytes] = {}
        self._size = 0

    @property
    def s3_client(self) -> Any:
        return self._lake.s3_client

    @property
    def store(self) -> ObjectStore:
        return self._lake.store

    def read(self, key: str) -> bytes:
        kept = self._kept.get(key)
        return super().read(key) if kept is None else kept

    def read_published(self, document: dict[str, Any], name: str) -> bytes:
        """As `Lake`; what was verified once is the same for good, as its key holds its sha256."""
        key = document["files"][name]["key"]
        data = super().read_published(document, name)
        self._keep(key, data)
        return data

    def fetch(self, key: str, path: Path) -> str:
        kept = self._kept.get(key)
        if kept is None:
            return super().fetch(key, path)
        path.write_bytes(kept)
        return sha256_of(path)

    def open(self, key: str, size: int | None = None) -> BinaryIO:
        kept = self._kept.get(key)
        if kept is None or size not in (None, len(kept)):
            return super().open(key, size)
        return io.BytesIO(kept)

    def read_range(self, key: str, start: int, length: int) -> bytes:
        kept = self._kept.get(key)
        if kept is None or start + length > len(kept):
            return super().read_range(key, start, length)
        return kept[start : start + length]

    def write(self, key: str, data: bytes | Path) -> None:
        self._forget(key)
        super().write(key, data)
        if isinstance(data, bytes):
            self._keep(key, data)
        elif isinstance(data, Path) and data.stat().st_size <= SMALL:
            self._keep(key, data.read_bytes())

    def create_json(self, key: str, document: dict[str, Any]) -> bool:
        self._forget(key)
        return super().create_json(key, document)

    def delete(self, key: str) -> None:
        self._forget(key)
        super().delete(key)

    def move(self, source_key: str, target_key: str, etag: str) -> bool:
        self._forget(source_key)
        self._forget(target_key)
        return super().move(source_key, target_key, etag)

    def _keep(self, key: str, data: bytes) -> None:
        self._forget(key)
        if is_of_an_upload(key) and len(data) <= SMALL and self._size + len(data) <= MOST:
            self._kept[key] = data
            self._size += len(data)

    def _forget(self, key: str) -> None:
        self._size -= len(self._kept.pop(key, b""))
