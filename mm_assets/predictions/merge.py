"""From what the models said of an upload to the predictions table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.ends import Ended, failed_too, read_ended
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import MANIFEST, of_upload, predictions_name, unmerged_prefix
from mm_assets.lake.local import working_folder
from mm_assets.predictions.offer import empty_predictions
from mm_assets.predictions.outbox import note, publish_changes
from mm_assets.tables.store import MergeResult, Store
from mm_assets.uploads.received import read_document, read_parquet, refused_by_code
from mm_assets.uploads.withdrawals import note_taken_back, withdrawn_uploads

if TYPE_CHECKING:
    import pyarrow as pa


def merge_predictions(
    lake: Lake, store: Store, spec: DatasetSpec, upload: str, run_id: str = ""
) -> tuple[MergeResult, dict[str, Any]]:
    """Merge what both models said of an upload into the predictions table.

    Returns what the merge did, and the document: counts, where records wait the reasons, how the
    upload ended, and beside what is published what was told of it (`told`). `counts.withdrawn` are
    the records of which this upload took the answer back and nothing else answers; if there are
    any, `withdrawn.parquet` has them, as `Store.read_withdrawn` gives them.
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
    offered = pa.concat_tables(
        _with_order(read_parquet(lake, *one)) for _, one in sorted(said.items())
    )
    store.withdraw(spec.dataset, withdrawn_uploads(lake, spec.dataset))  # the table may be new
    manifest = read_document(lake, spec.dataset, upload, MANIFEST)
    withdrawn = _withdrawn(lake, store, spec, manifest)
    news = _not_told(lake, spec, upload, withdrawn)
    noted = note(lake, store, spec.dataset, offered["record_id"], upload, run_id, news)
    result = store.merge(spec.dataset, offered)
    reasons = {d["reason"] for d in documents.values() if d["reason"]}
    if imageless := _imageless(lake, spec, manifest):
        reasons.add(f"{imageless} records wait for their images: there are no others here")
    document = {
        "dataset": spec.dataset,
        "upload": upload,
        "counts": {
            "offered": offered.num_rows,
            "inserted": result.inserted,
            "updated": result.updated,
            "unchanged": result.unchanged,
            "void": result.void,
            "withdrawn": withdrawn.num_rows,
            "waiting": _waiting(documents) + imageless,
            "failed": sum(one["counts"]["failed"] for one in documents.values()),
        },
        "reasons": sorted(reasons),
        **_ended(lake, manifest, documents).as_document(),
    }
    document = _publish(lake, spec, upload, document, withdrawn)
    for key in parts:
        lake.delete(key)
    if manifest.get("withdrawn"):
        note_taken_back(lake, spec.dataset, upload)
    return result, {**document, "told": publish_changes(lake, store, spec.dataset, noted)}


def _with_order(said: pa.Table) -> pa.Table:
    """What was said, also where an earlier version said it."""
    if "image_order" not in said.column_names:
        said = said.append_column("image_order", said["image_upload"])
    return said.select(empty_predictions().column_names)


def _publish(
    lake: Lake, spec: DatasetSpec, upload: str, document: dict[str, Any], withdrawn: pa.Table
) -> dict[str, Any]:
    """Publish the document, with the records whose answer was taken back beside it."""
    import pyarrow.parquet as pq

    pointer = of_upload(spec.dataset, upload, "predictions")
    if not withdrawn.num_rows:
        return lake.publish(pointer, {}, document)
    with working_folder("withdrawn") as folder:
        path = folder / "withdrawn.parquet"
        pq.write_table(withdrawn, path, compression="zstd")
        return lake.publish(pointer, {"withdrawn.parquet": path}, document)


def _not_told(
    lake: Lake, spec: DatasetSpec, upload: str, withdrawn: pa.Table
) -> list[dict[str, Any]]:
    """Of what was taken back, what no earlier merge of this upload took back already."""
    if not withdrawn.num_rows:
        return []
    before = lake.read_json(of_upload(spec.dataset, upload, "predictions")) or {"files": {}}
    known: set[str] = set()
    if "withdrawn.parquet" in before["files"]:
        known = set(read_parquet(lake, before, "withdrawn.parquet")["record_id"].to_pylist())
    return [row for row in withdrawn.to_pylist() if row["record_id"] not in known]


def _withdrawn(lake: Lake, store: Store, spec: DatasetSpec, manifest: dict[str, Any]) -> pa.Table:
    """The last answers that this upload took back."""
    import pyarrow as pa
    import pyarrow.compute as pc

    ids = pa.array([], pa.string())
    if "fallen.parquet" in manifest["files"]:  # not where an older version joined it
        ids = read_parquet(lake, manifest, "fallen.parquet")["record_id"]
    found = store.read_withdrawn(spec.dataset, ids.to_pylist())
    return found.filter(pc.equal(found["withdrawn_by"], manifest["upload"]))


def _ended(lake: Lake, manifest: dict[str, Any], documents: Mapping[str, dict[str, Any]]) -> Ended:
    """How the upload ends: as its manifest says, with the predictions that failed."""
    ended = read_ended(manifest)
    for document in documents.values():
        failed = document["counts"]["failed"]
        if failed:
            table = read_parquet(lake, document, "failed.parquet")
            table = table.set_column(table.column_names.index("file"), "file", table["record_id"])
            for one in refused_by_code(table, "record"):
                ended = failed_too(ended, failed, document["counts"]["records"], one)
    return ended


def _imageless(lake: Lake, spec: DatasetSpec, document: dict[str, Any]) -> int:
    """How many records that only an image can answer for have none, where images are all."""
    import pyarrow.compute as pc

    if Modality.WITHOUT_IMAGE in spec.modalities:
        return 0
    manifest = read_parquet(lake, document, "manifest.parquet")
    to_predict = pc.equal(manifest["purpose"], "predict")
    return pc.sum(pc.and_(to_predict, pc.is_null(manifest["image_sha256"]))).as_py() or 0


def _waiting(documents: Mapping[str, dict[str, Any]]) -> int:
    """How many records nobody answers for. One that another model stands in for is in both."""
    counts = [document["counts"] for document in documents.values()]
    return sum(one["waiting"] - one["standing_in"] for one in counts)
