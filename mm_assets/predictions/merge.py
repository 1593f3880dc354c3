"""From what the models said of an upload to the predictions table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.ends import Ended, failed_too, read_ended
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import of_upload
from mm_assets.manifest.join import MANIFEST
from mm_assets.predictions.outbox import note, publish_changes
from mm_assets.predictions.predict import predictions_name, unmerged_prefix
from mm_assets.tables.store import MergeResult, Store
from mm_assets.uploads.received import read_document, read_parquet, refused_by_code


def merge_predictions(
    lake: Lake, store: Store, spec: DatasetSpec, upload: str, run_id: str = ""
) -> tuple[MergeResult, dict[str, Any]]:
    """Merge what both models said of an upload into the predictions table.

    Returns what the merge did, and the document: counts, where records wait the reasons, how the
    upload ended, and beside what is published what was told of it (`told`).
    """
    import pyarrow as pa

    documents = {
        predictions_name(modality): read_document(
            lake, spec.dataset, upload, predictions_name(modality)
        )
        for modality in spec.modalities
    }
    parts = [item.key for item in lake.list(unmerged_prefix(spec.dataset, upload))]
    # One that is gone by now was merged by another run.
    unmerged = [document for key in parts if (document := lake.read_json(key)) is not None]
    said = {
        file["key"]: (document, name)
        for document in [*documents.values(), *unmerged]
        for name, file in document["files"].items()
        if name != "failed.parquet"
    }
    offered = pa.concat_tables(read_parquet(lake, *one) for _, one in sorted(said.items()))
    noted = note(lake, store, spec.dataset, offered["record_id"], upload, run_id)
    result = store.merge(spec.dataset, offered)
    reasons = {d["reason"] for d in documents.values() if d["reason"]}
    if imageless := _imageless(lake, spec, upload):
        reasons.add(f"{imageless} records wait for their images: there are no others here")
    document = {
        "dataset": spec.dataset,
        "upload": upload,
        "counts": {
            "offered": offered.num_rows,
            "inserted": result.inserted,
            "updated": result.updated,
            "unchanged": result.unchanged,
            "waiting": _waiting(documents) + imageless,
            "failed": sum(one["counts"]["failed"] for one in documents.values()),
        },
        "reasons": sorted(reasons),
        **_ended(lake, spec, upload, documents).as_document(),
    }
    document = lake.publish(of_upload(spec.dataset, upload, "predictions"), {}, document)
    for key in parts:
        lake.delete(key)
    return result, {**document, "told": publish_changes(lake, store, spec.dataset, noted)}


def _ended(
    lake: Lake, spec: DatasetSpec, upload: str, documents: Mapping[str, dict[str, Any]]
) -> Ended:
    """How the upload ends: as its manifest says, with the predictions that failed."""
    ended = read_ended(read_document(lake, spec.dataset, upload, MANIFEST))
    for document in documents.values():
        failed = document["counts"]["failed"]
        if failed:
            table = read_parquet(lake, document, "failed.parquet")
            table = table.set_column(table.column_names.index("file"), "file", table["record_id"])
            for one in refused_by_code(table, "record"):
                ended = failed_too(ended, failed, document["counts"]["records"], one)
    return ended


def _imageless(lake: Lake, spec: DatasetSpec, upload: str) -> int:
    """How many records that only an image can answer for have none, where images are all."""
    import pyarrow.compute as pc

    if Modality.WITHOUT_IMAGE in spec.modalities:
        return 0
    document = read_document(lake, spec.dataset, upload, MANIFEST)
    manifest = read_parquet(lake, document, "manifest.parquet")
    to_predict = pc.equal(manifest["purpose"], "predict")
    return pc.sum(pc.and_(to_predict, pc.is_null(manifest["image_sha256"]))).as_py() or 0


def _waiting(documents: Mapping[str, dict[str, Any]]) -> int:
    """How many records nobody answers for. One that another model stands in for is in both."""
    counts = [document["counts"] for document in documents.values()]
    return sum(one["waiting"] - one["standing_in"] for one in counts)
