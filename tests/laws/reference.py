"""The reference: the table as a plain function of what was sent and of the champions.

Written without any of the code that it is compared with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from tests.laws.champion import says_cat, why
from tests.laws.uploads import RECORDS, Photo, Row, Upload


def is_good(row: Row) -> bool:
    return row.age != "x"


def own_rows(upload: Upload) -> dict[str, Row]:
    """The row of each record that one upload uses, with a label from its labels-only table."""
    brought: dict[str, str] = {}
    for record, label in upload.labels:
        brought.setdefault(record, label)
    used: dict[str, Row] = {}
    for row in filter(is_good, upload.rows):
        label = row.label or brought.get(row.record, "")
        used.setdefault(row.record, Row(row.record, row.age, label))
    return used


def own_labels(upload: Upload) -> dict[str, str]:
    labels = {record: row.label for record, row in own_rows(upload).items() if row.label}
    for record, label in upload.labels:
        if record not in own_rows(upload):
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
    review_threshold: float = 0.6,
    missing_values: Sequence[str] = (),
) -> dict[str, dict[str, Any]]:
    """One row for each record with an unlabelled row: its newest row, its newest image.

    sent: by a key that sorts by time. champions: by modality, the model's number and version.
    """
    table = {}
    by_time = sorted(sent.items())
    for record in RECORDS:
        rows = [(key, own_rows(u)[record]) for key, u in by_time if record in own_rows(u)]
        unlabelled = [(key, row) for key, row in rows if not row.label]
        if not unlabelled:
            continue
        key, row = unlabelled[-1]
        images = [(k, own_photos(u)[record]) for k, u in by_time if record in own_photos(u)]
        labels = [own_labels(u)[record] for _, u in by_time if record in own_labels(u)]
        image_key, image = images[-1] if images else (None, None)
        modality = "with_image" if image else "without_image"
        model, version = champions[modality]
        age = None if row.age in missing_values else float(row.age)
        cat = says_cat(model, age, image.seed if image else None)
        table[record] = {
            "prediction": "cat" if cat > 0.5 else "dog",
            "probabilities": {"cat": round(cat, 6), "dog": round(1 - cat, 6)},
            "confidence": round(max(cat, 1 - cat), 6),
            "needs_review": max(cat, 1 - cat) < review_threshold,
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
