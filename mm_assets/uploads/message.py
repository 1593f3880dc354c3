"""A work message: it names an upload in the inbox, or holds a few records itself.

Records become an upload of their own, whose key is made of when the message was sent and of what
it holds. A message with the same content is the same upload, however often it comes; whoever means
the same records anew gives another `id`. Nothing is judged here: the receiving code does that.

`queues/schemas/mm-assets.work.v1.json` is made from the class here
(`python -m mm_assets.uploads.message`), and a test compares them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Set
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import INBOX_NOTE, messages_prefix, of_upload, received
from mm_assets.lake.local import working_folder
from mm_assets.uploads import ledger
from mm_assets.uploads.find import Source, Waiting, look_at, upload_key
from mm_assets.uploads.in_hand import write_zip

SCHEMA = "mm-assets.work.v1"
TABLE = "records.jsonl"
MOST_IMAGE_BYTES = 64 << 20  # of one message, its references followed
Cell = str | int | float | bool | None


class CannotHandle(Exception):  # noqa: N818  never leaves the reader of a queue as an error
    """A message that goes to the dead-letter queue, with a code and the reason."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class WorkMessage(BaseModel):
    """Either `upload`, or `records` and `images`."""

    model_config = ConfigDict(extra="forbid")

    schema_: Literal["mm-assets.work.v1"] = Field(alias="schema")
    dataset: str
    upload: str | None = Field(None, description="The name of an archive or folder in the inbox.")
    records: list[dict[str, Cell]] = Field(
        default_factory=list, description="Rows: column to value, as in a file of JSON Lines."
    )
    images: dict[str, str] = Field(
        default_factory=dict,
        description="File name to the file's bytes in base64, or to s3://bucket/key in the lake.",
    )
    id: str | None = Field(None, description="Makes the same content another upload.")

    @model_validator(mode="after")
    def _one_of_both(self) -> WorkMessage:
        if (self.upload is not None) == bool(self.records or self.images):
            raise ValueError("it needs either upload, or records and images")
        return self


@dataclass(frozen=True, slots=True)
class Envelope:
    """What the queue says of a message: its ID, and when it was sent."""

    message_id: str
    sent_at: datetime


def read_work(body: str, datasets: Set[str]) -> WorkMessage | None:
    """The work message in a body; None if it is none at all. Raises CannotHandle."""
    try:
        document = json.loads(body)
        if isinstance(document, dict) and isinstance(document.get("Message"), str):  # from SNS
            document = json.loads(document["Message"])
    except (ValueError, RecursionError):
        return None
    name = document.get("schema") if isinstance(document, dict) else None
    if not isinstance(name, str) or not name.startswith("mm-assets."):
        return None
    try:
        work = WorkMessage.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        reason = f"it is no {SCHEMA}: {where or 'message'}: {first['msg']}"
        raise CannotHandle("message_invalid", reason) from None
    if work.dataset not in datasets:
        raise CannotHandle("dataset_unknown", f"there is no dataset '{work.dataset}'")
    return work


def note_work(lake: Lake, work: WorkMessage, envelope: Envelope) -> str:
    """Note the upload of a message in the ledger; returns its key. Safe to repeat.

    Raises CannotHandle for what can't be done now, LakeError when the lake can't be reached.
    """
    if work.upload is not None:
        return _note_named(lake, work.dataset, work.upload, envelope)
    return _note_records(lake, work, envelope)


def _note_named(lake: Lake, dataset: str, name: str, envelope: Envelope) -> str:
    for folder in (False, True):
        found = look_at(lake, dataset, name, folder=folder)
        if isinstance(found, Source):
            ledger.note(lake, replace(found, message=envelope.message_id))
            return found.upload
        if isinstance(found, Waiting):
            reason = f"'{name}' in the inbox of {dataset} is not finished: {found.reason}"
            raise CannotHandle("upload_unfinished", reason)
    if uploads := lake.names(received(dataset, name)):  # it came before, and was moved
        return max(uploads)
    raise CannotHandle("upload_unknown", f"there is no '{name}' in the inbox of {dataset}")


def _note_records(lake: Lake, work: WorkMessage, envelope: Envelope) -> str:
    images = [(name, _image(lake, name, said)) for name, said in work.images.items()]
    if sum(len(data) for _, data in images) > MOST_IMAGE_BYTES:
        raise _too_large()
    digest = _digest(work, images)
    claim = f"{messages_prefix(work.dataset)}{digest}.json"
    with working_folder("message") as folder:
        packed = folder / "upload.zip"
        rows = "".join(json.dumps(row) + "\n" for row in work.records)
        write_zip(packed, [*([(TABLE, rows.encode())] if rows else []), *images])
        own = _source(work.dataset, digest, packed.stat().st_size, envelope)
        lake.create_json(claim, own.as_dict())  # of all with this content the first one's
        source = Source(**(lake.read_json(claim) or own.as_dict()))
        if ledger.state_of(lake, source.dataset, source.upload)[0] == "unknown":
            lake.write(source.key, packed)
            # It never lay in the inbox: it is where received uploads lie.
            note = {"objects": [], "moved": True}
            lake.create_json(of_upload(source.dataset, source.upload, INBOX_NOTE), note)
            ledger.note(lake, source)
    return source.upload


def _source(dataset: str, digest: str, size: int, envelope: Envelope) -> Source:
    name = f"message-{digest[:16]}.zip"
    upload = upload_key(envelope.sent_at, name, digest)
    return Source(
        upload=upload,
        dataset=dataset,
        name=name,
        kind="zip",
        key=received(dataset, name, upload) + name,
        etag="",
        size=size,
        arrived_at=envelope.sent_at.isoformat(),
        message=envelope.message_id,
    )


def _digest(work: WorkMessage, images: list[tuple[str, bytes]]) -> str:
    """What a message holds; the order of names in it does not count, that of records does."""
    content: Any = [
        work.dataset, work.id, work.records,
        sorted((name, hashlib.sha256(data).hexdigest()) for name, data in images),
    ]  # fmt: skip
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _image(lake: Lake, name: str, said: str) -> bytes:
    if name == TABLE:
        raise CannotHandle("message_invalid", f"no image may be called {TABLE}")
    if not said.startswith("s3://"):
        try:
            return base64.b64decode(said, validate=True)
        except (binascii.Error, ValueError):
            reason = f"the image {name!r} is neither base64 nor s3://…"
            raise CannotHandle("message_invalid", reason) from None
    base = f"{lake.settings.lake.rstrip('/')}/"
    if not lake.settings.is_s3 or not said.startswith(base):
        reason = f"the image {name!r} is not in the lake: an address must begin with {base}"
        raise CannotHandle("message_address", reason)
    key = said.removeprefix(base)
    there = lake.stat(key)
    if there is None:
        raise CannotHandle("message_image", f"the image {name!r} is not there: {said}")
    if there.size > MOST_IMAGE_BYTES:
        raise _too_large()
    return lake.read(key)


def _too_large() -> CannotHandle:
    reason = f"its images are over {MOST_IMAGE_BYTES >> 20} MiB; send an upload and name it"
    return CannotHandle("message_too_large", reason)


def envelope_of(message: dict[str, Any]) -> Envelope:
    """Of a message as SQS gives it; the time is when it was sent."""
    millis = int(message.get("Attributes", {}).get("SentTimestamp", 0))
    sent_at = datetime.fromtimestamp(millis / 1000, UTC) if millis else datetime.now(UTC)
    return Envelope(str(message["MessageId"]), sent_at)


def schema() -> dict[str, Any]:
    """The JSON Schema of a work message."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **WorkMessage.model_json_schema(),
    }


if __name__ == "__main__":
    from mm_assets.queues.schemas import write

    write(SCHEMA, schema())
