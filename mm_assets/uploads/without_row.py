"""Which images of an upload have an ID that none of its rows has, and whose ID was meant instead.

They wait for their rows, which is right where those come in another upload. Where they came along,
the names and the IDs differ in something small, and nobody notices before a model is trained.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import combinations
from typing import TYPE_CHECKING

from mm_assets.contract.visible import visible

if TYPE_CHECKING:
    import pyarrow as pa

_SHOWN = 3
_LOOKED_INTO = 2_000  # names in which an ID of a row is looked for
_MOST_PARTS = 10  # of a name


def without_row(images: Mapping[str, str], ids: pa.ChunkedArray, image_name: str) -> list[str]:
    """In words; nothing where each has a row, or where there are no rows at all.

    images: file to the ID in its name. ids: those of the upload's rows.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if not images or not len(ids):
        return []
    here = pc.is_in(pa.array(images.values(), pa.string()), value_set=ids).to_pylist()
    strays = [pair for pair, found in zip(images.items(), here, strict=True) if not found]
    if not strays:
        return []
    meant = _meant(dict(strays[:_LOOKED_INTO]), ids)
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


def _meant(strays: Mapping[str, str], ids: pa.ChunkedArray) -> dict[str, str]:
    """The row's ID that stands in an image's, but for case, blanks and zeros in front."""
    import pyarrow as pa
    import pyarrow.compute as pc

    parts = {file: list(dict.fromkeys(map(_key, _parts(one)))) for file, one in strays.items()}
    wanted = pa.array(sorted({part for some in parts.values() for part in some}), pa.string())
    keys = pc.utf8_ltrim(pc.utf8_lower(pc.utf8_trim_whitespace(ids)), "0")
    fitting = pc.is_in(keys, value_set=wanted)
    rows = dict(zip(keys.filter(fitting).to_pylist(), ids.filter(fitting).to_pylist(), strict=True))
    found = {file: next((rows[part] for part in some if part in rows), None)
             for file, some in parts.items()}  # fmt: skip
    return {file: one for file, one in found.items() if one is not None}


def _key(text: str) -> str:
    return text.strip().lower().lstrip("0")


def _parts(name: str) -> list[str]:
    """The name and what stands in it between other signs than letters and digits, longest first."""
    words = list(re.finditer(r"[^\W_]+", name))[:_MOST_PARTS]
    spans = [(one.start(), one.end()) for one in words]
    spans += [(first[0], last[1]) for first, last in combinations(spans, 2)]
    parts = sorted((name[start:end] for start, end in spans), key=len, reverse=True)
    return [part for part in (name, *parts) if _key(part)]
