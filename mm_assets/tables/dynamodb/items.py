"""What one item of the DynamoDB table looks like: its keys, its index keys, its values.

Plain functions, no requests. Everything of one record has the partition key `<dataset>|<record>`:

| sort key | what it is |
|---|---|
| `prediction` | the current prediction: COLUMNS, ORDER and `order_key` |
| `row\\|<upload>` | that the upload holds a row of the record: `labels_only` and its `label` |
| `image\\|<upload>` | that the upload holds an image of the record |

What an upload published is listed under `<dataset>#upload#<upload>`. A dataset's name holds neither
'|' nor '#', so no record's ID can collide with that.

The keys of the indexes are attributes of their own. An item that lacks one is not in that index;
the busy ones are spread over SHARDS partitions, by a hash of the record's ID.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mm_assets.contract.errors import StoreError
from mm_assets.tables.merge_rule import ORDER
from mm_assets.tables.store import COLUMNS

Item = dict[str, dict[str, Any]]  # DynamoDB's own notation: {"name": {"S": "value"}}

SHARDS = 16
LONGEST_KEY = 2048  # bytes of a partition key, DynamoDB's limit
SMALLEST = 1e-130  # DynamoDB's smallest positive number
PREDICTION = "prediction"
STORED = (*COLUMNS, *(name for name in ORDER if name not in COLUMNS))
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


def prediction_of(item: Item) -> dict[str, Any]:
    """The STORED values of an item (None where there is none) and its order_key."""
    return {name: plain(item.get(name)) for name in (*STORED, "order_key")}


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


def newest_label(items: list[Item]) -> str | None:
    """The label that the newest upload gave, of one record's items."""
    told = [item for item in items if "label" in item and item["sk"]["S"].startswith("row|")]
    return max(told, key=lambda item: item["sk"]["S"])["label"]["S"] if told else None


def known_of(record_id: str, items: list[Item]) -> dict[str, Any]:
    """One record's answer to `look_up`, from everything that its partition holds."""
    known: dict[str, Any] = {"record_id": record_id}
    for item in sorted(items, key=lambda item: item["sk"]["S"]):
        kind, _, upload = item["sk"]["S"].partition("|")
        if kind == "row":
            label = plain(item.get("label"))
            if label is not None:
                known |= {"label": label, "label_upload": upload}
            if not plain(item["labels_only"]):
                known["unlabelled_upload" if label is None else "labelled_upload"] = upload
        elif kind == "image":
            known |= {
                "image_upload": upload,
                "image_sha256": plain(item["image_sha256"]),
                "image_file": plain(item["image_file"]),
            }
    return known


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
