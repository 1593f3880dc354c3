"""Images by address: URLs and buckets that were allowed, and what the lake has already."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.errors import MMError
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.lake.s3 import Patience
from mm_assets.reading.addresses import AllowList, FetchRefused
from mm_assets.reading.buckets import SCHEME, Buckets
from mm_assets.reading.fetch import SECONDS, Fetcher
from mm_assets.reading.images import NormalisedImage
from mm_assets.serving.options import Options
from mm_assets.serving.reading import Fault, Images

AT_ONCE = 8  # objects read at the same time; each may hold as much as a body
# A client waits, so a try is soon given up.
PATIENCE = Patience(attempts=2, connecting=3.0, silence=SECONDS)
STORE_SECONDS = 5.0  # for a table that another process holds


def allow_list(options: Options) -> AllowList:
    """The hosts of the options; a private host need not be named twice. Raises UsageError."""
    return AllowList.of((*options.allow_urls, *options.private_hosts), options.private_hosts)


class Fetching:
    """Fetches images for a service."""

    def __init__(self, options: Options, settings: Settings) -> None:
        """settings: where the lake is, and S3. Raises UsageError for a host that is none."""
        self._allowed = allow_list(options)
        self._fetcher: Fetcher | None = None
        self._buckets = Buckets(
            options.allow_buckets, settings, most_bytes=options.most_bytes, patience=PATIENCE
        )
        # What was exported needs no lake, so none is asked.
        self._has_lake = bool(options.datasets) or not options.models
        self._stored = _Stored(settings)
        self._most_bytes = options.most_bytes
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="fetch")

    async def __call__(self, spec: DatasetSpec, address: str) -> Images:
        """The image at `http(s)://…`, `s3://bucket/key`, or of a name that the lake knows."""
        begin = address[:8].lower()
        if begin.startswith(("http://", "https://")):
            return await self._by_url(address)
        if begin.startswith(SCHEME):
            return await self._in_thread(self._of_bucket, address)
        if not self._has_lake:
            return Fault("image_not_known", "this service has no lake")
        return await self._in_thread(self._stored.get, spec, address)

    async def aclose(self) -> None:
        """Close the connections that were kept."""
        if self._fetcher is not None:
            await self._fetcher.aclose()
            self._fetcher = None

    async def _by_url(self, url: str) -> bytes | Fault:
        if self._fetcher is None:
            self._fetcher = Fetcher(self._allowed, most_bytes=self._most_bytes)
        try:
            return await self._fetcher.get(url)
        except FetchRefused as error:
            return Fault(error.code, error.reason)

    def _of_bucket(self, address: str) -> bytes | Fault:
        try:
            return self._buckets.get(address)
        except FetchRefused as error:
            return Fault(error.code, error.reason)

    async def _in_thread(self, work: Callable[..., Any], *arguments: Any) -> Any:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(SECONDS + STORE_SECONDS):
                return await loop.run_in_executor(self._threads, work, *arguments)
        except TimeoutError:
            return Fault("object_failed", "it took too long")


class _Stored:
    """The images that came with uploads, as they were normalised then."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @cached_property
    def _lake(self) -> Lake:
        return Lake(self._settings)

    def get(self, spec: DatasetSpec, name: str) -> Images:
        """name: that of the file, or where names of files yield no IDs, the ID of its record.

        With `images: all`, the ID stands for all images of the record.
        """
        named = spec.named_image(name)
        record_id = named.record_id if named and named.record_id else name
        try:
            found = self._newest(spec, record_id)
            files = [] if found is None else self._files(spec, found)
            is_whole = spec.all_images and record_id == name
            if named and not is_whole:
                files = [(file, sha256) for file, sha256 in files if _is_named(file, name)][:1]
            if found is None or not files:
                return Fault("image_not_known", f"{name[:80]!a} is no record's newest image")
            upload = found["image_upload"]
            images: list[Any] = [self._image(spec, upload, sha256) for _, sha256 in files]
            several: Images = images if spec.all_images and (is_whole or not named) else images[0]
            return several
        except MMError as error:
            return Fault("object_failed", f"[{error.code}] {error.what}")

    def _newest(self, spec: DatasetSpec, record_id: str) -> dict[str, Any] | None:
        """Where the newest image of a record is."""
        import pyarrow as pa

        from mm_assets.tables.open import open_store

        if not (self._settings.is_dynamodb or self._settings.table_path.exists()):
            return None  # nothing was taken in yet, and no table is to be made here
        try:
            wanted = pa.array([record_id], pa.string())
        except UnicodeError:
            return None
        store = open_store(self._settings, STORE_SECONDS)
        (row,) = store.look_up(spec.dataset, wanted).to_pylist()
        return row if row["image_upload"] is not None else None

    def _files(self, spec: DatasetSpec, found: dict[str, Any]) -> list[tuple[str, str]]:
        """The file and the sha256 of each of a record's images, as far as models see them."""
        from mm_assets.manifest.image_sets import files_of

        if not spec.all_images:
            return [(found["image_file"], found["image_sha256"])]
        return files_of(self._lake, spec.dataset, found)

    def _image(self, spec: DatasetSpec, upload: str, sha256: str) -> NormalisedImage:
        import pyarrow as pa

        from mm_assets.uploads.received import read_image_features, read_images

        (data,) = (some[sha256] for some in read_images(self._lake, spec.dataset, upload, {sha256}))
        measured: dict[str, float] = {}
        if spec.image_features:
            listed = read_image_features(self._lake, spec, upload, pa.array([sha256]))
            (row,) = listed["features"].to_pylist()
            measured = {feature.value: row[feature.column] for feature in spec.image_features}
        return NormalisedImage(data, 0, 0, measured, b"")  # of the rest nobody asks


def _is_named(file: str, name: str) -> bool:
    """Whether a file of an upload is the one that is named, with its folder or without."""
    return file == name or file.rpartition("/")[2] == name
