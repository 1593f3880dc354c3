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


def own_rows(upload: Upload, wording: Wording = Wording()) -> dict[str, Row]:  # noqa: B008
    """The row of each record that one upload uses, with a label from its labels-only table."""
    brought: dict[str, str] = {}
    for record, label in upload.labels:
        brought.setdefault(record, label)
    used: dict[str, Row] = {}
    for row in filter(wording.takes, upload.rows):
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
    for photo in sorted(upload.photos, key=lambda photo: photo.number):
        if photo.decodes:
            best.setdefault(photo.record, photo)
    return best


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
        images = [(k, own_photos(u)[record]) for k, u in by_time if record in own_photos(u)]
        brought = (own_labels(u, wording, rows_count=k > since) for k, u in by_time)
        labels = [own[record] for own in brought if record in own]
        image_key, image = images[-1] if images else (None, None)
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
