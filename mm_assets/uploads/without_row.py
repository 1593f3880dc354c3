"""Which images of an upload have an ID that none of its rows has, and whose ID was meant instead.

They wait for their rows, which is right where those come in another upload. Where they came along,
the names and the IDs differ in something small, and nobody notices before a model is trained. IDs
are exact, so nothing is joined here: it is said.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Any

from mm_assets.contract.visible import visible

if TYPE_CHECKING:
    import pyarrow as pa

_SHOWN = 3
_LOOKED_INTO = 2_000  # images without a row; with more of them the first say enough
_MOST_PARTS = 10  # of a name
# What two spellings of an ID may differ in: pattern and what stands for it, in this order.
_LOOSE = (
    (r"^[='\"\s]+|['\"\s]+$", ""),
    (r"\.(jpe?g|png|webp|tiff?|heic|avif|gif|bmp)$", ""),
    (r"^(\d+)\.0+$", r"\1"),
    (r"[\s_‐‑–-]+", "-"),
    (r"(^|[^0-9.])0+([0-9])", r"\1\2"),
)


# -- what is written differently: ` K1`, `k1`, `1.0`, `K1.jpg`, `001` -----------------------------


def nearly(record_ids: pa.ChunkedArray, images: Mapping[str, str]) -> dict[str, Any] | None:
    """Which images no record has by its ID, and one without an image nearly has; None if none.

    images: file to ID. `count` is how many there are, `shown` the first as (file, image's ID,
    record's ID).
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if not images or not len(record_ids):
        return None
    rows = record_ids.combine_chunks()  # pyarrow's is_in crashes over chunks that are empty
    free = rows.filter(pc.invert(pc.is_in(rows, value_set=pa.array(images.values(), pa.string()))))
    strays = dict(_strays(images, rows)[:_LOOKED_INTO])
    near = _by_spelling(list(strays.values()), free)
    found = [(file, one, near[one]) for file, one in strays.items() if one in near]
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


def _by_spelling(names: list[str], rows: pa.Array) -> dict[str, str]:
    """The row's ID that each of these is another spelling of, where there is one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    keys = _loose(pa.array(names, pa.string()))
    of_rows = _loose(rows)
    places = pc.indices_nonzero(pc.is_in(of_rows, value_set=keys))
    near = dict(zip(of_rows.take(places).to_pylist(), rows.take(places).to_pylist(), strict=True))
    pairs = zip(names, keys.to_pylist(), strict=True)
    return {name: near[key] for name, key in pairs if key.strip("-") and key in near}


def _loose(ids: pa.Array) -> pa.Array:
    import pyarrow.compute as pc

    ids = pc.utf8_lower(pc.utf8_normalize(ids, "NFKC"))
    for pattern, instead in _LOOSE:
        ids = pc.replace_substring_regex(ids, pattern, instead)
    return ids


# -- all that have no row here --------------------------------------------------------------------


def without_row(images: Mapping[str, str], ids: pa.ChunkedArray, image_name: str) -> list[str]:
    """In words; nothing where each has a row, or where there are no rows at all.

    images: file to the ID in its name. ids: those of the upload's rows.
    """
    if not images or not len(ids):
        return []
    rows = ids.combine_chunks()
    strays = _strays(images, rows)
    if not strays:
        return []
    meant = _meant(dict(strays[:_LOOKED_INTO]), rows)
    strays.sort(key=lambda stray: (stray[0] not in meant, stray[0]))
    named = ", ".join(_shown(*stray, meant.get(stray[0])) for stray in strays[:_SHOWN])
    more = ", …" if len(strays) > _SHOWN else ""
    have = "has an ID" if len(strays) == 1 else "have IDs"
    words = (
        f"{len(strays):,} of {len(images):,} images {have} that no row of this upload has: "
        f"{named}{more}; an image waits until its row comes"
    )
    if meant:
        words += (
            ". If rows of this upload are meant, rename the images or correct `image_name: "
            f'"{visible(image_name)}"`, which says what the ID is'
        )
    return [words]


def _shown(file: str, record_id: str, meant: str | None) -> str:
    row = f"; there is a row '{visible(meant)}'" if meant is not None else ""
    return f"{visible(file)} (ID '{visible(record_id)}'{row})"


def _strays(images: Mapping[str, str], rows: pa.Array) -> list[tuple[str, str]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    here = pc.is_in(pa.array(images.values(), pa.string()), value_set=rows).to_pylist()
    return [pair for pair, found in zip(images.items(), here, strict=True) if not found]


def _meant(strays: Mapping[str, str], rows: pa.Array) -> dict[str, str]:
    """By file: the row's ID that the image's is, or that stands in it, but for its spelling."""
    parts = {file: _parts(record_id) for file, record_id in strays.items()}
    near = _by_spelling(sorted({part for some in parts.values() for part in some}), rows)
    found = {file: next((near[part] for part in some if part in near), None)
             for file, some in parts.items()}  # fmt: skip
    return {file: one for file, one in found.items() if one is not None}


def _parts(name: str) -> list[str]:
    """The name and what stands in it between other signs than letters and digits, longest first."""
    words = list(re.finditer(r"[^\W_]+", name))[:_MOST_PARTS]
    spans = [(one.start(), one.end()) for one in words]
    spans += [(first[0], last[1]) for first, last in combinations(spans, 2)]
    return [name, *sorted((name[start:end] for start, end in spans), key=len, reverse=True)]
