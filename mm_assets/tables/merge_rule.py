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
- one whose row its own upload no longer holds, since the YAML was changed.
Which these are is a function of the index, so the table stays one of what was sent. What would be
the greatest without them is offered again by the upload that took something back: it predicts every
record that it ever spoke of, from what is left.
"""

from __future__ import annotations

from collections.abc import Mapping

# Columns of an offered prediction that decide which one stays, most significant first.
ORDER = (
    "modality_rank", "upload", "image_upload", "model_generation", "spec_generation",
    "content_hash",
)  # fmt: skip

# Why a prediction was taken back, where that is not the code of a refused row.
BY_UPLOAD = "upload_withdrawn"
ROW_GONE = "row_gone"


def is_void(upload: str, image_upload: str, fallen: Mapping[str, str]) -> bool:
    """Whether a prediction no longer counts.

    fallen: of its record, by upload: BY_UPLOAD, ROW_GONE, or the code by which its row was refused.
    """
    return void_for(upload, image_upload, fallen) is not None


def void_for(upload: str, image_upload: str, fallen: Mapping[str, str]) -> tuple[str, str] | None:
    """Why it no longer counts, and by which upload; None if it does."""
    for key in (upload, image_upload):
        if fallen.get(key) == BY_UPLOAD:
            return BY_UPLOAD, key
    newest = newest_refusal(fallen)
    if newest is not None and upload <= newest:
        return fallen[newest], newest
    return (ROW_GONE, upload) if upload in fallen else None


def newest_refusal(fallen: Mapping[str, str]) -> str | None:
    """The newest upload that refused the record's row."""
    refused = (key for key, code in fallen.items() if code not in (BY_UPLOAD, ROW_GONE))
    return max(refused, default=None)
