"""What can be seen of the images of an upload that were refused, for people who look into it."""

from __future__ import annotations

import io
from collections.abc import Iterator, Set

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.lake.lake import Lake
from mm_assets.lake.local import working_folder
from mm_assets.reading.images import apart
from mm_assets.reading.images.formats import DECODER_FAULTS, ImageRefused, used_format
from mm_assets.uploads.deliver import delivery, where_it_is
from mm_assets.uploads.find import read_source
from mm_assets.uploads.received import read_parquet, read_receipt

MOST = 24  # images of an upload
MOST_BYTES = 512 << 20  # of an archive that is opened for it
MOST_FILE = 32 << 20
MOST_PIXELS = 50_000_000
SIDE = 256  # pixels


def glimpses_of(lake: Lake, spec: DatasetSpec, upload: str) -> dict[str, bytes]:
    """File to a small JPEG, of the first few that can be decoded, at least in part.

    Each is decoded in a process apart and encoded anew, so that nothing of the file itself is
    shown. Raises LakeError, UploadError for an upload that is not there any more.
    """
    receipt = read_receipt(lake, spec.dataset, upload)
    rows = read_parquet(lake, receipt, "files.parquet").to_pylist()
    names = {row["file"] for row in rows if row["code"] and row["kind"] == "image"}
    found: dict[str, bytes] = {}
    if not names:
        return found
    for name, data in _originals(lake, spec.dataset, upload, names):
        if (seen := _glimpse(data)) is not None:
            found[name] = seen
        if len(found) >= MOST:
            break
    return found


def _originals(
    lake: Lake, dataset: str, upload: str, names: Set[str]
) -> Iterator[tuple[str, bytes]]:
    source = read_source(lake, dataset, upload)
    if source.kind == "folder":
        place = where_it_is(lake, source).key
        for name in sorted(names):
            item = lake.stat(place + name)  # none for one that lies in an archive of the folder
            if item is not None and item.size <= MOST_FILE:
                yield name, lake.read(place + name)
        return
    if source.size > MOST_BYTES:
        return
    with (
        working_folder("glimpse") as workdir,
        delivery(lake, source, workdir) as files,
    ):
        for file in files:
            if file.name in names and isinstance(file.content, bytes) and file.size <= MOST_FILE:
                yield file.name, file.content


def _glimpse(data: bytes) -> bytes | None:
    try:
        image = apart.glimpse(used_format(data), data, SIDE, MOST_PIXELS)
    except (ImageRefused, *DECODER_FAULTS):
        return None
    written = io.BytesIO()
    image.save(written, "JPEG", quality=85)
    return written.getvalue()
