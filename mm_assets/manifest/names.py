"""What an upload says by name for other uploads: images that no row of it names, and what its rows
name that is not in it (see `mm_assets.tables.named`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.ends import PLACES, LeftOut
from mm_assets.contract.errors import REFUSALS
from mm_assets.lake.lake import Lake
from mm_assets.reading.image_column import key_of
from mm_assets.tables.named import UNCLEAR, is_file_id, no_names
from mm_assets.uploads.received import MISSING_IMAGES, read_parquet

if TYPE_CHECKING:
    import pyarrow as pa

ONLY_LOOKED_UP = ("named_files", "image_unclear")


def own_names(
    lake: Lake, spec: DatasetSpec, receipt: dict[str, Any], images: pa.Table
) -> pa.Table | None:
    """What to publish; None where rows name no images. images: of `own_images`."""
    import pyarrow as pa

    if spec.image_column is None:
        return None
    schema = no_names().schema
    found: list[dict[str, Any]] = [
        {"name": key_of(one["image_file"]), "path": one["image_file"], "number": 0, **one}
        for one in images.drop_columns(["best", "seen"]).to_pylist()
        if is_file_id(one["record_id"])
    ]
    if MISSING_IMAGES in receipt["files"]:
        missing = read_parquet(lake, receipt, MISSING_IMAGES).to_pylist()
        found += [{"name": key_of(one["path"]), **one} for one in missing]
    return pa.Table.from_pylist(found, schema=schema)


def without_names(known: pa.Table, spec: DatasetSpec) -> pa.Table:
    """Without what a manifest does not keep."""
    gone = [*ONLY_LOOKED_UP, *(["image_order"] if spec.image_column is None else [])]
    return known.drop_columns([name for name in gone if name in known.column_names])


def unclear(known: pa.Table) -> list[LeftOut]:
    """The records whose row names what could mean several images of other uploads."""
    import pyarrow.compute as pc

    some = known.filter(pc.is_valid(known["image_unclear"]))
    some = some.select(["record_id", "image_unclear"])
    if not some.num_rows:
        return []
    first = some.slice(0, PLACES).to_pylist()
    places = tuple(f"record {one['record_id']}" for one in first)
    reason = first[0]["image_unclear"]
    return [LeftOut(UNCLEAR, "image", some.num_rows, places, reason, REFUSALS[UNCLEAR])]
