"""The reference: the table as a plain function of what was sent and of the champions.

Written without any of the code that it is compared with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.laws.champion import says_cat, why
from tests.laws.uploads import RECORDS, Photo, Row, Upload


@dataclass(frozen=True)
class Wording:
    """What can change in the YAML."""

    review_threshold: float = 0.6
    missing_values: Sequence[str] = ("",)
    required: bool = False  # a row without an age is refused

    def takes(self, row: Row) -> bool:
        return row.age != "x" and not (self.required and row.age in self.missing_values)


def meant(cell: str, upload: Upload) -> list[Photo]:
    """The images of one upload that a cell may mean, whether they are whole or not."""
    every = [photo for photo in upload.photos if "/" in photo.record]
    return [one for one in every if cell and (one.name == cell or one.name.endswith(f"/{cell}"))]


def takes(upload: Upload, row: Row, wording: Wording) -> bool:
    """Whether a row is no reject; one whose cell may mean two images is."""
    return wording.takes(row) and len(meant(row.names, upload)) < 2


def owners(upload: Upload) -> list[tuple[str, Photo]]:
    """By which rows of the same upload an image is named: record and image."""
    named = [(row.record, meant(row.names, upload)) for row in upload.rows]
    return [*dict.fromkeys((record, own[0]) for record, own in named if len(own) == 1)]


def waiting_photos(upload: Upload) -> list[Photo]:
    """The images that no row of the same upload names."""
    named = {photo for _, photo in owners(upload)}
    return [p for p in upload.photos if "/" in p.record and p.decodes and p not in named]


def waiting_cells(upload: Upload, record: str) -> list[str]:
    """What the rows of a record name and is not in the same upload, if none of it is."""
    if any(own == record for own, _ in owners(upload)):
        return []
    cells = [row.names for row in upload.rows if row.record == record and row.names]
    return sorted({cell for cell in cells if not meant(cell, upload)})


def named_photo(
    record: str, by_time: Sequence[tuple[str, Upload]]
) -> tuple[str, str, Photo] | None:
    """The image that a record has by name from elsewhere: by which upload, from which, and it."""
    found = []
    for key, upload in by_time:
        near: list[tuple[str, int, Photo]] = []  # by upload and place among the cells
        for n, cell in enumerate(waiting_cells(upload, record)):
            fits = [(k, n, one) for k, u in by_time for one in meant(cell, u)
                    if one in waiting_photos(u)]  # fmt: skip
            places, contents = {p.name for *_, p in fits}, {p.seed for *_, p in fits}
            if len(places) > 1 and len(contents) > 1:
                near = []
                break
            near += fits
        newest = max((k for k, *_ in near), default="")
        own = [(n, one.name, one) for k, n, one in near if k == newest]
        if own:
            found.append((key, newest, min(own, key=lambda one: one[:2])[2]))
    return max(found, key=lambda one: one[:2], default=None)


def own_rows(upload: Upload, wording: Wording = Wording()) -> dict[str, Row]:  # noqa: B008
    """The row of each record that one upload uses, with a label from its labels-only table."""
    brought: dict[str, str] = {}
    for record, label in upload.labels:
        brought.setdefault(record, label)
    used: dict[str, Row] = {}
    for row in (row for row in upload.rows if takes(upload, row, wording)):
        label = row.label or brought.get(row.record, "")
        used.setdefault(row.record, Row(row.record, row.age, label))
    return used


def refused(upload: Upload, wording: Wording) -> set[str]:
    """The records of which one upload says that their row is no good."""
    good = own_rows(upload, wording)
    return {row.record for row in upload.rows if row.record not in good}


def own_labels(upload: Upload, wording: Wording, *, rows_count: bool) -> dict[str, str]:
    """rows_count: or only labels that stand in no row with features."""
    rows = own_rows(upload, wording)
    labels = {r: row.label for r, row in rows.items() if row.label and rows_count}
    for record, label in upload.labels:
        if record not in rows:
            labels.setdefault(record, label)
    return labels


def own_photos(upload: Upload) -> dict[str, Photo]:
    best: dict[str, Photo] = {}
    for record, photo in sorted(owners(upload), key=lambda own: own[1].name):
        if photo.decodes:
            best.setdefault(record, photo)
    for photo in sorted(upload.photos, key=lambda photo: photo.number):
        if photo.decodes and "/" not in photo.record:
            best.setdefault(photo.record, photo)
    return best


def n_images(upload: Upload) -> int:
    """How many images an upload brings, those of several records so many times."""
    whole = [photo for photo in upload.photos if photo.decodes and "/" not in photo.record]
    named = [photo for _, photo in owners(upload) if photo.decodes]
    return len(whole) + len(named) + len(waiting_photos(upload))


def expected_table(
    sent: Mapping[str, Upload],
    champions: Mapping[str, tuple[int, str]],
    wording: Wording,
) -> dict[str, dict[str, Any]]:
    """One row for each record with an unlabelled row: its newest row, its newest image.

    A refused row takes back what older rows said of its record. sent: what counts, without what
    was withdrawn, by a key that sorts by time. champions: by modality, the model's number and
    version.
    """
    table = {}
    by_time = sorted(sent.items())
    for record in RECORDS:
        no_good = [key for key, u in by_time if record in refused(u, wording)]
        since = no_good[-1] if no_good else ""
        told = ((key, own_rows(u, wording)) for key, u in by_time if key > since)
        rows = [(key, own[record]) for key, own in told if record in own]
        unlabelled = [(key, row) for key, row in rows if not row.label]
        if not unlabelled:
            continue
        key, row = unlabelled[-1]
        images = [(k, k, own_photos(u)[record]) for k, u in by_time if record in own_photos(u)]
        if named := named_photo(record, by_time):
            images.append(named)
            images.sort(key=lambda one: one[0] if one[0] == one[1] else f"{one[0]}+{one[1]}")
        brought = (own_labels(u, wording, rows_count=k > since) for k, u in by_time)
        labels = [own[record] for own in brought if record in own]
        _, image_key, image = images[-1] if images else (None, None, None)
        modality = "with_image" if image else "without_image"
        model, version = champions[modality]
        age = None if row.age in wording.missing_values else float(row.age)
        cat = says_cat(model, age, image.seed if image else None)
        table[record] = {
            "prediction": "cat" if cat > 0.5 else "dog",
            "probabilities": {"cat": round(cat, 6), "dog": round(1 - cat, 6)},
            "confidence": round(max(cat, 1 - cat), 6),
            "needs_review": max(cat, 1 - cat) < wording.review_threshold,
            "lower": None,
            "upper": None,
            "doubts": None,
            "reasons": why(model, age, image.seed if image else None),
            "modality": modality,
            "model_version": version,
            "upload": key,
            "image_upload": image_key,
            "image_sha256": hashlib.sha256(image.data).hexdigest() if image else "",
            "label": labels[-1] if labels else None,
        }
    return table
