"""A column whose cells name the images beside a table, found by counting what they mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mm_assets.drafting.column_kinds import IMAGE_FILES, NUMBERS_SHARE
from mm_assets.drafting.profile import Profile
from mm_assets.reading.image_column import ImageFiles, cells_of

SEPARATORS = (None, "|", ";", ",")
TRIED = 300  # values of a column, before all of them are looked at
_NOTHING = frozenset[str]()


@dataclass(frozen=True)
class ImageColumn:
    """A column that names images. cells: how many of its values mean a file, of how many; rows:
    those that have such a value. files: what they mean. unclear: values that could mean several.
    several: rows whose value names more than one file.
    """

    name: str
    separator: str | None
    cells: int
    of: int
    rows: int
    files: frozenset[str]
    unclear: int
    several: int = 0


def find_image_column(
    profiles: Mapping[str, Profile], id_column: str, files: Sequence[str], *, table: str
) -> ImageColumn | None:
    """The column that names the most images, if one does.

    Where its values do not look like files, half of them have to name one, and half of the images
    have to be named: a column of small numbers also fits images called 1.jpg, 2.jpg, ….
    table: the table's path from the folder of the images.
    """
    known = ImageFiles(files)
    best: ImageColumn | None = None
    for name, profile in profiles.items():
        if name == id_column or not profile.values:
            continue
        looks = profile.share(IMAGE_FILES) >= NUMBERS_SHARE
        for separator in SEPARATORS:
            if separator is not None and not any(separator in v for v in profile.values):
                continue
            some = _looked_at(name, profile, separator, known, table, TRIED)
            if not looks and some.cells * 2 < some.of:
                continue
            found = _looked_at(name, profile, separator, known, table, None)
            enough = looks or len(found.files) * 2 >= len(files)
            if enough and found.cells and (best is None or found.rows > best.rows):
                best = found
    return best


def _looked_at(
    name: str,
    profile: Profile,
    separator: str | None,
    known: ImageFiles,
    table: str,
    most: int | None,
) -> ImageColumn:
    values = list(profile.values.items())[:most]
    cells = rows = unclear = several = 0
    files: set[str] = set()
    for value, count in values:
        meant = [known.meant(one, table) for one in cells_of(value, separator, _NOTHING)]
        here = [one for one in meant if isinstance(one, str)]
        files.update(here)
        cells += bool(here)
        rows += count if here else 0
        several += count if len({*here}) > 1 else 0
        unclear += any(one is not None and not isinstance(one, str) for one in meant)
    return ImageColumn(
        name, separator, cells, len(values), rows, frozenset(files), unclear, several
    )
