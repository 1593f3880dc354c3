"""What backbones have made of images, kept in the lake, so that none is looked at twice.

A vector lies below its image's home: the upload through which the image first came into the
training set (`image_homes`), or else the upload that it lies in. So an image that is sent again in
another upload is found as well. A file is named by what it holds and written once; one that is
damaged or gone is no error, its images are looked at again. What an engine needs of this class
stands in engines/protocol.py (`Vectors`).
"""

from __future__ import annotations

import hashlib
import io
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mm_assets.contract.errors import LakeError
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import embeddings_prefix, of_dataset
from mm_assets.lake.local import working_folder
from mm_assets.uploads.received import read_parquet

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

IMAGE_HOMES = "image_homes"
CACHE_BYTES = 128 << 20  # of vectors, in a process
# Of an upload as many files are fetched as images are asked for, and these few: to fetch one costs
# about as much as to look at an image.
FILES_FOR_ONE = 8
MOST_FRESH = 4096  # vectors that were written a moment ago; of 1280 numbers they take 10 MB
MOST_HOMES = 4  # datasets whose homes are kept in a process


@dataclass(frozen=True)
class _File:
    """One file of vectors in memory. places: an image's sha256 to its row."""

    places: dict[str, int]
    vectors: np.ndarray  # [images, width] float16


@dataclass(frozen=True)
class _Place:
    """Where an image lies: the sha256 of the original file, and its upload if it is in the lake."""

    original: str
    upload: str | None


_lock = threading.Lock()
_files: OrderedDict[str, _File] = OrderedDict()  # least recently used first
_homes: OrderedDict[str, pa.Table] = OrderedDict()


class LakeVectors:
    """The vectors of a dataset's images. It has to be told where images lie (`lie`)."""

    def __init__(self, lake: Lake, dataset: str, *, most_places: int | None = None) -> None:
        """most_places: images whose place is remembered; None: all, as long as this lives."""
        self.lake = lake
        self.dataset = dataset
        self._most_places = most_places
        self._places: OrderedDict[str, _Place] = OrderedDict()
        self._fresh: OrderedDict[tuple[str, str], np.ndarray] = OrderedDict()

    def lie(self, upload: str | None, images: Mapping[str, bytes]) -> None:
        """Say in which upload images lie; None: in none, so nothing of them is kept.

        images: sha256 of the original file to normalised bytes.
        """
        named = {hashlib.sha256(data).hexdigest(): sha for sha, data in images.items()}
        with _lock:
            for name, original in named.items():
                self._places.pop(name, None)
                self._places[name] = _Place(original, upload)
            while self._most_places is not None and len(self._places) > self._most_places:
                self._places.popitem(last=False)

    def read(self, backbone: str, images: Sequence[str]) -> dict[str, np.ndarray]:
        """As `Vectors.read`: what was just written, then the image's own upload, then its home."""
        fresh = self._just_written(backbone, images)
        wanted = self._placed(name for name in images if name not in fresh)
        own = {name: place.upload for name, place in wanted.items() if place.upload}
        found = self._read(backbone, own)
        unknown = {name: place for name, place in wanted.items() if name not in found}
        homes = self._homes_of(unknown)
        elsewhere = {name: home for name, home in homes.items() if home != own.get(name)}
        return fresh | found | self._read(backbone, elsewhere)

    def write(self, backbone: str, vectors: Mapping[str, np.ndarray]) -> None:
        """As `Vectors.write`. What lies in no upload, or nobody knows where, only stays in memory:
        a model looks at an image for its answer, and again for what is unlike training.
        """
        self._remember(backbone, vectors)
        here = {n: place for n, place in self._placed(vectors).items() if place.upload is not None}
        homes = self._homes_of(here)
        for upload, names in _by_upload({n: homes.get(n) or here[n].upload for n in here}).items():
            data = _packed({name: vectors[name] for name in sorted(names)})
            prefix = embeddings_prefix(self.dataset, upload, backbone)
            self.lake.write(f"{prefix}{_name_of(data)}", data)

    def _just_written(self, backbone: str, images: Iterable[str]) -> dict[str, np.ndarray]:
        with _lock:
            known = {name: self._fresh.get((backbone, name)) for name in images}
        return {name: v.astype("float32") for name, v in known.items() if v is not None}

    def _remember(self, backbone: str, vectors: Mapping[str, np.ndarray]) -> None:
        with _lock:
            for name, vector in vectors.items():
                self._fresh[backbone, name] = vector.astype("float16")
            while len(self._fresh) > MOST_FRESH:
                self._fresh.popitem(last=False)

    def _placed(self, names: Iterable[str]) -> dict[str, _Place]:
        with _lock:
            return {name: self._places[name] for name in names if name in self._places}

    def _read(self, backbone: str, uploads: Mapping[str, str | None]) -> dict[str, np.ndarray]:
        """uploads: an image's sha256 to the upload to look in."""
        found: dict[str, np.ndarray] = {}
        for upload, names in _by_upload(uploads).items():
            left, budget = set(names), FILES_FOR_ONE + len(names)
            for item in self.lake.list(embeddings_prefix(self.dataset, upload, backbone)):
                whole = f"{self.lake.url}/{item.key}"
                file = _in_memory(whole)
                if file is None and budget:
                    budget -= 1
                    file = self._fetched(item.key, whole)
                if file is None:
                    continue
                here = left & file.places.keys()
                found.update({n: file.vectors[file.places[n]].astype("float32") for n in here})
                left -= here
                if not left:
                    break
        return found

    def _fetched(self, key: str, whole: str) -> _File | None:
        """One file of vectors; None if it is gone or is not what was written."""
        try:
            data = self.lake.read(key)
        except LakeError as error:
            if error.code != "lake_not_found":
                raise
            return None
        if _name_of(data) != key.rpartition("/")[2]:
            return None
        file = _unpacked(data)
        with _lock:
            _files[whole] = file
            while sum(one.vectors.nbytes for one in _files.values()) > CACHE_BYTES:
                _files.popitem(last=False)
        return file

    # -- homes --------------------------------------------------------------------------------

    def _homes_of(self, places: Mapping[str, _Place]) -> dict[str, str]:
        """The home of those of the images that are in the training set."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if not places:
            return {}
        homes = _read_homes(self.lake, self.dataset)
        if homes is None:
            return {}
        originals = pa.array({place.original for place in places.values()}, pa.string())
        some = homes.filter(pc.is_in(homes["image_sha256"], originals)).to_pylist()
        known = {row["image_sha256"]: row["home"] for row in some}
        return {n: known[place.original] for n, place in places.items() if place.original in known}


def note_image_homes(lake: Lake, dataset: str, records: pa.Table) -> None:
    """Note for each image of a new training set the upload that first brought it into one.

    records: image_sha256 (of the original file; null for none) and image_upload.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    lying = records.select(["image_sha256", "image_upload"]).filter(
        pc.is_valid(records["image_sha256"])
    )
    now = lying.group_by("image_sha256").aggregate([("image_upload", "min")])
    images, newest = now["image_sha256"].cast(pa.string()), now["image_upload_min"]
    homes = newest.cast(pa.string())
    before = _read_homes(lake, dataset)
    if before is not None and before.num_rows:
        homes = pc.coalesce(before["home"].take(pc.index_in(images, before["image_sha256"])), homes)
    noted = pa.table({"image_sha256": images, "home": homes}).sort_by("image_sha256")
    if before is not None and noted.equals(before):
        return
    with working_folder("homes") as folder:
        path = folder / "image_homes.parquet"
        pq.write_table(noted, path, compression="zstd")
        lake.publish(of_dataset(dataset, IMAGE_HOMES), {path.name: path}, {"dataset": dataset})


def _read_homes(lake: Lake, dataset: str) -> pa.Table | None:
    """`image_sha256` and `home` of the training set's images; read once a process."""
    document = lake.read_json(of_dataset(dataset, IMAGE_HOMES))
    if document is None:
        return None
    whole = f"{lake.url}/{document['files']['image_homes.parquet']['key']}"
    with _lock:
        if whole in _homes:
            return _homes[whole]
    try:
        homes = read_parquet(lake, document, "image_homes.parquet")
    except LakeError as error:
        if error.code not in ("lake_not_found", "lake_damaged"):
            raise
        return None
    with _lock:
        _homes[whole] = homes
        while len(_homes) > MOST_HOMES:
            _homes.popitem(last=False)
    return homes


def _in_memory(whole: str) -> _File | None:
    with _lock:
        if whole in _files:
            _files.move_to_end(whole)
        return _files.get(whole)


# -- the file -------------------------------------------------------------------------------------


def _by_upload(uploads: Mapping[str, str | None]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for name, upload in uploads.items():
        if upload is not None:
            grouped.setdefault(upload, []).append(name)
    return grouped


def _name_of(data: bytes) -> str:
    return f"{hashlib.sha256(data).hexdigest()[:32]}.parquet"


def _packed(vectors: Mapping[str, np.ndarray]) -> bytes:
    """sha256 of the normalised image, and its vector as float16, which holds it exactly."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    matrix = np.stack(list(vectors.values())).astype(np.float16)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), matrix.shape[1])
    table = pa.table({"sha256": pa.array(list(vectors), pa.string()), "vector": lists})
    written = io.BytesIO()
    pq.write_table(table, written, compression="zstd", use_dictionary=False)
    return written.getvalue()


def _unpacked(data: bytes) -> _File:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table: Any = pq.read_table(pa.BufferReader(data))
    names = table["sha256"].to_pylist()
    flat = table["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return _File({name: row for row, name in enumerate(names)}, flat.reshape(len(names), -1))
