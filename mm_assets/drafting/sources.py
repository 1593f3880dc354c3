"""What a path stands for: a table, a folder with a table and images, or images alone."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from mm_assets.contract.errors import SpecError
from mm_assets.drafting.image_names import has_images_beside, is_image_name
from mm_assets.drafting.profile import argument, shown
from mm_assets.reading.formats import TABLE_SUFFIXES
from mm_assets.uploads.check import list_folder

_PACKED = (".gz", ".bz2", ".xz", ".zst")
_PERHAPS = (".txt", ".json")  # often notes and settings; beside images they are no table
_SHOWN = 5


class Source(NamedTuple):
    """table: None for images alone. images: the folder that holds them, None without any."""

    table: Path | None
    images: Path | None


def source_of(path: Path) -> Source:
    """The table and the images of a path. Raises SpecError where a folder holds several tables."""
    if not path.is_dir():
        beside = path.is_file() and has_images_beside(path)
        return Source(path, path.absolute().parent if beside else None)
    files = list_folder(path)[0]
    images = path if any(is_image_name(file.name) for file in files) else None
    tables = [file.name for file in files if _called_table(file.name)]
    sure = [name for name in tables if not _unpacked(name).endswith(_PERHAPS)]
    if len(found := sure or ([] if images else tables)) > 1:
        raise SpecError(
            code="init_several_tables",
            what=f"the folder holds several tables: {', '.join(map(shown, found[:_SHOWN]))}"
            f"{', …' if len(found) > _SHOWN else ''}",
            where=str(path),
            todo=f"Name the one to draft from: mm init {argument(str(path / found[0]))}"
            + (f" --images {argument(str(path))}" if images else ""),
        )
    return Source(path / found[0] if found else None, images)


def _unpacked(name: str) -> str:
    name = name.lower()
    return next((name.removesuffix(end) for end in _PACKED if name.endswith(end)), name)


def _called_table(name: str) -> bool:
    return _unpacked(name).endswith(TABLE_SUFFIXES)
