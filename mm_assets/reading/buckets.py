"""Objects of buckets that were allowed, by `s3://bucket/key`."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from threading import Lock
from typing import Any

from mm_assets.contract.errors import MMError
from mm_assets.contract.settings import Settings
from mm_assets.lake.errors import speaking
from mm_assets.lake.s3 import Patience, connect_boto3
from mm_assets.reading.addresses import FetchRefused

SCHEME = "s3://"
LONGEST_KEY = 1024  # bytes, as S3 takes them
_MISSING = ("lake_not_found", "lake_no_bucket")


class Buckets:
    """Reads from these buckets, and from no others."""

    def __init__(
        self, allowed: Iterable[str], settings: Settings, *, most_bytes: int, patience: Patience
    ) -> None:
        """settings: where S3 is. most_bytes: of one object."""
        self._allowed = frozenset(allowed)
        self._most_bytes = most_bytes
        self._settings = settings
        self._patience = patience
        self._connecting = Lock()

    @cached_property
    def _client(self) -> Any:
        return connect_boto3(self._settings, self._patience)

    def target(self, address: str) -> tuple[str, str]:
        """Bucket and key, the key as it is. Raises FetchRefused (bucket_not_allowed, …_missing)."""
        bucket, _, key = address[len(SCHEME) :].partition("/")
        if bucket not in self._allowed:
            said = f"{bucket[:80]!a} is not among the allowed buckets"
            raise FetchRefused("bucket_not_allowed", said)
        if not key or len(key.encode("utf-8", "replace")) > LONGEST_KEY:
            raise FetchRefused("object_missing", "the address holds no key")
        return bucket, key

    def get(self, address: str) -> bytes:
        """An object's bytes. Raises FetchRefused, and nothing else. Of any thread."""
        bucket, key = self.target(address)
        try:
            return self._read(bucket, key)
        except MMError as error:
            code = "object_missing" if error.code in _MISSING else "object_failed"
            passing = code == "object_failed" and error.code not in ("lake_denied", "lake_key")
            said = f"[{error.code}] {error.what}"
            raise FetchRefused(code, said, passing=passing) from None
        except ValueError as error:  # half a character; an endpoint that is no URL
            said = f"the address cannot be asked for: {error}"
            raise FetchRefused("object_failed", said) from None

    def _read(self, bucket: str, key: str) -> bytes:
        with self._connecting:
            client = self._client
        with speaking(lambda: f"s3://{bucket}/{key}", folder=False):
            answer = client.get_object(Bucket=bucket, Key=key)
            with answer["Body"] as body:
                large = answer["ContentLength"] > self._most_bytes
                data: bytes = b"" if large else body.read(self._most_bytes + 1)
        if large or len(data) > self._most_bytes:
            said = f"it has more than {self._most_bytes:,} bytes"
            raise FetchRefused("object_too_large", said)
        return data
