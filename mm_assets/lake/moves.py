"""Moving one object to another key without ever losing a newer one that takes its place meanwhile.

In a folder: the file gets a second name at the target, and its old name is set aside, looked at,
and only then removed. On S3: a copy on the server's side, then a delete that the server carries
out only if the object is still the one that was copied. Not every server that speaks S3 keeps that
condition, so it is tried out once on an object of our own.
"""

from __future__ import annotations

import itertools
import os
import re
import secrets
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from mm_assets.contract.errors import LakeError

# A name that a mover holds for a moment. Listings leave it out, as all that ends in `#digits`.
_ASIDE = re.compile(r"(?P<name>.+)#moving#\d+", re.DOTALL)
MOVING_AGE = 60.0  # seconds; a name held for longer was left by a mover that was killed
WRITING_AGE = 3600.0  # seconds since the last byte; a writer that is alive writes on
KEPT_LEVELS = 2

COPY_WHOLE = 5_000_000_000  # bytes; S3 copies larger objects in parts only
COPY_PART = 512 << 20
PROBES = "probes/"  # objects of our own that are there for a moment
DELETE_ATTEMPTS = 5


def etag_of_file(stat: os.stat_result) -> str:
    """What tells two contents of a file apart without reading it: its time and its size."""
    return f"{stat.st_mtime_ns:x}-{stat.st_size:x}"


# -- a folder -------------------------------------------------------------------------------------


def move_in_folder(root: Path, source_key: str, target_key: str, etag: str) -> bool:
    """As `Lake.move`. Killed at any point, it leaves the file under at least one of its names."""
    source, target = root / source_key, root / target_key
    target.parent.mkdir(parents=True, exist_ok=True)
    coming = _aside(target)
    try:
        os.link(source, coming, follow_symlinks=False)
    except FileNotFoundError:  # it was moved before, or it is gone
        return _etag(target) == etag
    try:
        if _etag(coming) != etag:
            return False
        coming.replace(target)
    finally:
        coming.unlink(missing_ok=True)  # rename leaves it where both names are one file already
    leaving = _aside(source)
    try:
        source.rename(leaving)
    except FileNotFoundError:  # somebody else has moved it
        return _etag(target) == etag
    if _etag(leaving) == etag:
        leaving.unlink()
        _remove_emptied(root, source.parent)
        return True
    if leaving.exists() and target.exists() and leaving.samefile(target):
        target.unlink()  # it was written into in place: what was to be moved is no more
    put_back(leaving, source)
    return False


def _remove_emptied(root: Path, folder: Path) -> None:
    """As on S3, no folder stays without files; the two upper levels do (`inbox/<dataset>`)."""
    while len(folder.relative_to(root).parts) > KEPT_LEVELS:
        try:
            folder.rmdir()
        except OSError:  # not empty, or not there
            return
        folder = folder.parent


def put_back(aside: Path, name: Path) -> None:
    """Give a file that was set aside its name again, unless that is taken by a newer one."""
    with suppress(FileExistsError, FileNotFoundError):
        os.link(aside, name)
    aside.unlink(missing_ok=True)


def clean_up(entry: os.DirEntry[str]) -> None:
    """Put right what a mover that was killed has left under a name that listings leave out."""
    match = _ASIDE.fullmatch(entry.name)
    if match is None:
        return
    try:
        stat = entry.stat(follow_symlinks=False)
        if time.time() - stat.st_ctime < MOVING_AGE:
            return
        aside = Path(entry.path)
        if stat.st_nlink > 1:
            aside.unlink()
        else:
            put_back(aside, aside.with_name(match["name"]))
    except OSError:  # one that may only read, or another that was faster
        return


def remove_leftovers(path: Path) -> None:
    """Remove what a writer of this file left when it was killed: obstore writes to `name#1`, …"""
    for number in itertools.count(1):
        leftover = path.with_name(f"{path.name}#{number}")
        try:
            if time.time() - leftover.lstat().st_mtime > WRITING_AGE:
                leftover.unlink()
        except OSError:
            return


def _aside(path: Path) -> Path:
    return path.with_name(f"{path.name}#moving#{secrets.randbelow(10**18)}")


def _etag(path: Path) -> str | None:
    try:
        return etag_of_file(path.lstat())
    except FileNotFoundError:
        return None


# -- S3 -------------------------------------------------------------------------------------------


def move_in_s3(client: Any, bucket: str, source: str, target: str, etag: str) -> bool:
    """As `Lake.move`. `source` and `target` are whole keys of the bucket. Repeatable at any point.

    Ask `deletes_conditionally` before. Raises ClientError, and LakeError if the copy is not whole.
    """
    there = _head(client, bucket, source)
    if there is None:
        return _head(client, bucket, target) is not None
    if there["ETag"].strip('"') != etag:
        return False
    if not _copy(client, bucket, source, target, etag):
        # It went or was replaced meanwhile; if it went, then another has moved it.
        gone = _head(client, bucket, source) is None
        return gone and _head(client, bucket, target) is not None
    copied = _head(client, bucket, target)
    if copied is None or copied["ContentLength"] != there["ContentLength"]:
        raise LakeError(
            code="lake_damaged",
            what=f"the copy does not have the {there['ContentLength']:,} bytes of its source",
            where=f"s3://{bucket}/{target}",
            todo="Nothing; the source is still there, and moving it is tried again.",
        )
    return _delete_if(client, bucket, source, etag)


def _copy(client: Any, bucket: str, source: str, target: str, etag: str) -> bool:
    """Copy the object on the server's side; False if it is gone or another by now."""
    from boto3.s3.transfer import TransferConfig
    from botocore.exceptions import ClientError
    from s3transfer.exceptions import S3CopyFailedError

    try:
        client.copy(
            {"Bucket": bucket, "Key": source},
            bucket,
            target,
            ExtraArgs={"CopySourceIfMatch": f'"{etag}"'},
            Config=TransferConfig(multipart_threshold=COPY_WHOLE, multipart_chunksize=COPY_PART),
        )
    except S3CopyFailedError:  # another between two parts
        return False
    except ClientError as error:
        if status_of(error) not in (404, 412):
            raise
        return False
    return True


def _delete_if(client: Any, bucket: str, key: str, etag: str) -> bool:
    """Delete the object if it is still this one; whether it is gone."""
    from botocore.exceptions import ClientError

    for _ in range(DELETE_ATTEMPTS):
        try:
            client.delete_object(Bucket=bucket, Key=key, IfMatch=f'"{etag}"')
        except ClientError as error:
            if status_of(error) not in (404, 409, 412):
                raise
        # After a lost answer the first try may have done it; what is there now decides.
        there = _head(client, bucket, key)
        if there is None:
            return True
        if there["ETag"].strip('"') != etag:
            return False
    return False


_conditional: dict[tuple[str, str], bool] = {}
_asking = threading.Lock()


def deletes_conditionally(client: Any, bucket: str, prefix: str) -> bool:
    """Whether this server leaves an object alone whose ETag is not the one named in a delete.

    Found out once in a process for each bucket, with an object of our own below `prefix`.
    """
    known = (client.meta.endpoint_url, bucket)
    with _asking:
        if known not in _conditional:
            _conditional[known] = _try_out(client, bucket, f"{prefix}{PROBES}{uuid.uuid4().hex}")
        return _conditional[known]


def _try_out(client: Any, bucket: str, key: str) -> bool:
    from botocore.exceptions import ClientError

    etag = client.put_object(Bucket=bucket, Key=key, Body=b"does If-Match hold?")["ETag"]
    try:
        client.delete_object(Bucket=bucket, Key=key, IfMatch='"00000000000000000000000000000000"')
        refused = False
    except ClientError as error:
        if status_of(error) not in (412, 400, 501):
            raise
        refused = status_of(error) == 412
    if not refused:
        client.delete_object(Bucket=bucket, Key=key)
        return False
    if _head(client, bucket, key) is None:
        return False
    # Conditions are all that a bucket's policy may allow, so ours goes with one as well.
    return _delete_if(client, bucket, key, etag.strip('"'))


def _head(client: Any, bucket: str, key: str) -> Any:
    from botocore.exceptions import ClientError

    try:
        return client.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if status_of(error) != 404:
            raise
        return None


def status_of(error: Any) -> int:
    """The HTTP status in a botocore ClientError, 0 without one."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
