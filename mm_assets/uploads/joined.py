"""Which uploads were joined since somebody looked: a note in the lake for each time.

Who keeps a summary of all uploads reads these instead of all that there ever were. A note is
written after what it is about, and names one time: whoever has used it takes away just that.
"""

from __future__ import annotations

import uuid

from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import joined_prefix

DIGITS = 32  # of what tells two notes of one upload apart


def note_joined(lake: Lake, dataset: str, upload: str) -> None:
    """Note that there is another manifest of this upload."""
    key = f"{joined_prefix(dataset)}{upload}-{uuid.uuid4().hex}.json"
    lake.write_json(key, {"upload": upload})


def joined(lake: Lake, dataset: str) -> dict[str, str]:
    """The notes that there are, and of which upload each is. One listing."""
    prefix = joined_prefix(dataset)
    ending = DIGITS + len("-.json")
    return {item.key: item.key[len(prefix) : -ending] for item in lake.list(prefix)}
