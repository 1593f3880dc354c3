"""The review queue: predictions that need a person and have no known label yet."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.errors import LakeError, ModelError
from mm_assets.display.side_by_side import side_by_side
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import of_dataset
from mm_assets.manifest.image_sets import images_of
from mm_assets.tables.store import Query, Store

if TYPE_CHECKING:
    import pyarrow as pa

THUMBNAILS = 24
# What `mm review list` shows, in this order.
SHOWN = (
    "record_id", "prediction", "lower", "upper", "confidence", "second", "second_probability",
    "why", "doubts", "reasons", "modality", "image_upload", "image_file",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Item:
    """One record to review.

    lower, upper: where the truth of a number lies, None for classes. second, second_probability:
    the runner-up among the classes, None for numbers. probabilities: of every class, empty for
    numbers. why: why it is here, in words. doubts: what
    its model never saw, None for nothing. upload: where its row came. image_upload, image_file,
    image_sha256: its newest image, None without one.
    """

    record_id: str
    prediction: str
    lower: float | None
    upper: float | None
    confidence: float
    second: str | None
    second_probability: float | None
    why: str
    doubts: str | None
    reasons: str | None
    modality: str
    upload: str
    model_version: str
    image_upload: str | None
    image_file: str | None
    image_sha256: str | None
    probabilities: Mapping[str, float]

    def as_row(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name in SHOWN}


def review_queue(store: Store, spec: DatasetSpec, limit: int | None = None) -> list[Item]:
    """The records to review: those with doubts first, then the least confident first.

    limit: how many at most. A doubt comes first because the confidence says nothing then: it may
    be high, and the record would stand at the end.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    found = store.read(spec.dataset, Query(needs_review=True))
    # Here and not in the query: its limit would count records whose label came meanwhile.
    unlabelled = found.filter(pc.is_null(found["label"]))
    doubted = pc.is_valid(unlabelled["doubts"])
    parts = [unlabelled.filter(doubted), unlabelled.filter(pc.invert(doubted))]
    waiting = pa.concat_tables(parts).slice(0, limit)
    images = _images(store, spec, waiting)
    return [_item(spec, row, images.get(row["record_id"], {})) for row in waiting.to_pylist()]


def thumbnails_of(lake: Lake, spec: DatasetSpec, items: Sequence[Item]) -> dict[int, bytes]:
    """The images of the first items, as they lie in the lake, by place; lost ones are left out."""
    found: dict[int, bytes] = {}
    for place, item in enumerate(items[:THUMBNAILS]):
        with suppress(LakeError):
            if (image := image_of(lake, spec, item)) is not None:
                found[place] = image
    return found


def image_of(lake: Lake, spec: DatasetSpec, item: Item) -> bytes | None:
    """What models see of a record, as one picture; None if there is none, or it is lost."""
    if item.image_sha256 is None or item.image_upload is None:
        return None
    place = {item.record_id: (item.image_upload, item.image_sha256)}
    found = images_of(lake, spec, place).get(item.record_id)
    return side_by_side(found) if found else None


def _images(store: Store, spec: DatasetSpec, waiting: pa.Table) -> dict[str, dict[str, Any]]:
    if not waiting.num_rows:
        return {}
    known = store.look_up(spec.dataset, waiting["record_id"].combine_chunks())
    return {row["record_id"]: row for row in known.to_pylist()}


def _item(spec: DatasetSpec, row: dict[str, Any], known: dict[str, Any]) -> Item:
    second, probability = _second(row["probabilities"], row["prediction"])
    return Item(
        record_id=row["record_id"],
        prediction=row["prediction"],
        lower=row["lower"],
        upper=row["upper"],
        confidence=row["confidence"],
        second=second,
        second_probability=probability,
        why=_why(spec, row),
        doubts=row["doubts"],
        reasons=row.get("reasons"),
        modality=row["modality"],
        upload=row["upload"],
        model_version=row["model_version"],
        image_upload=known.get("image_upload"),
        image_file=known.get("image_file"),
        image_sha256=known.get("image_sha256"),
        probabilities=json.loads(row["probabilities"] or "{}"),
    )


def _why(spec: DatasetSpec, row: dict[str, Any]) -> str:
    """Why a person is asked."""
    if row["doubts"]:
        return str(row["doubts"])
    by_width = spec.review.widest_interval is not None
    return "wide interval" if by_width else "low confidence"


def _second(probabilities: str | None, answer: str) -> tuple[str | None, float | None]:
    """The most probable class that is not the answer; it may be more probable than that one."""
    said: dict[str, float] = json.loads(probabilities or "{}")
    others = [item for item in said.items() if item[0] != answer]
    return max(others, key=lambda item: item[1]) if others else (None, None)


def review_classes(lake: Lake, spec: DatasetSpec) -> tuple[str, ...]:
    """The classes that a person chooses from; none for a regression.

    Those of the YAML, else those of the training set. Raises ModelError if nobody knows any.
    """
    if spec.is_regression:
        return ()
    if spec.classes is not None:
        return spec.classes
    key = of_dataset(spec.dataset, "training_set")
    labels = (lake.read_json(key) or {}).get("labels")
    if not labels:
        raise ModelError(
            code="classes_unknown",
            what="the dataset's classes are not known yet",
            where=f"{lake.url}/{key}",
            todo="Name them in the dataset's YAML (`classes: [a, b]`), or run `mm train` first.",
        )
    return tuple(sorted(labels))
