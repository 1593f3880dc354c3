"""Split a manifest by modality: the records that each model will see."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import MANIFEST, of_upload, records_name
from mm_assets.lake.local import working_folder
from mm_assets.manifest.writing import counts_by, write_tables
from mm_assets.uploads.received import read_document

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq


def split_records(lake: Lake, spec: DatasetSpec, upload: str, modality: Modality) -> dict[str, Any]:
    """Publish the manifest's records of one modality; returns the published document."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    document = read_document(lake, spec.dataset, upload, MANIFEST)
    said = {"dataset": spec.dataset, "upload": upload, "fingerprint": document["fingerprint"]}
    pointer, name = of_upload(spec.dataset, upload, records_name(modality)), records_name(modality)
    records = document["counts"][modality.value]
    if records == document["counts"]["in_manifest"]:  # the very same file
        counted = {what: document["counts"][what] for what in ("to_predict", "labelled")}
        file = document["files"]["manifest.parquet"]
        counts = {"records": records, **counted}
        return lake.publish(pointer, {f"{name}.parquet": file}, {**said, "counts": counts})
    with working_folder("records") as folder:
        path, counts = folder / "records.parquet", {"records": records}
        if not records:
            counts |= {"to_predict": 0, "labelled": 0}
            with lake.open_published(document, "manifest.parquet") as stored:
                write_tables(path, pq.read_schema(stored), ())
        else:
            whole = folder / "manifest.parquet"
            lake.fetch_published(document, "manifest.parquet", whole)
            with pq.ParquetFile(whole) as manifest:
                told = manifest.read(columns=["image_sha256", "purpose"])
                wanted = pc.is_valid(told["image_sha256"])
                if modality is Modality.WITHOUT_IMAGE:
                    wanted = pc.invert(wanted)
                by_purpose = counts_by(told.filter(wanted), "purpose")
                parts = _only(manifest, wanted.combine_chunks())
                write_tables(path, manifest.schema_arrow, parts)
            counts |= {
                "to_predict": by_purpose.get("predict", 0), "labelled": by_purpose.get("train", 0)
            }  # fmt: skip
        return lake.publish(pointer, {f"{name}.parquet": path}, {**said, "counts": counts})


def _only(file: pq.ParquetFile, wanted: pa.BooleanArray) -> Iterator[pa.Table]:
    """The wanted rows of a Parquet file, some at a time."""
    import pyarrow as pa

    start = 0
    for batch in file.iter_batches():
        chosen = batch.filter(wanted.slice(start, batch.num_rows))
        start += batch.num_rows
        yield pa.Table.from_batches([chosen])
