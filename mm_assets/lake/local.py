"""What the lake needs of this machine: temporary folders, hashes of local files, the time."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from mm_assets.lake.errors import FULL, lake_error

CHUNK = 4 << 20


def sha256_of(path: Path) -> str:
    """The sha256 of a local file, in hex; reads in chunks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def utc_now() -> str:
    """The present moment as ISO 8601 in UTC with microseconds, as all documents hold it."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


@contextmanager
def speaking_of_disk(path: Path) -> Iterator[None]:
    """Say which local disk is full when a temporary file cannot be written."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        what = f"this machine's disk is full ({error.strerror})"
        raise lake_error("disk_full", what, str(path)) from error


@contextmanager
def working_folder(purpose: str) -> Iterator[Path]:
    """A temporary folder on the local disk, gone afterwards; a full disk is said in words."""
    with tempfile.TemporaryDirectory(prefix=f"mm-{purpose}-") as name, speaking_of_disk(Path(name)):
        yield Path(name)
