"""Where bytes live: one small interface over a folder and over S3.

Keys are relative, '/'-separated. Listing goes through boto3 (or the file system), because one
hostile key such as `a//b` or `a/../b` makes obstore refuse a whole listing. Bytes move through
obstore, which streams, retries and writes atomically. Every write is one atomic step; what must
appear together is published by one pointer document that is written last (`publish`).
"""

from __future__ import annotations

import builtins
import hashlib
import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from mm_assets.errors import LakeError
from mm_assets.settings import Settings

if TYPE_CHECKING:
    from obstore.store import ObjectStore

CHUNK = 4 << 20


@dataclass(frozen=True, slots=True)
class LakeObject:
    """One object of a listing. `modified` is in UTC; `size` in bytes."""

    key: str
    size: int
    etag: str
    modified: datetime


class Lake:
    """The lake. Make one with `Lake.open(settings)`; it is cheap and can be pickled not at all."""

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
        """The boto3 client, configured by dagster-aws's S3Resource from the settings."""
        if self._s3_client is None:
            from dagster_aws.s3 import S3Resource

            try:
                self._s3_client = S3Resource(
                    endpoint_url=self.settings.aws_endpoint_url, region_name=self.settings.region
                ).get_client()
            except ValueError as error:  # an endpoint that is no URL
                raise _unreachable(str(error), self.url) from None
        return self._s3_client

    @property
    def store(self) -> ObjectStore:
        if self._store is None:
            from obstore.store import LocalStore, S3Store

            if not self.settings.is_s3:
                self.settings.lake_folder.mkdir(parents=True, exist_ok=True)
                self._store = LocalStore(self.settings.lake_folder)
            else:
                bucket, prefix = self.settings.bucket_and_prefix
                endpoint = self.settings.aws_endpoint_url
                self._store = S3Store(
                    bucket,
                    prefix=prefix or None,
                    region=self.settings.region,
                    endpoint=endpoint,
                    credential_provider=_credentials_of(self.s3_client),
                    client_options={"allow_http": bool(endpoint and endpoint.startswith("http:"))},
                )
        return self._store

    # -- reading ------------------------------------------------------------------------------

    def list(self, prefix: str) -> Iterator[LakeObject]:
        """Every object below `prefix` (which ends in '/'), by key. Streams page by page on S3."""
        if not self.settings.is_s3:
            with self._speaking(prefix):
                yield from self._list_folder(prefix)
            return
        bucket, base = self.settings.bucket_and_prefix
        base = f"{base}/" if base else ""
        pages = self.s3_client.get_paginator("list_objects_v2").paginate(
            Bucket=bucket, Prefix=base + prefix
        )
        with self._speaking(prefix):
            for page in pages:
                for item in page.get("Contents", []):
                    yield LakeObject(
                        key=item["Key"][len(base) :],
                        size=item["Size"],
                        etag=item["ETag"].strip('"'),
                        modified=item["LastModified"].astimezone(UTC),
                    )

    def _list_folder(self, prefix: str) -> Iterator[LakeObject]:
        try:
            with os.scandir(self.settings.lake_folder / prefix) as found:
                entries = [(entry, entry.is_dir(follow_symlinks=False)) for entry in found]
        except FileNotFoundError:
            return
        # A folder's name counts with its '/', so that keys come in the order that S3 gives them.
        for entry, is_folder in sorted(entries, key=lambda e: e[0].name + "/" * e[1]):
            # obstore writes to a `name#number` beside the target before it renames.
            being_written = "#" in entry.name and entry.name.rpartition("#")[2].isdigit()
            if is_folder:
                yield from self._list_folder(f"{prefix}{entry.name}/")
            elif entry.is_file(follow_symlinks=False) and not being_written:
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
        bucket, base = self.settings.bucket_and_prefix
        full = f"{base}/{prefix}" if base else prefix
        pages = self.s3_client.get_paginator("list_objects_v2").paginate(
            Bucket=bucket, Prefix=full, Delimiter="/"
        )
        with self._speaking(prefix):
            return sorted(
                item["Prefix"][len(full) :].rstrip("/")
                for page in pages
                for item in page.get("CommonPrefixes", [])
            )

    def stat(self, key: str) -> LakeObject | None:
        """What a listing would say of one object, or None if there is none."""
        if not self.settings.is_s3:
            path = self.settings.lake_folder / key
            with self._speaking(key):
                if not path.is_file() or path.is_symlink():
                    return None
                return _of_file(key, path.lstat())
        from botocore.exceptions import ClientError

        bucket, base = self.settings.bucket_and_prefix
        with self._speaking(key):
            try:
                head = self.s3_client.head_object(
                    Bucket=bucket, Key=f"{base}/{key}" if base else key
                )
            except ClientError as error:
                if error.response["Error"]["Code"] not in ("404", "NoSuchKey", "NotFound"):
                    raise
                # The answer has no body: only the bucket itself tells whether it is there.
                self.s3_client.head_bucket(Bucket=bucket)
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

        with self._speaking(key):
            return bytes(obstore.get(self.store, key).bytes())

    def read_json(self, key: str) -> dict[str, Any] | None:
        """The document at `key`, or None if there is none."""
        try:
            data = self.read(key)
        except LakeError as error:
            if error.code == "lake_not_found":
                return None
            raise
        return cast("dict[str, Any]", json.loads(data))

    def fetch(self, key: str, path: Path) -> str:
        """Stream the object into a local file; returns its sha256. Memory stays flat."""
        import obstore

        digest = hashlib.sha256()
        with self._speaking(key), path.open("wb") as file:
            for chunk in obstore.get(self.store, key).stream(min_chunk_size=CHUNK):
                digest.update(chunk)
                file.write(chunk)
        return digest.hexdigest()

    def open(self, key: str) -> BinaryIO:
        """A seekable reader; on S3 it fetches ranges as they are read. Close it, or use `with`."""
        with self._speaking(key):
            if not self.settings.is_s3:
                return (self.settings.lake_folder / key).open("rb")
            import obstore

            size = obstore.head(self.store, key)["size"]
        return io.BufferedReader(_RangeReader(self, key, size), buffer_size=1 << 20)

    def read_range(self, key: str, start: int, length: int) -> bytes:
        """`length` bytes of an object from `start` on."""
        import obstore

        with self._speaking(key):
            return bytes(obstore.get_range(self.store, key, start=start, length=length))

    # -- writing ------------------------------------------------------------------------------

    def write(self, key: str, data: bytes | Path) -> None:
        """Write the object in one atomic step, replacing what was there."""
        import obstore

        with self._speaking(key):
            obstore.put(self.store, key, data)

    def write_json(self, key: str, document: dict[str, Any]) -> None:
        self.write(key, json.dumps(document, indent=1, sort_keys=True, default=str).encode())

    def create_json(self, key: str, document: dict[str, Any]) -> bool:
        """Write the document unless one is there already; says whether it wrote. Atomic."""
        import obstore

        data = json.dumps(document, indent=1, sort_keys=True, default=str).encode()
        with self._speaking(key):
            try:
                obstore.put(self.store, key, data, mode="create")
            except obstore.exceptions.AlreadyExistsError:
                return False
        return True

    def delete(self, key: str) -> None:
        import obstore

        with self._speaking(key):
            obstore.delete(self.store, key)

    def publish(
        self, pointer: str, files: dict[str, Path], document: dict[str, Any]
    ) -> dict[str, Any]:
        """Publish files and the document that names them, whole or not at all.

        Each file goes to a key that holds its sha256, so a repeat writes the same bytes to the
        same place and a reader never sees half of it; `pointer` is replaced last, in one step.
        Returns the document as written: `document` with `files`: {name: {key, sha256, bytes}}.
        """
        folder = pointer.rpartition("/")[0]
        written = {}
        for name, path in files.items():
            sha256 = sha256_of(path)
            stem, dot, suffix = name.partition(".")
            key = f"{folder}/{stem}-{sha256[:16]}{dot}{suffix}"
            self.write(key, path)
            written[name] = {"key": key, "sha256": sha256, "bytes": path.stat().st_size}
        document = {**document, "files": written, "published_at": utc_now()}
        self.write_json(pointer, document)
        return document

    # -- errors -------------------------------------------------------------------------------

    @contextmanager
    def _speaking(self, key: str) -> Iterator[None]:
        """Turn what storage libraries raise into LakeError; leave our own handling alone."""
        from botocore.exceptions import BotoCoreError, ClientError
        from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError

        where = f"{self.url}/{key}"
        try:
            yield
        except AlreadyExistsError:
            raise
        except (FileNotFoundError, NotFoundError) as error:
            if "NoSuchBucket" in str(error):
                raise _unreachable("the bucket does not exist", where) from None
            raise LakeError(
                code="lake_not_found",
                what="nothing is stored here",
                where=where,
                todo="Check MM_LAKE, and that the upload was not deleted.",
            ) from None
        except ValueError as error:  # obstore, of a key such as `a//b` or `a/../b`
            raise LakeError(
                code="lake_key",
                what=f"no key that can be read or written: {str(error)[:200]}",
                where=ascii(where),
                todo="Rename it: no empty parts, no '.' or '..', no control characters.",
            ) from error
        except (BaseError, BotoCoreError, ClientError, OSError) as error:
            raise _unreachable(str(error).split("\n")[0][:300], where) from error


def _unreachable(what: str, where: str) -> LakeError:
    return LakeError(
        code="lake_unreachable",
        what=what,
        where=where,
        todo="Run `mm doctor`; check MM_LAKE, AWS_ENDPOINT_URL, the credentials, "
        "permissions and free space.",
    )


class _RangeReader(io.RawIOBase):
    """One object of the lake as a seekable file."""

    def __init__(self, lake: Lake, key: str, size: int) -> None:
        self._lake, self._key, self._size, self._position = lake, key, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readall(self) -> bytes:
        rest = bytearray(max(0, self._size - self._position))
        self.readinto(rest)
        return bytes(rest)

    def readinto(self, buffer: Any) -> int:
        length = min(len(buffer), self._size - self._position)
        if length <= 0:
            return 0
        buffer[:length] = self._lake.read_range(self._key, self._position, length)
        self._position += length
        return length


def _of_file(key: str, stat: os.stat_result) -> LakeObject:
    return LakeObject(
        key=key,
        size=stat.st_size,
        etag=f"{stat.st_mtime_ns:x}-{stat.st_size:x}",
        modified=datetime.fromtimestamp(stat.st_mtime, UTC),
    )


def _credentials_of(s3_client: Any) -> Any:
    """obstore's view of the boto3 client's credentials; refreshed ones stay refreshed."""
    # boto3 has no public way from a client to its credentials.
    resolved = s3_client._request_signer._credentials  # noqa: SLF001
    if resolved is None:
        raise LakeError(
            code="lake_no_credentials",
            what="no AWS credentials were found",
            where="AWS_PROFILE, AWS_ACCESS_KEY_ID, an instance role …",
            todo="Set AWS credentials in any way that boto3 understands.",
        )

    def provide() -> dict[str, Any]:
        frozen = resolved.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": getattr(resolved, "_expiry_time", None),
        }

    return provide


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
