"""The merge rule: of everything that was ever predicted of a record, which one the table keeps.

The table keeps the greatest prediction ever offered, by the order of `ORDER`: an image beats no
image, then the newer row, then the newer image, then the newer champion, then the newer wording of
the YAML, and, so that the order is total, a hash of the content. "Newer" compares upload keys,
which begin with the time of arrival. The greatest of a set does not depend on the order in which
its members come, so any order, repetition, crash or backfill ends in the same table.

**What no longer counts** is out of that set, whenever it was or will be offered:
- a prediction whose row or image came with an upload that was withdrawn;
- one whose row is as old as, or older than, a row of the same record that was refused. So a refusal
  is a statement, as a row is: the record has no answer until a newer upload brings a good row.
  Refusals of an upload that was withdrawn don't count either;
- one whose row its own upload no longer holds, since the YAML was changed;
- one whose image is named by a row of another upload (`image_order`, see named.py), if that upload
  was withdrawn, or if what it names could mean several images by now.
Which these are is a function of the index, so the table stays one of what was sent. What would be
the greatest without them is offered again by the upload that took something back: it predicts every
record that it ever spoke of, from what is left.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mm_assets.tables.named import BY, UNCLEAR, named_by

# Columns of an offered prediction that decide which one stays, most significant first.
ORDER = (
    "modality_rank", "upload", "image_order", "model_generation", "spec_generation",
    "content_hash",
)  # fmt: skip

# Why a prediction was taken back, where that is not the code of a refused row.
BY_UPLOAD = "upload_withdrawn"
ROW_GONE = "row_gone"


def is_void(prediction: Mapping[str, Any], fallen: Mapping[str, str]) -> bool:
    """Whether a prediction (`upload`, `image_upload`, `image_order`) no longer counts.

    fallen: of its record, by upload: BY_UPLOAD, ROW_GONE, or the code by which its row was refused;
    and by `names_of` an upload: UNCLEAR, if what it names for the record is not clear.
    """
    return void_for(prediction, fallen) is not None


def void_for(prediction: Mapping[str, Any], fallen: Mapping[str, str]) -> tuple[str, str] | None:
    """Why it no longer counts, and by which upload; None if it does."""
    upload, by = prediction["upload"], named_by(prediction["image_order"] or "")
    for key in (upload, prediction["image_upload"], by):
        if fallen.get(key) == BY_UPLOAD:
            return BY_UPLOAD, key
    newest = newest_refusal(fallen)
    if newest is not None and upload <= newest:
        return fallen[newest], newest
    if upload in fallen:
        return ROW_GONE, upload
    return (UNCLEAR, by) if by and names_of(by) in fallen else None


def names_of(upload: str) -> str:
    """Under which key `fallen` says that what an upload names is not clear."""
    return f"{upload}{BY}"


def newest_refusal(fallen: Mapping[str, str]) -> str | None:
    """The newest upload that refused the record's row."""
    others = (BY_UPLOAD, ROW_GONE)
    refused = (key for key, code in fallen.items() if code not in others and not key.endswith(BY))
    return max(refused, default=None)
