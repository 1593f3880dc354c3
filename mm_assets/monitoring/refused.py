"""What was refused, of each of the newest uploads: counted once, when an upload was joined.

What stands in the lake (`refused/<n>.json`) is what receipts and manifests say, for each upload
apart, so that one that is joined again, or withdrawn, is right again. It is written as the next
number, once: of two that count at the same moment one begins again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mm_assets.contract.errors import LakeError
from mm_assets.lake.each import of_each
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import MANIFEST, of_upload, refused_prefix
from mm_assets.uploads.joined import joined
from mm_assets.uploads.received import RAW

# By code: files that were quarantined, rows that were rejected. `refused`: the whole upload.
Refused = dict[str, Any]


def refused_of(lake: Lake, dataset: str, uploads: Sequence[str]) -> dict[str, Refused]:
    """What was refused of each of these: quarantined, rejected, refused.

    Two documents are read of each that was joined since the last time, or was not among them then.
    """
    while True:
        notes = joined(lake, dataset)  # before what they are about, and what was counted, is read
        number, counted = _counted(lake, dataset)
        if counted is None:  # by another one, this moment
            continue
        new = [one for one in uploads if one not in counted or one in set(notes.values())]
        found = dict(zip(new, _read(lake, dataset, new), strict=True))
        now = {one: found[one] if one in found else counted[one] for one in uploads}
        # A note was about something that may have changed and changed back meanwhile: write it.
        if (now == counted and not notes) or _write(lake, dataset, number + 1, now):
            of_each(lake, lake.delete, list(notes))
            return now


def _counted(lake: Lake, dataset: str) -> tuple[int, dict[str, Refused] | None]:
    """What was counted last, and its number; None if it is gone already."""
    prefix = refused_prefix(dataset)
    numbers = [int(item.key[len(prefix) :].removesuffix(".json")) for item in lake.list(prefix)]
    newest = max(numbers, default=0)
    if not newest:
        return 0, {}
    try:
        document = lake.read_json(f"{prefix}{newest:08d}.json")
    except LakeError as error:
        if error.code != "lake_damaged":
            raise
        return newest, {}  # all are counted again
    return newest, None if document is None else document["uploads"]


def _write(lake: Lake, dataset: str, number: int, counted: dict[str, Refused]) -> bool:
    prefix = refused_prefix(dataset)
    if not lake.create_json(f"{prefix}{number:08d}.json", {"uploads": counted}):
        return False
    for item in list(lake.list(prefix)):
        if item.key < f"{prefix}{number:08d}.json":
            lake.delete(item.key)
    return True


def _read(lake: Lake, dataset: str, uploads: Sequence[str]) -> list[Refused]:
    keys = [of_upload(dataset, upload, name) for upload in uploads for name in (RAW, MANIFEST)]
    documents = [document or {} for document in of_each(lake, lake.read_json, keys)]
    return [
        {
            "quarantined": raw.get("quarantined_by_code", {}),
            "rejected": manifest.get("rejected_by_code", {}),
            "refused": bool(raw.get("refused")),
        }
        for raw, manifest in zip(documents[::2], documents[1::2], strict=True)
    ]
