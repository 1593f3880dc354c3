"""From what a request holds to records as an upload would bring them.

Each record of JSON is judged as an upload with it alone, so its neighbours in a request make no
difference. A table (CSV, Parquet …) is judged whole, as a file of an upload is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from mm_assets.contract.dataset import CONTENT_ID, IMAGE, DatasetSpec
from mm_assets.contract.errors import REFUSALS
from mm_assets.contract.ids import fault_of, normalised
from mm_assets.lake.local import working_folder
from mm_assets.manifest.plain import PlainReader, Value
from mm_assets.manifest.rows import typed_files
from mm_assets.reading.addresses import REMEDIES
from mm_assets.reading.images import ImageRefused, NormalisedImage, is_image, normalise
from mm_assets.reading.other_content import no_image
from mm_assets.serving.plain_csv import plain_rows
from mm_assets.uploads.deliver import IN_MEMORY, Delivered
from mm_assets.uploads.receive import Packer

HEAD = 4096
TABLE = "records"
# Beside errors.REFUSALS: what can only be wrong with a request; and addresses.REMEDIES.
TODO = {
    "image_needed": "Send the record's image with it; each record of this dataset is an image.",
    "image_base64": "Encode the bytes of the file as base64.",
    "image_reference": "Send one of base64, url, s3 and name, as a text.",
    "image_not_known": "Name an image that was taken in with an upload of this dataset.",
    "bucket_not_allowed": "Ask whoever runs this to allow the bucket (`--allow-bucket BUCKET`).",
    "object_missing": "Check the bucket and the key; the key stands as it is, not escaped.",
    "object_too_large": "Name a smaller image, or upload it.",
    "object_failed": "Look at the reason; then ask again.",
}


class Doubled(dict[str, Any]):
    """A JSON object in which a key stands twice: which value counts cannot be known."""


class Spelled(float):
    """A number of JSON that Python would write otherwise, such as 1.10; as text it is as it was."""

    def __new__(cls, text: str) -> Spelled:
        found = super().__new__(cls, text)
        found._text = text
        return found

    _text: str

    def __str__(self) -> str:
        return self._text


@dataclass(frozen=True)
class Fault:
    """Why a record, or its image, is refused."""

    code: str
    reason: str

    @property
    def todo(self) -> str:
        return TODO.get(self.code) or REMEDIES.get(self.code) or REFUSALS.get(self.code, "")

    def as_dict(self) -> dict[str, str]:
        return {"code": self.code, "reason": self.reason, "todo": self.todo}


# An image as it was sent, as models see it, or why there is none; or several of a record.
Sent = bytes | NormalisedImage | Fault
Images = Sent | list[Sent | None] | None


@dataclass(frozen=True)
class Read:
    """One record of a request.

    features: its typed values; None if it is refused, then `fault` says why. With features `fault`
    says why its image is left out, or the first of several. numbered: it came without an ID, and is
    called by its place. images: its image, if it has one; with `images: all` all of them.
    """

    record_id: str
    features: Mapping[str, Value] | None
    images: tuple[NormalisedImage, ...] = ()
    fault: Fault | None = None
    numbered: bool = False


class Reader:
    """Reads what requests bring for one dataset. Safe in threads."""

    def __init__(self, spec: DatasetSpec) -> None:
        self.spec = spec
        self._plain = PlainReader(spec)
        self._not_asked = {spec.label_column, *spec.split_columns.values(), IMAGE}
        if spec.image_column is not None:
            self._not_asked.add(spec.image_column)

    def images(self, sent: Images) -> tuple[tuple[NormalisedImage, ...], Fault | None]:
        """The images of a record, those sent twice once, and why the first bad one is none."""
        several: list[Sent | None] = sent if isinstance(sent, list) else [sent]
        if isinstance(sent, list) and not self.spec.all_images:
            words = "several images of a record need `images: all` in the dataset's YAML"
            return (), Fault("image_reference", words)
        found: list[NormalisedImage] = []
        faults: list[Fault] = []
        copies: set[bytes] = set()
        for one in several:
            if isinstance(one, bytes):
                if one in copies:
                    continue
                copies.add(one)
            seen = one if isinstance(one, NormalisedImage) else self.image(one)
            if isinstance(seen, Fault):
                faults.append(seen)
            elif seen is not None:
                found.append(seen)
        return tuple(found), faults[0] if faults else None

    def image(self, data: bytes | Fault | None) -> NormalisedImage | Fault | None:
        """An image as models see it, or why it is none. A Fault is handed on."""
        if data is None or isinstance(data, Fault):
            return data
        if not self.spec.has_images:
            return Fault("image_unexpected", "this dataset has no images (image_name: null)")
        if not is_image(data[:HEAD]):
            return self._no_image(data)
        if len(data) > IN_MEMORY:
            return Fault("image_too_large", f"{len(data):,} bytes are more than {IN_MEMORY:,}")
        try:
            return normalise(
                data,
                longest_side=self.spec.image_longest_side,
                maximum_pixels=int(self.spec.image_maximum_megapixels * 1e6),
            )
        except ImageRefused as error:
            return Fault(error.code, error.reason)

    def record(
        self,
        record: Mapping[str, Any],
        place: int = 0,
        image: Images = None,
    ) -> Read:
        """One record: names to None, bool, number or text; whatever else is refused.

        image: also a list, where the YAML asks for all of a record's images.
        A record without an ID is called by its place, counted from 1. Its label is not looked at.
        """
        if isinstance(record, Doubled):
            name = record.get(self.spec.id_column, place + 1)
            return Read(
                str(name), None, fault=Fault("row_json", "a key stands in the object twice")
            )
        seen, fault = self.images(image)
        told = self._told(record)
        if self.spec.records == "images":
            return self._image_alone(told, place, image, seen, fault)
        if numbered := self.spec.id_column not in told:
            told[self.spec.id_column] = str(place + 1)
        plain = self._plain.read(told)
        found = (plain.record_id, plain.features) if plain is not None else self._judged(told)
        read = _with_image(*found, seen, fault)
        return replace(read, numbered=True) if numbered else read

    def _told(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """What counts of a record; an ID that is a number is text, spelled as it was sent."""
        told = {name: value for name, value in record.items() if name not in self._not_asked}
        if isinstance(given := told.get(self.spec.id_column), Spelled):
            told[self.spec.id_column] = str(given)
        return told

    def is_plain(self, record: Mapping[str, Any]) -> bool:
        """Whether `record` reads it at once; else it takes some ten milliseconds."""
        told = self._told(record)
        told.setdefault(self.spec.id_column, "1")
        if isinstance(record, Doubled):
            return True
        return self.spec.records == "images" or self._plain.read(told) is not None

    def table(
        self, data: bytes, name: str = TABLE, *, number_rows: bool = False
    ) -> list[Read] | Fault:
        """The rows of a table, in its order; or why it is refused whole.

        number_rows: rows of a table without IDs are called by their places, counted from 1.
        """
        if (reads := self._plain_table(data, number_rows=number_rows)) is not None:
            return reads
        found = self._table(data, name)
        if number_rows and isinstance(found, Fault) and found.code == "table_no_id":
            return self._table(data, name, number_rows=True)
        return found

    def _plain_table(self, data: bytes, *, number_rows: bool) -> list[Read] | None:
        reads = []
        for n, row in enumerate(plain_rows(data, self.spec, number_rows=number_rows) or (), 1):
            plain = self._plain.read({self.spec.id_column: str(n), **row})
            if plain is None:
                return None
            reads.append(
                Read(plain.record_id, plain.features, numbered=self.spec.id_column not in row)
            )
        return reads or None

    def _table(self, data: bytes, name: str, *, number_rows: bool = False) -> list[Read] | Fault:
        with working_folder("serving") as folder:
            packer = Packer(self.spec, folder)
            if number_rows:
                packer.wanted = replace(packer.wanted, id_column=None, lines_as=self.spec.id_column)
            packer.pack([_delivered(name, data)], lambda _: None)
            packer.images.close()
            if (code := packer.files[0].get("code")) is not None:
                return Fault(code, packer.files[0]["reason"])
            if not packer.tables:
                return Fault("file_type", "this is an image, and no table")
            (entry,) = packer.tables
            if entry["labels_only"]:
                reason = "the table has no columns to predict from, only ID and label"
                return Fault("table_columns", reason)
            columns = [name if name not in self._not_asked else "" for name in entry["columns"]]
            refused = {one.line: (one.record_id, Fault(one.code, one.reason))
                       for one in packer.rejects}  # fmt: skip
            found: dict[int, Read] = {}
            with typed_files(self.spec, [{**entry, "columns": columns}], folder) as typed:
                for one in typed.rejects.to_pylist():
                    refused[one["line"]] = (one["record_id"], Fault(one["code"], one["reason"]))
                for batch in typed.batches(typed.index.select(["record_id"])):
                    for row in batch.to_pylist():
                        found[row["row_line"]] = Read(row["record_id"], row["features"] or {})
        for line, (record_id, fault) in refused.items():
            found[line or 0] = Read(record_id or "", None, fault=fault)
        reads = [found[line] for line in sorted(found)]
        if number_rows:
            reads = [
                replace(read, record_id=str(n), numbered=True) for n, read in enumerate(reads, 1)
            ]
        return reads

    # -- what is not plain --

    def _judged(self, record: Mapping[str, Any]) -> tuple[str, Mapping[str, Value] | Fault | None]:
        given = record[self.spec.id_column]
        name = given if isinstance(given, str) else json.dumps(given)
        # Lists last: a file that begins with one looks as if its rows were in that list.
        told = dict(sorted(record.items(), key=lambda one: isinstance(one[1], list)))
        try:
            data = json.dumps(told, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            return name, Fault("row_json", f"this is no JSON object: {error}")
        rows = self.table(data + b"\n", "record.jsonl")
        if isinstance(rows, Fault):
            return name, rows
        if not rows:
            return name, Fault("row_json", "the record is empty")
        (row,) = rows
        return row.record_id or name, row.features if row.fault is None else row.fault

    def _no_image(self, data: bytes) -> Fault:
        """What an upload says of a file that is called an image and is none."""
        with working_folder("serving") as folder:
            packer = Packer(self.spec, folder)
            packer.pack([_delivered("image.png", data)], lambda _: None)
            packer.images.close()
            (file,) = packer.files
        if file.get("code") is None:  # a table, of all things
            return Fault("image_unreadable", no_image(data))
        return Fault(file["code"], file["reason"])

    def _image_alone(
        self,
        record: Mapping[str, Any],
        place: int,
        sent: Images,
        seen: tuple[NormalisedImage, ...],
        bad: Fault | None,
    ) -> Read:
        given = record.get(self.spec.id_column)
        numbered = False
        if given is None:
            by_content = isinstance(sent, bytes) and "{id}" not in (self.spec.image_name or "")
            whole = hashlib.sha256(sent).hexdigest() if isinstance(sent, bytes) else ""
            given = whole[:CONTENT_ID] if by_content else str(place + 1)
            numbered = not by_content
        record_id = normalised(given if isinstance(given, str) else json.dumps(given))
        if fault := fault_of(record_id):
            return Read(record_id, None, fault=Fault(*fault))
        if not seen:
            bad = bad or Fault("image_needed", "the record has no image")
            return Read(record_id, None, fault=bad)
        return Read(record_id, {}, seen, bad, numbered)


def _with_image(
    record_id: str,
    features: Mapping[str, Value] | Fault | None,
    seen: tuple[NormalisedImage, ...],
    fault: Fault | None,
) -> Read:
    if isinstance(features, Fault):
        return Read(record_id, None, fault=features)
    return Read(record_id, features, seen, fault)


def _delivered(name: str, data: bytes) -> Delivered:
    return Delivered(name, len(data), hashlib.sha256(data).hexdigest(), data)
