"""The images of an upload that its rows name by address: fetched once, and kept with the upload.

What came is what the upload holds from then on, however often it is received again; so are the
verdicts on what did not come, until a person asks anew (`mm retry`). If nothing answers at all,
the network is at fault and not the addresses: then the try fails and is repeated, TRIES times.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.errors import LakeError
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import of_upload
from mm_assets.lake.s3 import Patience
from mm_assets.reading.addresses import AllowList, FetchRefused
from mm_assets.reading.buckets import SCHEME, Buckets
from mm_assets.reading.fetch_many import Addresses, Answer
from mm_assets.uploads.delivered import Delivered
from mm_assets.uploads.withdrawals import ROUND

if TYPE_CHECKING:
    import pyarrow.parquet as pq

MOST_BYTES = 32 << 20  # of one image; AT_ONCE of them may be in memory
SECONDS = 30.0  # for one image and one try, with its redirects
TRIES = 3  # of the upload, in which no address answers at all
PATIENCE = Patience(attempts=2, connecting=5.0, silence=SECONDS)
GROUP_BYTES = 8 << 20
FETCHED, FETCHING = "fetched", "fetching"
Progress = Callable[[str], None]


def addresses_of(spec: DatasetSpec, settings: Settings) -> Addresses:
    """What a dataset's rows may name: hosts by its YAML, buckets by the settings.

    Raises UsageError for a host that is none.
    """
    allowed = AllowList.of(spec.allow_urls, settings.hosts_inside)
    buckets = Buckets(settings.buckets_allowed, settings, most_bytes=MOST_BYTES, patience=PATIENCE)
    return Addresses(allowed, buckets, most_bytes=MOST_BYTES, seconds=SECONDS)


def refusing(spec: DatasetSpec, fetch: Fetching | None) -> Callable[[str], FetchRefused | None]:
    """What says why nothing is fetched from an address; on a sender's machine by the YAML alone."""
    if fetch is not None:
        return fetch.refusal
    allowed = AllowList.of(spec.allow_urls)

    def refusal(address: str) -> FetchRefused | None:
        try:
            if not address.lower().startswith(SCHEME):
                allowed.target(address)
        except FetchRefused as error:
            return error
        return None

    return refusal


def not_fetched(spec: DatasetSpec, addresses: Iterable[str]) -> Iterator[Delivered]:
    """The addresses that will be refused, as far as a sender's machine can tell."""
    judge = refusing(spec, None)
    for address in addresses:
        if (error := judge(address)) is not None:
            yield _refused(address, error.code, error.reason)


class Fetching:
    """Fetches what rows name by address; keeps it, if it is of an upload."""

    def __init__(
        self, spec: DatasetSpec, settings: Settings, kept: tuple[Lake, str] | None = None
    ) -> None:
        """settings: what is allowed, and S3. kept: the lake and the upload."""
        self._addresses = addresses_of(spec, settings)
        self._kept = _Kept(*kept, spec.dataset) if kept else None

    def refusal(self, address: str) -> FetchRefused | None:
        """Why nothing is fetched from an address, whatever is there."""
        try:
            self._addresses.place(address)
        except FetchRefused as error:
            return error
        return None

    def take(
        self, addresses: Sequence[str], folder: Path, progress: Progress
    ) -> Iterator[Delivered]:
        """What is at each address, as a file of its name; one that did not come has a problem.

        Raises LakeError (images_unreachable) if the try is to be repeated.
        """
        kept = self._kept.read() if self._kept else []
        known = {row for file in kept for row in file.addresses}
        left = [one for one in dict.fromkeys(addresses) if one not in known]
        refused = {one: error for one in left if (error := self.refusal(one)) is not None}
        left = [one for one in left if one not in refused]
        if left:
            new = _File(folder / "fetched.parquet")
            self._fetch(left, new, progress)
            kept = self._settle(kept, new)
        wanted = set(addresses)
        for file in kept:
            yield from file.delivered(wanted)
        for address, error in refused.items():
            yield _refused(address, error.code, error.reason)

    def _fetch(self, addresses: Sequence[str], new: _File, progress: Progress) -> None:
        spoken = time.monotonic()

        def keep(address: str, answer: Answer) -> None:
            nonlocal spoken
            new.add(address, answer)
            if time.monotonic() - spoken > 5:
                spoken = time.monotonic()
                progress(f"{new.said:,} of {len(addresses):,} addresses asked for an image")

        try:
            self._addresses.fetch(addresses, keep)
        finally:
            new.close()
        came = new.said - new.failed
        progress(f"{came:,} of {len(addresses):,} images fetched from their addresses")

    def _settle(self, kept: list[_File], new: _File) -> list[_File]:
        if self._kept is None:
            return [*kept, new]
        if new.passing == new.said and not any(file.has_images for file in kept):
            self._kept.count_try(new)
        return self._kept.write(new)


class _Kept:
    """What was fetched for an upload, in the lake: a document for each round of tries."""

    def __init__(self, lake: Lake, upload: str, dataset: str) -> None:
        self._lake = lake
        self._dataset = dataset
        self._upload = upload
        self._round = int((lake.read_json(self._key(ROUND)) or {"round": 0})["round"])

    def _key(self, name: str) -> str:
        return of_upload(self._dataset, self._upload, name)

    def _pointer(self, number: int) -> str:
        return self._key(f"{FETCHED}-{number:03d}")

    def _document(self) -> tuple[int, dict[str, Any]]:
        """The newest document and its round; (-1, …) if there is none."""
        for number in range(self._round, -1, -1):
            if document := self._lake.read_json(self._pointer(number)):
                return number, document
        return -1, {"files": {}}

    def read(self) -> list[_File]:
        """What came, and of this round also what did not."""
        number, document = self._document()
        return [
            _File(lambda name=name: self._lake.open_published(document, name),  # type: ignore[misc]
                  failures=document["rounds"][name] == number == self._round)
            for name in sorted(document["files"])
        ]  # fmt: skip

    def write(self, new: _File) -> list[_File]:
        """Keep what was fetched; of two runs at the same time the first one's counts."""
        number, before = self._document()
        assert isinstance(new.place, Path)  # noqa: S101
        name = f"fetched-{self._round:03d}-{len(before['files']):03d}.parquet"
        file = self._lake.put_published(self._pointer(self._round), name, new.place)
        document = {
            "files": {**before["files"], name: file},
            "rounds": {**before.get("rounds", {}), name: self._round},
        }
        if number == self._round:
            self._lake.write_json(self._pointer(self._round), document)
        else:
            self._lake.create_json(self._pointer(self._round), document)
        return self.read()

    def count_try(self, new: _File) -> None:
        """Raises LakeError unless there were enough tries."""
        before = self._lake.read_json(self._key(FETCHING)) or {}
        tries = (before["tries"] if before.get("round") == self._round else 0) + 1
        if tries >= TRIES:
            return
        self._lake.write_json(self._key(FETCHING), {"round": self._round, "tries": tries})
        raise LakeError(
            code="images_unreachable",
            what=f"none of {new.said:,} addresses of images answers ({new.first}); this was try "
            f"{tries} of {TRIES}, after which the records go on without their images",
            where=self._upload,
            todo="Look at the network; the upload is tried again.",
        )


class _File:
    """Parquet: address, sha256 and content of what came; code and reason of what did not."""

    def __init__(self, place: Path | Callable[[], BinaryIO], *, failures: bool = True) -> None:
        """place: a new file, or how to open one. failures: whether they still count."""
        self.place = place
        self.said = self.failed = self.passing = 0
        self.first = ""  # failure, in words
        self._failures = failures
        self._rows: list[tuple[Any, ...]] = []
        self._bytes = 0
        self._writer: pq.ParquetWriter | None = None

    def add(self, address: str, answer: Answer) -> None:
        self.said += 1
        if isinstance(answer, FetchRefused):
            self.failed += 1
            self.passing += answer.passing
            self.first = self.first or answer.reason
            self._rows.append((address, None, None, answer.code, answer.reason))
        else:
            digest = hashlib.sha256(answer).hexdigest()
            self._rows.append((address, digest, answer, None, None))
            self._bytes += len(answer)
        if self._bytes >= GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        text = pa.string()
        schema = pa.schema([("address", text), ("sha256", text), ("content", pa.binary()),
                            ("code", text), ("reason", text)])  # fmt: skip
        if self._writer is None:
            assert isinstance(self.place, Path)  # noqa: S101
            self._writer = pq.ParquetWriter(
                self.place, schema, compression="none", use_dictionary=False
            )
        columns = zip(*self._rows, strict=True) if self._rows else ((),) * len(schema)
        arrays = [pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
        self._rows, self._bytes = [], 0

    def close(self) -> None:
        self._flush()
        assert self._writer is not None  # noqa: S101
        self._writer.close()

    @property
    def addresses(self) -> list[str]:
        """Those that need not be asked."""
        return [address for address, code in self._listed() if self._failures or code is None]

    @property
    def has_images(self) -> bool:
        return any(code is None for _, code in self._listed())

    def _listed(self) -> Iterable[tuple[str, str | None]]:
        import pyarrow.parquet as pq

        with self._open() as handle:
            listed = pq.read_table(handle, columns=["address", "code"])
        return zip(listed["address"].to_pylist(), listed["code"].to_pylist(), strict=True)

    def _open(self) -> BinaryIO:
        return self.place.open("rb") if isinstance(self.place, Path) else self.place()

    def delivered(self, wanted: set[str]) -> Iterator[Delivered]:
        """What it says of these addresses, a row group at a time."""
        import pyarrow.parquet as pq

        with self._open() as handle:
            packed = pq.ParquetFile(handle)
            for group in range(packed.num_row_groups):
                for row in packed.read_row_group(group).to_pylist():
                    if row["address"] not in wanted:
                        continue
                    if row["code"] is None:
                        data = row["content"]
                        yield Delivered(row["address"], len(data), row["sha256"], data)
                    elif self._failures:
                        yield _refused(row["address"], row["code"], row["reason"])


def _refused(address: str, code: str, reason: str) -> Delivered:
    return Delivered(address, 0, "", b"", problem=code, reason=reason)
