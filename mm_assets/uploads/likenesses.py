"""The likenesses of an upload's images (reading/likeness.py): stored beside them, or made later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mm_assets.contract.errors import LakeError
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import of_upload
from mm_assets.lake.local import working_folder
from mm_assets.reading.likeness import BYTES, likeness_of
from mm_assets.uploads.received import read_images, read_parquet, read_receipt

if TYPE_CHECKING:
    import pyarrow as pa

LIKENESSES = "likenesses"


def read_likenesses(lake: Lake, dataset: str, upload: str) -> pa.Table:
    """`sha256` (of the original file) and `likeness` of all images of an upload.

    One that was received before there were likenesses gets them now, and keeps them.
    """
    import pyarrow.parquet as pq

    receipt = read_receipt(lake, dataset, upload)
    with lake.open_published(receipt, "images.parquet") as handle:
        packed = pq.ParquetFile(handle)
        if "likeness" in packed.schema_arrow.names:
            return packed.read(columns=["sha256", "likeness"])
        images = packed.read(columns=["sha256"])["sha256"].to_pylist()
    return _made_before(lake, dataset, upload, receipt) or _made(
        lake, dataset, upload, receipt, images
    )


def _made_before(lake: Lake, dataset: str, upload: str, receipt: dict[str, Any]) -> pa.Table | None:
    document = lake.read_json(of_upload(dataset, upload, LIKENESSES))
    if document is None or document["images"] != receipt["files"]["images.parquet"]["sha256"]:
        return None
    try:
        return read_parquet(lake, document, "likenesses.parquet")
    except LakeError as error:
        if error.code not in ("lake_not_found", "lake_damaged"):
            raise
        return None


def _made(
    lake: Lake, dataset: str, upload: str, receipt: dict[str, Any], images: list[str]
) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    found: dict[str, bytes] = {}
    for some in read_images(lake, dataset, upload, set(images)):
        found |= {sha256: likeness_of(data) for sha256, data in some.items()}
    table = pa.table(
        {"sha256": pa.array(list(found), pa.string()),
         "likeness": pa.array(list(found.values()), pa.binary(BYTES))}
    )  # fmt: skip
    with working_folder("likenesses") as folder:
        path = folder / "likenesses.parquet"
        pq.write_table(table, path, compression="zstd")
        lake.publish(
            of_upload(dataset, upload, LIKENESSES),
            {path.name: path},
            {
                "dataset": dataset,
                "upload": upload,
                "images": receipt["files"]["images.parquet"]["sha256"],
            },
        )
    return table
