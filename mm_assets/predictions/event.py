"""What is told of a prediction: the event, in the envelope of EventBridge.

The shape is versioned: `queues/schemas/mm-assets.prediction.v1.json` is made from the classes here
(`python -m mm_assets.predictions.event`), and a test compares them.
"""

from __future__ import annotations

import hashlib
import json
import time
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mm_assets.queues.targets import ATTRIBUTE_BYTES, MOST_BYTES, Message

SCHEMA = "mm-assets.prediction.v1"
SOURCE = "mm-assets"
DETAIL_TYPE = "Prediction"
# What is left out of an event that would be too long for a message, the longest first.
LONG = ("probabilities", "reasons", "doubts")
Kind = Literal["new", "changed", "renewed", "withdrawn"]


class _Shape(BaseModel):
    model_config = ConfigDict(protected_namespaces=())


class Answer(_Shape):
    """The table's row, in the words of the table."""

    prediction: str
    lower: float | None = Field(description="Where the truth of a number begins; null for classes.")
    upper: float | None = Field(description="Where it ends.")
    probabilities: dict[str, float] | None = Field(description="Of each class; null for numbers.")
    confidence: float
    needs_review: bool
    doubts: str | None = Field(description="What its model never saw of the record, in words.")
    modality: str
    model_version: str
    upload: str = Field(description="The upload that brought the row.")
    image_upload: str | None = Field(description="The upload that brought its image.")
    input_hash: str
    run_id: str
    predicted_at: str
    reasons: str | None


class Detail(_Shape):
    """What changed of one record."""

    schema_: Literal["mm-assets.prediction.v1"] = Field(alias="schema")
    id: str = Field(description="The same each time that the same change is told.")
    sequence: int = Field(
        description="Of the events of one record the one with the greatest holds; it is the time "
        "of reading the table, in microseconds since 1970."
    )
    kind: Kind = Field(
        description="new: the record's first answer; changed: another answer; renewed: the same "
        "answer from a newer row, image or model; withdrawn: it has none any more."
    )
    dataset: str
    record_id: str
    answer: Answer | None = Field(description="The current answer; null if withdrawn.")
    left_out: list[str] = Field(description="Fields that were too long for a message; else null.")


class PredictionEvent(_Shape):
    """One event, as a queue and a topic hold it, and as EventBridge wraps it by itself."""

    version: Literal["0"]
    id: str
    source: Literal["mm-assets"]
    detail_type: Literal["Prediction"] = Field(alias="detail-type")
    time: str
    detail: Detail


def now() -> int:
    """A sequence: microseconds since 1970. Taken before the table is read, so that an answer never
    counts as newer than one that replaced it before."""
    return time.time_ns() // 1000


def event(
    dataset: str, record_id: str, kind: Kind, row: dict[str, Any] | None, note: str, sequence: int
) -> Message:
    """The message about one record. row: as the table holds it; note: of the outbox."""
    told = {name: row[name] for name in Answer.model_fields} if row is not None else None
    parts = (note, dataset, record_id, content_of(row))
    identity = _hash(*parts)
    body = _body(dataset, record_id, kind, told, identity, sequence)
    return Message(
        body=body,
        attributes={
            "schema": SCHEMA,
            "dataset": dataset,
            "kind": kind,
            "needs_review": "true" if row is not None and row["needs_review"] else "false",
        },
        group=_hash(dataset, record_id),
        once=f"{identity}-{sequence}",
    )


def _body(
    dataset: str,
    record_id: str,
    kind: Kind,
    told: dict[str, Any] | None,
    identity: str,
    sequence: int,
) -> dict[str, Any]:
    # A character becomes at most twelve bytes; only what may be too long is measured.
    may_be_long = told is not None and 12 * sum(len(told[n] or "") for n in LONG) > MOST_BYTES // 2
    if told is not None and told["probabilities"] is not None:
        told["probabilities"] = json.loads(told["probabilities"])
    left_out: list[str] = []
    detail = {
        "schema": SCHEMA, "id": identity, "sequence": sequence, "kind": kind, "dataset": dataset,
        "record_id": record_id, "answer": told, "left_out": left_out,
    }  # fmt: skip
    stamp = datetime.fromtimestamp(sequence / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    body = {
        "version": "0", "id": identity, "source": SOURCE, "detail-type": DETAIL_TYPE,
        "time": stamp, "detail": detail,
    }  # fmt: skip
    for name in LONG if may_be_long else ():
        if told is not None and len(json.dumps(body)) + ATTRIBUTE_BYTES > MOST_BYTES:
            told[name] = None
            left_out.append(name)
    return body


def content_of(row: dict[str, Any] | None) -> str:
    """A hash of all that a row says, whenever and by which run it was said; '' for no row."""
    if row is None:
        return ""
    names = (name for name in Answer.model_fields if name not in ("run_id", "predicted_at"))
    return _hash(*(row.get(name) for name in names))  # what is kept of a withdrawn row has fewer


def answer_of(row: dict[str, Any] | None) -> str:
    """A hash of what people act upon: the answer, its interval, and whether it is in review."""
    if row is None:
        return ""
    return _hash(row["prediction"], row["lower"], row["upper"], row["needs_review"])


def _hash(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def schema() -> dict[str, Any]:
    """The JSON Schema of an event."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **PredictionEvent.model_json_schema(),
    }


if __name__ == "__main__":
    from mm_assets.queues.schemas import write

    write(SCHEMA, schema())
