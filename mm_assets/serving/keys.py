"""API keys: who may ask which datasets, and who may promote models.

A key is 256 random bits and is shown once; its file holds the sha256 of each, which is enough for
what cannot be guessed. The file is read again when it changes, so a key that was taken away is
refused within a second.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mm_assets.contract.errors import SettingsError, UsageError

PREFIX = "mm_"
LOOK_AGAIN_SECONDS = 1.0


@dataclass(frozen=True)
class Key:
    """name: whose it is. datasets: that it may ask; None: all. expires: ISO 8601; None: never.
    may_promote: whether it may make another model the champion."""

    name: str
    sha256: str
    datasets: tuple[str, ...] | None
    expires: str | None
    made: str
    may_promote: bool = False

    def is_valid(self, now: datetime) -> bool:
        return self.expires is None or now < datetime.fromisoformat(self.expires)


def add_key(
    file: Path, name: str, datasets: Sequence[str] | None = None, days: float | None = None,
    *, may_promote: bool = False,
) -> str:  # fmt: skip
    """Make a key and note it in the file; returns the key, which is nowhere else.

    datasets: that it may ask; None: all. days: until it expires. Raises UsageError if the name is
    taken, SettingsError if the file cannot be used.
    """
    known = read_keys(file) if file.exists() else []
    if not name.strip() or any(one.name == name for one in known):
        raise UsageError(
            code="arguments",
            what=f"there is a key called {name!r}" if name.strip() else "a key needs a name",
            todo="Choose another name, or remove that key first.",
        )
    now = datetime.now(UTC).replace(microsecond=0)
    key = PREFIX + secrets.token_urlsafe(32)
    expires = None if days is None else (now + timedelta(days=days)).isoformat()
    scope = None if datasets is None else tuple(sorted(set(datasets)))
    _write(file, [*known, Key(name, _hash(key), scope, expires, now.isoformat(), may_promote)])
    return key


def remove_key(file: Path, name: str) -> None:
    """Take a key away. Raises UsageError if there is none of this name, SettingsError."""
    known = read_keys(file)
    if all(one.name != name for one in known):
        names = ", ".join(one.name for one in known) or "none"
        raise UsageError(code="arguments", what=f"there is no key {name!r}; there is {names}")
    _write(file, [one for one in known if one.name != name])


def read_keys(file: Path) -> list[Key]:
    """Every key of the file. Raises SettingsError (keys_unreadable)."""
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))["keys"]
        return [_key(entry) for entry in entries]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise SettingsError(
            code="keys_unreadable",
            what=f"the file of API keys cannot be read: {error}",
            where=str(file),
            todo="Make it with `mm serve-keys add NAME`, or name another file with --keys.",
        ) from None


class Keys:
    """The keys of a file, as it is now. Safe in threads."""

    def __init__(self, file: Path) -> None:
        """Raises SettingsError."""
        self._file = file
        self._lock = threading.Lock()
        self._stamp = self._stamp_now()
        self._keys = read_keys(file)
        self._looked = time.monotonic()

    def key_of(self, given: str) -> Key | None:
        """Whose key this is; None if it is none, or has expired. Looks at all, in equal time."""
        wanted, found = _hash(given), None
        for key in self._current():
            if hmac.compare_digest(wanted, key.sha256):
                found = key
        return found if found is not None and found.is_valid(datetime.now(UTC)) else None

    def _current(self) -> list[Key]:
        with self._lock:
            if time.monotonic() - self._looked < LOOK_AGAIN_SECONDS:
                return self._keys
            self._looked = time.monotonic()
            if (stamp := self._stamp_now()) != self._stamp:
                try:
                    self._keys, self._stamp = read_keys(self._file), stamp
                except SettingsError:  # nobody comes in by a file that cannot be read
                    self._keys, self._stamp = [], None
            return self._keys

    def _stamp_now(self) -> tuple[int, int, int] | None:
        try:
            stat = self._file.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _key(entry: dict[str, Any]) -> Key:
    datasets = entry["datasets"]
    key = Key(
        str(entry["name"]), str(entry["sha256"]), None if datasets is None else tuple(datasets),
        entry["expires"], str(entry["made"]), entry.get("may_promote") is True,
    )  # fmt: skip
    key.is_valid(datetime.now(UTC))  # the time can be read
    return key


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def _write(file: Path, keys: Sequence[Key]) -> None:
    """In one step, readable by its owner alone."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=".keys-")
        with os.fdopen(handle, "w", encoding="utf-8") as written:
            json.dump({"keys": [asdict(key) for key in keys]}, written, indent=2)
        Path(temporary).replace(file)
    except OSError as error:
        raise SettingsError(
            code="keys_unwritable",
            what=f"the file of API keys cannot be written: {error.strerror}",
            where=str(file),
            todo="Name another file with --file.",
        ) from None
