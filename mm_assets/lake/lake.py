"""Where bytes live: one small interface over a folder and over S3.

Keys are relative, '/'-separated. Listing goes through boto3 (or the file system), because one
hostile key such as `a//b` or `a/../b` makes obstore refuse a whole listing. Bytes move through
obstore, which streams, retries and writes atomically. Every write is one atomic step; what must
appear together is published by one pointer document that is written last (`publish`).

Over 400 lines, because it is one class: what a folder and S3 do stands side by side, a method each.
"""

from __future__ import annotations

import builtins
import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from mm_assets.contract.errors import LakeError
from mm_assets.contract.settings import Settings
from mm_assets.lake import s3 as lake_s3
from mm_assets.lake.documents import DAMAGE_ATTEMPTS, hashes_of, packed, unpacked
from mm_assets.lake.errors import broke_off, lake_error, speaking
from mm_assets.lake.layout import published_key
from mm_assets.lake.local import CHUNK, sha256_of, speaking_of_disk, utc_now
from mm_assets.lake.moves import (
    PROBES,
    clean_up,
    deletes_conditionally,
    etag_of_file,
    move_in_folder,
    move_in_s3,
    remove_leftovers,
    status_of,
)
from mm_assets.lake.ranges import RangeReader, verified
from mm_assets.lake.s3 import connect_boto3, connect_obstore, tries

if TYPE_CHECKING:
    from obstore.store import ObjectStore


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LakeObject:
    """One object of a listing. `modified` is in UTC; `size` in bytes."""

    key: str
    size: int
    etag: str
    modified: datetime


class Lake:
    """The lake that the settings name. It is cheap to make, and connects when it is first used."""

    def __init__(self, settings: Settings, s3_client: Any = None) -> None:
        self.settings = settings
        self._s3_client = s3_client
        self._store: ObjectStore | None = None

    # -- connection ---------------------------------------------------------------------------

    @property
    def url(self) -> str:
        return self.settings.lake if self.settings.is_s3 else str(self.settings.lake_folder)

    @property
    def s3_client(self) -> Any:
        """The boto3 client, with explicit timeouts and retries (`lake/s3.py`)."""
        if self._s3_client is None:
            with self._speaking(""):
                try:
                    self._s3_client = connect_boto3(self.settings)
                except ValueError as error:  # an endpoint that is no URL
                    raise lake_error("lake_unreachable", str(error), self.url) from None
        return self._s3_client

    @property
    def store(self) -> ObjectStore:
        if self._store is None:
            from obstore.store import LocalStore

            if self.settings.is_s3:
                self._store = connect_obstore(self.settings, self.s3_client)
            else:
                self.settings.lake_folder.mkdir(parents=True, exist_ok=True)
                self._store = LocalStore(self.settings.lake_folder)
        return self._store

    # -- reading ------------------------------------------------------------------------------

    def list(self, prefix: str, begins: str = "") -> Iterator[LakeObject]:
        """Every object below `prefix` (which ends in '/'), by key. Streams page by page on S3.

        `begins` narrows it to names below the prefix that begin with these letters.
        """
        if not self.settings.is_s3:
            with self._speaking(prefix):
                yield from self._list_folder(prefix, begins)
            return
        with self._speaking(prefix):
            for page in self._pages(prefix + begins):
                for item in page.get("Contents", []):
                    yield self._of_page(item)

    def top(self, prefix: str) -> tuple[builtins.list[LakeObject], builtins.list[str]]:
        """The objects directly below `prefix` (which ends in '/'), and the names of its folders.

        Costs one request for each 1,000 of both, whatever the folders hold.
        """
        if not self.settings.is_s3:
            with self._speaking(prefix):
                objects = [*self._list_folder(prefix, deep=False)]
            return objects, self.names(prefix)
        objects, folders = [], []
        with self._speaking(prefix):
            for page in self._pages(prefix, Delimiter="/"):
                objects += [self._of_page(item) for item in page.get("Contents", [])]
                folders += self._folders(prefix, [page])
        return objects, folders

    def _full(self, key: str) -> str:
        base = self.settings.bucket_and_prefix[1]
        return f"{base}/{key}" if base else key

    def _pages(self, prefix: str, **more: str) -> Iterator[dict[str, Any]]:
        bucket = self.settings.bucket_and_prefix[0]
        paginator = self.s3_client.get_paginator("list_objects_v2")
        yield from paginator.paginate(Bucket=bucket, Prefix=self._full(prefix), **more)

    def _of_page(self, item: dict[str, Any]) -> LakeObject:
        return LakeObject(
            key=item["Key"][len(self._full("")) :],
            size=item["Size"],
            etag=item["ETag"].strip('"'),
            modified=item["LastModified"].astimezone(UTC),
        )

    def _list_folder(
        self, prefix: str, begins: str = "", *, deep: bool = True
    ) -> Iterator[LakeObject]:
        try:
            with os.scandir(self.settings.lake_folder / prefix) as found:
                entries = [
                    (entry, entry.is_dir(follow_symlinks=False))
                    for entry in found
                    if entry.name.startswith(begins)
                ]
        except FileNotFoundError:
            return
        # A folder's name counts with its '/', so that keys come in the order that S3 gives them.
        for entry, is_folder in sorted(entries, key=lambda e: e[0].name + "/" * e[1]):
            # obstore writes to a `name#number` beside the target before it renames.
            being_written = "#" in entry.name and entry.name.rpartition("#")[2].isdigit()
            if being_written and not is_folder:
                clean_up(entry)
            elif is_folder and deep:
                yield from self._list_folder(f"{prefix}{entry.name}/")
            elif entry.is_file(follow_symlinks=False):
                try:
                    stat = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                yield _of_file(prefix + entry.name, stat)

    def names(self, prefix: str) -> builtins.list[str]:
        """The names of the folders directly below `prefix` (which ends in '/'), sorted."""
        if not self.settings.is_s3:
            with self._speaking(prefix):
                try:
                    with os.scandir(self.settings.lake_folder / prefix) as found:
                        return sorted(entry.name for entry in found if entry.is_dir())
                except FileNotFoundError:
                    return []
        return sorted(self.top(prefix)[1])

    def last_names(self, prefix: str, limit: int, starts: Iterable[str]) -> builtins.list[str]:
        """The last `limit` (1 or more) of `names`, in their order.

        starts: names behind which to look, the last first, where S3 has more than one answer can
        hold. A look costs what lies behind its start, so how many there are in all is no matter.
        """
        if not self.settings.is_s3:
            return self.names(prefix)[-limit:]
        with self._speaking(prefix):
            first = next(self._pages(prefix, Delimiter="/"))
            found = self._folders(prefix, [first])
            if first["IsTruncated"]:
                for start in (*starts, ""):
                    behind = {"StartAfter": self._full(prefix + start)}
                    found = self._folders(prefix, self._pages(prefix, Delimiter="/", **behind))
                    if len(found) >= limit:
                        break
        return sorted(found)[-limit:]

    def _folders(self, prefix: str, pages: Iterable[dict[str, Any]]) -> builtins.list[str]:
        base = len(self._full(prefix))
        return [
            item["Prefix"][base:-1] for page in pages for item in page.get("CommonPrefixes", [])
        ]

    def stat(self, key: str) -> LakeObject | None:
        """What a listing would say of one object, or None if there is none."""
        if not self.settings.is_s3:
            path = self.settings.lake_folder / key
            with self._speaking(key):
                try:
                    found = path.lstat()
                except (FileNotFoundError, NotADirectoryError):
                    return None
                return _of_file(key, found) if S_ISREG(found.st_mode) else None
        from botocore.exceptions import ClientError

        bucket, full = self.settings.bucket_and_prefix[0], self._full(key)
        with self._speaking(key):
            try:
                head = self.s3_client.head_object(Bucket=bucket, Key=full)
            except ClientError as error:
                if status_of(error) not in (400, 403, 404):
                    raise
                # The answer to a HEAD has no body; that to a listing says why.
                self.s3_client.list_objects_v2(Bucket=bucket, Prefix=full, MaxKeys=1)
                if status_of(error) != 404:
                    raise
                return None
        return LakeObject(
            key=key,
            size=head["ContentLength"],
            etag=head["ETag"].strip('"'),
            modified=head["LastModified"].astimezone(UTC),
        )

    def read(self, key: str) -> bytes:
        """The whole object. For small ones; use `fetch` for the rest."""
        import obstore

        return self._patiently(key, lambda: bytes(obstore.get(self.store, key).bytes()))

    def read_json(self, key: str) -> dict[str, Any] | None:
        """The document at `key`, or None if there is none.

        One that is no JSON, or not what was written, is `lake_damaged`.
        """
        try:
            return unpacked(self.read(key))
        except LakeError as error:
            if error.code == "lake_not_found":
                return None
            raise
        except json.JSONDecodeError:
            raise self._damaged(key, "it is no JSON document") from None
        except (ValueError, RecursionError) as error:
            raise self._damaged(key, str(error)) from None

    def fetch(self, key: str, path: Path) -> str:
        """Stream the object into a local file; returns its sha256. Memory stays flat."""
        import obstore

        try:
            if not self.settings.is_s3:  # the kernel copies; through obstore it costs four times
                with self._speaking(key), speaking_of_disk(path):
                    obstore.head(self.store, key)  # a hostile key is refused as everywhere
                    shutil.copyfile(self.settings.lake_folder / key, path)
                return sha256_of(path)
            digest = hashlib.sha256()
            got = self._patiently(key, lambda: obstore.get(self.store, key))
            chunks = got.stream(min_chunk_size=CHUNK)
            with speaking_of_disk(path), path.open("wb") as file:
                while True:
                    with self._speaking(key):
                        chunk = next(chunks, None)
                    if chunk is None:
                        return digest.hexdigest()
                    digest.update(chunk)
                    file.write(chunk)
        except LakeError:
            if path.is_file():
                path.unlink()  # half a file is of no use, and the disk may be full
            raise

    def open(self, key: str, size: int | None = None) -> BinaryIO:
        """A seekable reader; on S3 it fetches ranges as they are read. Close it, or use `with`.

        With `size`, an object of another size is an error (`lake_damaged`), now or when read.
        """
        if not self.settings.is_s3:
            with self._speaking(key):
                file = (self.settings.lake_folder / key).open("rb")
            if size is not None and os.fstat(file.fileno()).st_size != size:
                file.close()
                raise self._damaged(key, f"it does not have the {size:,} bytes that were written")
            return file
        if size is None:
            found = self.stat(key)
            if found is None:
                raise lake_error("lake_not_found", "nothing is stored here", f"{self.url}/{key}")
            size = found.size
        return io.BufferedReader(
            RangeReader(partial(self.read_range, key), size), buffer_size=1 << 20
        )

    def read_range(self, key: str, start: int, length: int) -> bytes:
        """`length` bytes of an object from `start` on, never fewer."""
        import obstore

        data = self._patiently(
            key, lambda: bytes(obstore.get_range(self.store, key, start=start, length=length))
        )
        if len(data) != length:
            raise self._damaged(key, f"{len(data):,} bytes came where {length:,} should be")
        return data

    # -- reading what `publish` wrote ---------------------------------------------------------

    def read_published(self, document: dict[str, Any], name: str) -> bytes:
        """A whole file of a published document, its sha256 verified (else `lake_damaged`)."""
        key, sha256 = document["files"][name]["key"], document["files"][name]["sha256"]
        for _ in range(DAMAGE_ATTEMPTS):
            data = self.read(key)
            if hashlib.sha256(data).hexdigest() == sha256:
                return data
        raise self._damaged(key, "its sha256 is not the one that was written")

    def fetch_published(self, document: dict[str, Any], name: str, path: Path) -> None:
        """`fetch` a file of a published document, its sha256 verified (else `lake_damaged`)."""
        key, sha256 = document["files"][name]["key"], document["files"][name]["sha256"]
        for _ in range(DAMAGE_ATTEMPTS):
            if self.fetch(key, path) == sha256:
                return
        path.unlink()
        raise self._damaged(key, "its sha256 is not the one that was written")

    def open_published(self, document: dict[str, Any], name: str) -> BinaryIO:
        """`open` a file of a published document; its size is verified, and each block of it that
        is read (not of files that were published before blocks had hashes)."""
        entry = document["files"][name]
        key, size = entry["key"], entry["bytes"]
        if "blocks" not in entry:
            return self.open(key, size)
        damaged = partial(self._damaged, key, "a part of it is not what was written")
        if self.settings.is_s3:
            return verified(partial(self.read_range, key), size, entry["blocks"], damaged)
        file = self.open(key, size)
        return verified(partial(_read_at, file), size, entry["blocks"], damaged, file.close)

    # -- writing ------------------------------------------------------------------------------

    def write(self, key: str, data: bytes | Path) -> None:
        """Write the object in one atomic step, replacing what was there."""
        import obstore

        def put() -> None:
            obstore.put(self.store, key, data)

        if isinstance(data, bytes | Path):
            self._patiently(key, put)
        else:  # an open file, which cannot be read twice
            with self._speaking(key):
                put()
        if not self.settings.is_s3:
            remove_leftovers(self.settings.lake_folder / key)

    def write_json(self, key: str, document: dict[str, Any]) -> None:
        """Write the document with a hash of itself, in one atomic step."""
        self.write(key, packed(document))

    def create_json(self, key: str, document: dict[str, Any]) -> bool:
        """Write the document unless another is there; says whether what is there is ours. Atomic.

        An answer that is lost on its way is no reason to say False: the stored bytes decide. So
        of two that create the very same document both hear True; who must know which of them it
        was puts something unique into it.
        """
        import obstore

        data = packed(document)
        for more in tries(lake_s3.PATIENCE):
            try:
                with self._speaking(key):
                    obstore.put(self.store, key, data, mode="create")
            except obstore.exceptions.AlreadyExistsError:
                return self.read(key) == data
            except LakeError as error:  # obstore repeats no conditional write after a reset
                if error.code != "lake_unreachable" or not self.settings.is_s3 or not more:
                    raise
            else:
                return True
        raise AssertionError("the last try returns or raises")

    def delete(self, key: str) -> None:
        """Delete one object; that there is none is no error, on S3 as in a folder."""
        import obstore

        with self._speaking(key):
            if self.settings.is_s3:  # obstore does not repeat a delete after a reset
                bucket = self.settings.bucket_and_prefix[0]
                self.s3_client.delete_object(Bucket=bucket, Key=self._full(key))
                return
            with suppress(obstore.exceptions.NotFoundError, FileNotFoundError):
                obstore.delete(self.store, key)

    @property
    def can_move(self) -> bool:
        """Whether `move` is safe here. Some servers that speak S3 cannot delete on a condition."""
        if not self.settings.is_s3:
            return True
        with self._speaking(PROBES):
            return deletes_conditionally(
                self.s3_client, self.settings.bucket_and_prefix[0], self._full("")
            )

    def move(self, source_key: str, target_key: str, etag: str) -> bool:
        """Move the object if it is still the one with this ETag; the target is replaced.

        True: the object is at the target and no longer at the source, also if it was before, so
        it is safe to repeat, after a crash at any point and from several processes at once.
        False: something else lies at the source by now and was left alone (the target may hold
        the older object, whole), or nothing lies at either, or `can_move` is False. In a folder
        the file keeps its time and ETag; on S3 the copy is modified now, and a copy in parts
        (above 5 GB) has another ETag.
        """
        if not self.can_move:
            return False
        with self._speaking(source_key):
            if not self.settings.is_s3:
                return move_in_folder(self.settings.lake_folder, source_key, target_key, etag)
            return move_in_s3(
                self.s3_client,
                self.settings.bucket_and_prefix[0],
                self._full(source_key),
                self._full(target_key),
                etag,
            )

    def publish(
        self,
        pointer: str,
        files: Mapping[str, Path | Mapping[str, Any]],
        document: dict[str, Any],
    ) -> dict[str, Any]:
        """Publish files and the document that names them, whole or not at all.

        Each file goes to a key that holds its sha256, so a repeat writes the same bytes to the
        same place and a reader never sees half of it; `pointer` is replaced last, in one step.
        Of a file that another document names already, its entry there is given: nothing is copied.
        Returns the document as written: `document` with `files`: {name: {key, sha256, bytes,
        blocks}}.
        """
        written = {
            name: self.put_published(pointer, name, file) if isinstance(file, Path) else dict(file)
            for name, file in files.items()
        }
        document = {**document, "files": written, "published_at": utc_now()}
        self.write_json(pointer, document)
        return document

    def put_published(self, pointer: str, name: str, path: Path) -> dict[str, Any]:
        """One file of `publish`; returns what its document says of it."""
        sha256 = sha256_of(path)
        key = published_key(pointer, name, sha256)
        self.write(key, path)
        facts = {"key": key, "sha256": sha256, "bytes": path.stat().st_size}
        return {**facts, "blocks": hashes_of(path)}

    # -- errors -------------------------------------------------------------------------------

    def _patiently(self, key: str, request: Callable[[], T]) -> T:
        """A request of obstore that may be repeated.

        obstore repeats what fails, but not where an answer breaks off that tells of a failure: of
        an object that is not there, or of a store that is too busy.
        """
        for more in tries(lake_s3.PATIENCE):
            try:
                with self._speaking(key):
                    return request()
            except LakeError as error:
                if not (more and self.settings.is_s3 and broke_off(error)):
                    raise
        raise AssertionError("the last try returns or raises")

    def _speaking(self, key: str) -> AbstractContextManager[None]:
        return speaking(lambda: f"{self.url}/{key}", folder=not self.settings.is_s3)

    def _damaged(self, key: str, what: str) -> LakeError:
        return lake_error("lake_damaged", what, f"{self.url}/{key}")


def _read_at(file: BinaryIO, start: int, length: int) -> bytes:
    file.seek(start)
    return file.read(length)


def _of_file(key: str, stat: os.stat_result) -> LakeObject:
    return LakeObject(
        key=key,
        size=stat.st_size,
        etag=etag_of_file(stat),
        modified=datetime.fromtimestamp(stat.st_mtime, UTC),
    )
