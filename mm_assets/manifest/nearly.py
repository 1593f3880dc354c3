"""Images that miss their rows by a hair: ` K1`, `k1`, `1.0`, `K1.jpg` and `001` are other IDs.

IDs are exact, so nothing is joined here. It is said, because an upload of which no image meets its
row is otherwise as good as one whose rows come later.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mm_assets.contract.visible import visible

if TYPE_CHECKING:
    import pyarrow as pa

_SHOWN = 3
_LOOKED_AT = 1_000  # images without a row; with more of them the first say enough
# What two spellings of an ID may differ in: pattern and what stands for it, in this order.
_LOOSE = (
    (r"^[='\"\s]+|['\"\s]+$", ""),
    (r"\.(jpe?g|png|webp|tiff?|heic|avif|gif|bmp)$", ""),
    (r"^(\d+)\.0+$", r"\1"),
    (r"[\s_‐‑–-]+", "-"),
    (r"(^|[^0-9.])0+([0-9])", r"\1\2"),
)


def nearly(record_ids: pa.ChunkedArray, images: Mapping[str, str]) -> dict[str, Any] | None:
    """Which images no record has by its ID, and one nearly has; None if there are none.

    images: file to ID. `count` is how many there are, `shown` the first as (file, image's ID,
    record's ID).
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if not images or not len(record_ids):
        return None
    files, ids = pa.array(images.keys(), pa.string()), pa.array(images.values(), pa.string())
    rows = record_ids.combine_chunks()  # pyarrow's is_in crashes over chunks that are empty
    alone = pc.indices_nonzero(pc.invert(pc.is_in(ids, value_set=rows)))[:_LOOKED_AT]
    if not len(alone):
        return None
    loose_images = _loose(ids.take(alone))
    free = rows.filter(pc.invert(pc.is_in(rows, value_set=ids)))
    loose = _loose(free)
    places = pc.indices_nonzero(pc.is_in(loose, value_set=loose_images))
    near = dict(zip(loose.take(places).to_pylist(), free.take(places).to_pylist(), strict=True))
    found = [
        (files[at].as_py(), ids[at].as_py(), near[key])
        for at, key in zip(alone.to_pylist(), loose_images.to_pylist(), strict=True)
        if key and key in near
    ]
    return {"count": len(found), "shown": found[:_SHOWN]} if found else None


def nearly_in_words(found: Mapping[str, Any] | None) -> list[str]:
    """found: what `nearly` says."""
    if not found:
        return []
    pairs = "; ".join(
        f"the ID of {visible(file)} is '{visible(own)}', that of a row '{visible(row)}'"
        for file, own, row in found["shown"]
    )
    more = f"; and {found['count'] - len(found['shown'])} more" * (found["count"] > _SHOWN)
    return [f"images that miss their row by how the ID is written: {pairs}{more}"]


def _loose(ids: Any) -> Any:
    """ids: an array or chunks of one."""
    import pyarrow.compute as pc

    ids = pc.utf8_lower(pc.utf8_normalize(ids, "NFKC"))
    for pattern, instead in _LOOSE:
        ids = pc.replace_substring_regex(ids, pattern, instead)
    return ids
