"""What one item of the DynamoDB table looks like: its keys, its index keys, its values.

Plain functions, no requests. Everything of one record has the partition key `<dataset>|<record>`:

| sort key | what it is |
|---|---|
| `prediction` | the current prediction: COLUMNS, ORDER and `order_key` |
| `row\\|<upload>` | that the upload holds a row of the record: `labels_only` and its `label` |
| `image\\|<upload>` | that the upload holds an image of the record |
| `cells\\|<upload>` | what the upload's rows of it name and is not there (named.py) |
| `refusal\\|<upload>` | that the upload's row of it was refused, or is there no more |
| `withdrawn` | the last prediction that was taken back |

What no longer counts of a record stands as `fallen` at its prediction, or in its place: so one
condition holds a merge off that knows too little. What an upload published is listed under
`<dataset>#upload#<upload>`, the withdrawn uploads under `<dataset>#withdrawn`, the newest promotion
of each modality under `<dataset>#promotions`, what may have changed since somebody looked at all
answers under `<dataset>#changes` (changes.py). Where a record's row and its image meet by a name,
both stand under `<dataset>#name|<name>`, as `cell|<upload>|…` and `file|<upload>|…`. A dataset's
name holds neither '|' nor '#', so no record's ID can collide with that.

The keys of the indexes are attributes of their own. An item that lacks one is not in that index;
the busy ones are spread over SHARDS partitions, by a hash of the record's ID.
"""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Any

from mm_assets.contract.errors import StoreError
from mm_assets.tables.merge_rule import BY_UPLOAD, ORDER, ROW_GONE, names_of, newest_refusal
from mm_assets.tables.named import UNCLEAR, Cell, File, Meeting, newer
from mm_assets.tables.store import BESIDE, COLUMNS, FOUND, WITHDRAWN

Item = dict[str, dict[str, Any]]  # DynamoDB's own notation: {"name": {"S": "value"}}

SHARDS = 16
LONGEST_KEY = 2048  # bytes of a partition key, DynamoDB's limit
LARGEST = 380_000  # bytes of a prediction; an item may have 400 KB, with its keys and their names
SMALLEST = 1e-130  # DynamoDB's smallest positive number
PREDICTION = "prediction"
TAKEN_BACK = "withdrawn"
STORED = (*COLUMNS, *(name for name in ORDER if name not in COLUMNS), *BESIDE)
MAY_BE_NULL = ("lower", "upper", "probabilities", "doubts", "reasons")


@dataclass(frozen=True, slots=True)
class Index:
    """One global secondary index: its name, key attributes, and what it carries."""

    name: str
    hash_key: str
    range_key: str | None = None
    range_type: str = "S"
    carries: tuple[str, ...] | None = None  # None: all attributes


ALL = Index("all-by-confidence", "all_of", "confidence", "N")
REVIEW = Index("review-by-confidence", "review_of", "confidence", "N")
CHANGED = Index("changed", "changed_of", "predicted_at")
UPLOAD = Index("upload", "upload_of")
IMAGE_UPLOAD = Index("image-upload", "image_upload_of")
LABELS = Index("labels", "label_of", carries=("label",))
INDEXES = (ALL, REVIEW, CHANGED, UPLOAD, IMAGE_UPLOAD, LABELS)


# -- keys -----------------------------------------------------------------------------------------


def partition(dataset: str, record_id: str) -> str:
    return f"{dataset}|{record_id}"


def record_of(key: str) -> str:
    """The record ID in a partition key."""
    return key.partition("|")[2]


def key_fits(key: str) -> bool:
    return len(key.encode()) <= LONGEST_KEY


def list_partition(dataset: str, upload: str) -> str:
    """Where an upload's list of what it published is kept."""
    return f"{dataset}#upload#{upload}"


def withdrawn_partition(dataset: str) -> str:
    """Where the withdrawn uploads are kept, and by which index the answers taken back are found."""
    return f"{dataset}#withdrawn"


def promotions_partition(dataset: str) -> str:
    """Where the newest promotion of each modality is noted."""
    return f"{dataset}#promotions"


def changes_partition(dataset: str) -> str:
    """Where it is noted what may have changed, and the newest copy of all answers."""
    return f"{dataset}#changes"


def refusal_key(upload: str) -> str:
    return f"refusal|{upload}"


def name_partition(dataset: str, name: str) -> str:
    """Where rows and images meet by a name."""
    return f"{dataset}#name|{name}"


def row_key(upload: str) -> str:
    return f"row|{upload}"


def image_key(upload: str) -> str:
    return f"image|{upload}"


def key_of(partition_key: str, sort_key: str) -> Item:
    return {"pk": {"S": partition_key}, "sk": {"S": sort_key}}


def shard(record_id: str) -> int:
    return zlib.crc32(record_id.encode()) % SHARDS


def index_key(name: str, number: int) -> str:
    """One partition of an index: `name` is the dataset or `<dataset>|<upload>`."""
    return f"{name}|{number:02d}"


def order_key(offered: Mapping[str, Any]) -> str:
    """ORDER as one string that sorts, byte by byte, as the tuple does.

    Numbers are padded with zeros. The parts are joined by a space, which is below every character
    of an upload's key or a hash, so that 'u1' comes before 'u10' whatever follows.
    """
    parts = []
    for name in ORDER:
        value = offered[name]
        is_number = isinstance(value, int)
        part = f"{value:010d}" if is_number else str(value)
        if (is_number and value < 0) or min(part, default="~") <= " ":
            raise _refused(offered, f"{name} is {value!r}, which has no place in the order")
        parts.append(part)
    return " ".join(parts)


# -- predictions ----------------------------------------------------------------------------------


def prediction_item(dataset: str, offered: Mapping[str, Any], order: str) -> Item:
    """An offered prediction as an item with all its index keys."""
    record_id, number = offered["record_id"], shard(offered["record_id"])
    item = key_of(partition(dataset, record_id), PREDICTION)
    item |= {name: _written(offered[name]) for name in STORED if offered[name] is not None}
    item["order_key"] = {"S": order}
    own = index_key(dataset, number)
    item[ALL.hash_key] = item[CHANGED.hash_key] = {"S": own}
    if offered["needs_review"]:
        item[REVIEW.hash_key] = {"S": own}
    item[UPLOAD.hash_key] = {"S": index_key(f"{dataset}|{offered['upload']}", number)}
    if image_upload := offered["image_upload"]:
        item[IMAGE_UPLOAD.hash_key] = {"S": index_key(f"{dataset}|{image_upload}", number)}
    return item


def check_prediction(dataset: str, offered: Mapping[str, Any]) -> None:
    """Refuse, before anything is written, what the table could not hold. Raises StoreError."""
    for name in STORED:
        if offered[name] is None and name not in MAY_BE_NULL:
            raise _refused(offered, f"{name} is missing")
    if not math.isfinite(offered["confidence"]):
        raise _refused(offered, f"confidence is {offered['confidence']}")
    if not key_fits(partition(dataset, offered["record_id"])):
        raise _refused(offered, f"the record's ID is longer than {LONGEST_KEY:,} bytes")
    if (size := sum(len(str(offered[name]).encode()) for name in STORED)) > LARGEST:
        raise _refused(offered, f"it takes {size:,} bytes of at most {LARGEST:,}")


def prediction_of(item: Item) -> dict[str, Any]:
    """The STORED values of an item (None where there is none) and its order_key."""
    found = {name: plain(item.get(name)) for name in (*STORED, "order_key")}
    if found["image_order"] is None:  # of a table made before it came
        found["image_order"] = found["image_upload"]
    return found


def fallen_at(item: Item | None) -> dict[str, str]:
    """What stands as `fallen` at a prediction, or in its place."""
    fallen: dict[str, str] = json.loads(plain((item or {}).get("fallen")) or "{}")
    return fallen


def fallen_text(fallen: Mapping[str, str]) -> str:
    return json.dumps(fallen, sort_keys=True)


def taken_back(dataset: str, item: Item, why: str, by: str, at: str) -> Item:
    """A prediction's item as it is kept once it was taken back."""
    record_id = record_of(item["pk"]["S"])
    kept = {name: item[name] for name in STORED if name in item}
    kept |= key_of(item["pk"]["S"], TAKEN_BACK)
    kept[ALL.hash_key] = {"S": index_key(withdrawn_partition(dataset), shard(record_id))}
    said = {"code": why, "withdrawn_by": by, "withdrawn_at": at}
    return kept | {name: {"S": value} for name, value in said.items()}


def last_answer_of(item: Item) -> dict[str, Any]:
    """The WITHDRAWN values of what `taken_back` made."""
    return {name: plain(item.get(name)) for name in WITHDRAWN}


# -- the index of rows and images -----------------------------------------------------------------


def row_item(dataset: str, upload: str, record_id: str, labels_only: bool, label: Any) -> Item:
    item = key_of(partition(dataset, record_id), row_key(upload))
    item["labels_only"] = {"BOOL": bool(labels_only)}
    if label is not None:
        item["label"] = {"S": label}
        item[LABELS.hash_key] = {"S": index_key(dataset, shard(record_id))}
    return item


def image_item(dataset: str, upload: str, record_id: str, sha256: str, file: str) -> Item:
    item = key_of(partition(dataset, record_id), image_key(upload))
    return item | {"image_sha256": {"S": sha256}, "image_file": {"S": file}}


def refusal_item(dataset: str, upload: str, record_id: str, code: str | None) -> Item:
    """code: None where the upload's row is there no more. The others may hide labels."""
    item = key_of(partition(dataset, record_id), refusal_key(upload))
    if code is not None:
        item[LABELS.hash_key] = {"S": index_key(dataset, shard(record_id))}
    return item | {"code": {"S": code or ROW_GONE}}


def cells_item(dataset: str, upload: str, record_id: str, cells: list[Cell]) -> Item:
    item = key_of(partition(dataset, record_id), f"cells|{upload}")
    told = [[cell.name, cell.number, cell.path, cell.in_table] for cell in cells]
    return item | {"cells": {"S": json.dumps(told, ensure_ascii=False)}}


def cell_item(dataset: str, cell: Cell) -> Item:
    """That a record's row names something of this name, for images that come later."""
    digest = hashlib.blake2b(cell.record_id.encode(), digest_size=12).hexdigest()
    item = key_of(name_partition(dataset, cell.name), f"cell|{cell.upload}|{digest}")
    return item | {"record_id": {"S": cell.record_id}}


def file_item(dataset: str, file: File) -> Item:
    digest = hashlib.blake2b(file.path.encode(), digest_size=12).hexdigest()
    item = key_of(name_partition(dataset, file.name), f"file|{file.upload}|{digest}")
    return item | {"path": {"S": file.path}, "image_sha256": {"S": file.sha256}}


def cells_of(record_id: str, items: Iterable[Item]) -> list[Cell]:
    """What the rows of one record name elsewhere, from everything that its partition holds."""
    found = []
    for item in items:
        kind, _, upload = item["sk"]["S"].partition("|")
        if kind == "cells":
            found += [Cell(record_id, upload, *cell) for cell in json.loads(plain(item["cells"]))]
    return found


def file_of(item: Item) -> File:
    """Of what `file_item` made."""
    upload = item["sk"]["S"].split("|")[1]
    name = item["pk"]["S"].partition("|")[2]
    return File(upload, name, plain(item["path"]), plain(item["image_sha256"]))


def fallen_of(
    items: Iterable[Item], withdrawn: Set[str], unclear: Iterable[str] = ()
) -> dict[str, str]:
    """What no longer counts of one record, by upload, from everything that its partition holds.

    As short as it can be: older refusals than the newest add nothing. unclear: the uploads of
    which it is not clear any more what their rows of the record name.
    """
    fallen: dict[str, str] = {}
    for item in items:
        kind, _, upload = item["sk"]["S"].partition("|")
        if upload and upload in withdrawn:
            fallen[upload] = BY_UPLOAD
        elif kind == "refusal":
            fallen[upload] = plain(item["code"])
    newest = newest_refusal(fallen)
    short = {
        upload: code
        for upload, code in fallen.items()
        if code == BY_UPLOAD or newest is None or upload >= newest
    }
    return short | {names_of(upload): UNCLEAR for upload in unclear}


def counting(items: Iterable[Item], withdrawn: Set[str]) -> list[Item]:
    """The rows and images of one record that count, oldest first, images before rows."""
    items = sorted(items, key=lambda item: item["sk"]["S"])
    newest = newest_refusal(fallen_of(items, withdrawn)) or ""
    kept = []
    for item in items:
        kind, _, upload = item["sk"]["S"].partition("|")
        stands = kind == "image" or (
            kind == "row" and (plain(item["labels_only"]) or upload > newest)
        )
        if stands and upload not in withdrawn:
            kept.append(item)
    return kept


def newest_label(items: list[Item], withdrawn: Set[str]) -> str | None:
    """The label that the newest upload gave, of one record's items."""
    told = [item for item in counting(items, withdrawn) if "label" in item]
    return told[-1]["label"]["S"] if told else None


def known_of(
    record_id: str, items: list[Item], withdrawn: Set[str], meeting: Meeting
) -> dict[str, Any]:
    """One record's answer to `look_up`, from everything that its partition holds."""
    known: dict[str, Any] = {**dict.fromkeys(FOUND), "record_id": record_id}
    for item in counting(items, withdrawn):
        kind, _, upload = item["sk"]["S"].partition("|")
        if kind == "row":
            label = plain(item.get("label"))
            if label is not None:
                known |= {"label": label, "label_upload": upload}
            if not plain(item["labels_only"]):
                known["unlabelled_upload" if label is None else "labelled_upload"] = upload
        else:
            known |= {
                "image_upload": upload,
                "image_sha256": plain(item["image_sha256"]),
                "image_file": plain(item["image_file"]),
                "image_order": upload,
            }
    return newer(known, meeting)


# -- values ---------------------------------------------------------------------------------------


def _written(value: Any) -> dict[str, Any]:
    """A value in DynamoDB's notation. `repr` of a float reads back as the same float."""
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, int):
        return {"N": str(value)}
    if isinstance(value, float):
        return {"N": repr(value) if abs(value) >= SMALLEST else "0"}
    return {"S": str(value)}


def plain(written: dict[str, Any] | None) -> Any:
    """The Python value of an attribute; None where there is none."""
    if written is None:
        return None
    [(kind, value)] = written.items()
    if kind != "N":
        return value
    return int(value) if value.lstrip("-").isdigit() else float(value)


def _refused(offered: Mapping[str, Any], what: str) -> StoreError:
    return StoreError(
        code="table_refused",
        what=f"a prediction cannot be stored: {what}",
        where=f"record {offered['record_id']!r}",
        todo="Nothing was written. Please report this with the upload's receipt (`mm receipt`).",
    )
