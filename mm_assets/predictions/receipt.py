"""The whole receipt of an upload: every file and its fate, every rejected row and why.

The fate of an image is looked up now: one that was an orphan when it came may be used today.
"""

from __future__ import annotations

from typing import Any

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.ends import End, Ended, LeftOut, read_ended
from mm_assets.contract.errors import REFUSALS
from mm_assets.contract.visible import visible
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import MANIFEST, of_upload, predictions_name
from mm_assets.manifest.join import image_fates, own_images
from mm_assets.predictions import unlike
from mm_assets.tables.named import is_file_id
from mm_assets.tables.store import Query, Store
from mm_assets.uploads import ledger
from mm_assets.uploads.read_as import first_of, firsts_in_words, in_words
from mm_assets.uploads.received import end_so_far, read_parquet, read_receipt
from mm_assets.uploads.withdrawals import read_withdrawal
from mm_assets.uploads.without_row import nearly_in_words


def build_receipt(lake: Lake, store: Store, spec: DatasetSpec, upload: str) -> dict[str, Any]:
    """The receipt of an upload named by its key or by its name in the inbox (the newest one)."""
    import pyarrow as pa

    raw = read_receipt(lake, spec.dataset, ledger.resolve(lake, spec.dataset, upload))
    upload = raw["upload"]
    images = own_images(lake, spec, raw)
    records = [*images["record_id"].chunks]
    if spec.image_column is not None:
        records.append(store.naming(spec.dataset, upload))
    known = store.look_up(spec.dataset, pa.chunked_array(records, pa.string()).combine_chunks())
    each = image_fates(spec, upload, images, known).to_pylist()
    # One file may be the image of several records: it is used if any of them has it.
    each.sort(key=lambda row: _FATES.index(row["fate"]), reverse=True)
    fates = {row["file"]: row for row in each}
    received = read_parquet(lake, raw, "files.parquet").to_pylist()
    withdrawal = read_withdrawal(lake, spec.dataset, upload)
    files = [_file(row, fates, withdrawn=withdrawal is not None) for row in received]
    manifest = lake.read_json(of_upload(spec.dataset, upload, MANIFEST))
    merged = lake.read_json(of_upload(spec.dataset, upload, "predictions"))
    newest = merged or manifest
    ended = read_ended(newest) if newest else end_so_far(lake, raw)
    if withdrawal is not None:
        todo = "Nothing. If it was a mistake, send it anew: that is another upload."
        gone = LeftOut("upload_withdrawn", "upload", 1, (), withdrawal.words, todo)
        ended = Ended(End.NOTHING, f"{End.NOTHING}: {withdrawal.words}", (gone,))
    rejects = read_parquet(lake, manifest or raw, "rejects.parquet").to_pylist()
    predicted = store.read(spec.dataset, Query(upload=upload))
    archives = raw.get("archives", [])  # absent where an older version received it
    by_fate: dict[str, int] = {}
    for file in files:
        by_fate[file["fate"]] = by_fate.get(file["fate"], 0) + 1
    return {
        "dataset": spec.dataset,
        "upload": upload,
        "name": raw["source"]["name"],
        "arrived_at": raw["source"]["arrived_at"],
        **ended.as_document(),
        "refused": raw["refused"],
        "withdrawn": None if withdrawal is None else withdrawal.words,
        "counts": {
            "files": len(files),
            **({"archives opened": len(archives)} if archives else {}),
            **{f"files {fate}": number for fate, number in sorted(by_fate.items())},
            "rows": raw["counts"]["rows"],
            "rows rejected": len(rejects),
            "records": manifest["counts"]["records"] if manifest else None,
            "records with a label": manifest["counts"]["labelled"] if manifest else None,
            "predictions": predicted.num_rows,
            "predictions withdrawn": (merged or {}).get("counts", {}).get("withdrawn", 0),
            "predictions to review": sum(predicted["needs_review"].to_pylist()),
        },
        "archives": archives,
        "tables": [
            {
                "table": table["file"],
                "rows": table["rows"],
                "rejected": table["rejected"],
                "read_as": in_words(table, (manifest or {}).get("numbers", {}).get(table["file"])),
            }
            for table in raw["tables"]
        ],
        "unlike": unlike.in_words(_predicted(lake, spec, upload)),
        "first_of_several": firsts_in_words(received),
        "nearly": nearly_in_words((manifest or {}).get("nearly")),
        "files": files,
        "rejects": rejects,
    }


def _predicted(lake: Lake, spec: DatasetSpec, upload: str) -> list[dict[str, Any]]:
    """What was noted when the upload was predicted, as far as it was."""
    keys = [of_upload(spec.dataset, upload, predictions_name(one)) for one in spec.modalities]
    return [document for key in keys if (document := lake.read_json(key)) is not None]


def _file(row: dict[str, Any], fates: dict[str, Any], *, withdrawn: bool = False) -> dict[str, Any]:
    file = {"file": row["file"], "kind": row["kind"], "bytes": row["bytes"]}
    if row["code"]:
        return {
            **file, "fate": "quarantined", "code": row["code"], "reason": row["reason"],
            "todo": REFUSALS.get(row["code"], ""),
        }  # fmt: skip
    if withdrawn:
        why = "its upload was withdrawn"
        return {**file, "fate": "withdrawn", "code": None, "reason": why, "todo": None}
    found = fates.get(row["file"])
    if found is None:
        return {**file, "fate": "used", "code": None, "reason": None, "todo": None}
    reason, todo = _words(found["fate"], found["record_id"])
    if several := first_of(row.get("frames")):
        reason = f"{reason}; {several}" if reason else several
        todo = todo or "Send the others as images of their own, if they matter."
    return {**file, "fate": found["fate"], "code": None, "reason": reason, "todo": todo}


_WORDS: dict[str, tuple[str | None, str | None]] = {
    "used": (None, None),
    "duplicate": ("another image of the same record comes first", "Nothing."),
    "superseded": ("a newer upload brought an image of the same record", "Nothing."),
}
_FATES = (*_WORDS, "orphaned")  # the best first; the last one has words of its own
_NOT_NAMED = (
    "no row that names it has come yet, or none that can mean this image alone",
    "Send the row, or a table of IDs and paths; it will find this image.",
)


def _words(fate: str, record_id: str) -> tuple[str | None, str | None]:
    if fate != "orphaned":
        return _WORDS[fate]
    if is_file_id(record_id):
        return _NOT_NAMED
    return (
        f"no row with its ID '{visible(record_id)}' has come yet",
        "Send the row; it will find this image. If its row has another ID, rename the image.",
    )
