"""Which images lie beside a table, and how their names yield the IDs."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from mm_assets.contract.dataset import WHOLE_NAME, DatasetSpec
from mm_assets.contract.errors import SpecError
from mm_assets.contract.settings import present_settings
from mm_assets.drafting.column_kinds import IMAGE_FILES, NUMBERS_SHARE, WEB_ADDRESS
from mm_assets.drafting.image_columns import ImageColumn, find_image_column
from mm_assets.drafting.profile import Profile, quoted, shown
from mm_assets.reading.images.formats import SUFFIXES as IMAGE_SUFFIXES
from mm_assets.uploads.check import LocalFile, list_folder

FILES_TRIED = 5_000
_MOST_BESIDE = 50_000  # files; a folder with more is not the table's own
_DEEPEST_BESIDE = 3  # folders below the table's
_SHAPES = (
    "{id}", "{id}-{n}", "{id}_{n}", "{id} ({n})", "{id} {n}", "{id}.{n}", "{id}({n})",
    "*_{id}", "*-{id}", "*_{id}_{n}", "*_{id}-{n}", "{id}_*", "{id}-*", WHOLE_NAME,
)  # fmt: skip


@dataclass(frozen=True)
class Images:
    """The images of a draft. image_name: None if none fits; fitting: those that belong to rows.

    column: the one that names them, if not their names do. several: rows with more than one image,
    of so many `with_image`.
    """

    image_name: str | None = None
    column: ImageColumn | None = None
    files: list[LocalFile] = field(default_factory=list)
    fitting: list[LocalFile] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    several: int = 0
    with_image: int = 0

    @property
    def all_of_each(self) -> bool:
        """Whether models should see every image of a record: most records have several."""
        return 0 < self.with_image <= 2 * self.several


def images_of(folder: Path) -> list[LocalFile]:
    """The images that would be sent with a folder."""
    return [file for file in list_folder(folder)[0] if is_image_name(file.name)]


def is_image_name(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES)


def has_images_beside(table: Path) -> bool:
    """Whether images lie in the table's folder; not asked of a folder with very many files."""
    seen, found = 0, False
    own = present_settings().own_places
    top = len(table.absolute().parent.parts)
    for at, folders, files in os.walk(table.absolute().parent):
        folders[:] = [
            name
            for name in folders
            if not name.startswith((".", "__MACOSX")) and Path(at, name) not in own
        ]
        if len(Path(at).parts) - top >= _DEEPEST_BESIDE:
            folders.clear()
        seen += len(files) + len(folders)
        if seen > _MOST_BESIDE:
            return False
        found = found or any(is_image_name(name) and not name.startswith(".") for name in files)
    return found


def match_images(
    folder: Path, ids: Profile, others: Mapping[str, Profile], *, table: Path, asked: bool
) -> Images:
    """How images belong to rows: by the shape of their names that fits the most IDs, or by the one
    of the other columns that names the most of them, whichever gives more rows an image.

    asked: the folder was named; then images that belong to no row are an error, SpecError.
    """
    files = images_of(folder) if folder.is_dir() else []
    if not files:
        there = "the folder holds no image (JPEG, PNG, HEIC, TIFF …)"
        raise SpecError(
            code="init_no_images",
            what=there if folder.is_dir() else "there is no such folder",
            where=str(folder),
            todo="Give the folder of the images: --images DIR (unpack a zip first).",
        )
    known = ids.values.keys()
    names = [file.name.rpartition("/")[2] for file in files]
    sample = names[:: 1 + len(names) // FILES_TRIED]
    shapes = dict.fromkeys([*_SHAPES, *_with_own_prefix(sample, known)])
    # The first, simplest one of equals.
    best = max(shapes, key=lambda shape: len(_fitting(shape, sample, known)))
    found = _fitting(best, names, known)
    fitting = [file for file, name in zip(files, names, strict=True) if name in found]
    of_each = Counter(found.values())
    with_image, several = len(of_each), sum(number > 1 for number in of_each.values())
    inside = table.name
    if table.absolute().is_relative_to(folder.absolute()):
        inside = table.absolute().relative_to(folder.absolute()).as_posix()
    column = find_image_column(others, ids.name, [file.name for file in files], table=inside)
    if column is not None and column.rows > with_image:
        return _by_column(column, files, ids, with_image)
    few = len(fitting) * 2 < len(files) and with_image * 10 < len(known)
    if not fitting or (few and not asked):
        if asked:
            raise _no_match(folder, names, ids, linked_by_columns(others, ids.name))
        note = (
            f"{len(files):,} images lie beside the table, such as {quoted(names)}, and are not "
            f"used: their names do not hold the IDs of column '{shown(ids.name)}'"
        )
        return Images(notes=[note])
    note = (
        f"image_name {best!r}: {len(fitting):,} of {len(files):,} images "
        f"({len(fitting) / len(files):.0%}) belong to {with_image:,} of {len(known):,} IDs "
        f"({with_image / len(known):.0%})"
    )
    notes = [note]
    if strangers := [name for name in names if name not in found]:
        notes.append(f"images that belong to no row, for example: {quoted(strangers)}")
    if column is not None:
        notes.append(
            f"the column '{shown(column.name)}' names images as well, for {column.rows:,} rows; "
            "`image_column` would follow it"
        )
    made = Images(best, None, files, fitting, notes, several, with_image)
    notes += _about_several(made)
    return made


def _by_column(column: ImageColumn, files: list[LocalFile], ids: Profile, by_name: int) -> Images:
    fitting = [file for file in files if file.name in column.files]
    words = (
        f"image_column '{shown(column.name)}': {column.rows:,} of {ids.total:,} rows name one of "
        f"{len(column.files):,} images; by the IDs in the images' names it would be {by_name:,}"
    )
    notes = [words]
    if column.separator is not None:
        notes.append(f"several images in a cell are separated by {column.separator!r}")
    if column.unclear:
        notes.append(f"values that could mean several images, refused: {column.unclear:,}")
    if others := [file.name for file in files if file.name not in column.files]:
        notes.append(f"images that no row names, for example: {quoted(others)}")
    made = Images(None, column, files, fitting, notes, column.several, column.rows)
    notes += _about_several(made)
    return made


def _about_several(images: Images) -> list[str]:
    if not images.several:
        return []
    words = f"{images.several:,} of {images.with_image:,} records with an image have several: "
    if images.all_of_each:
        words += "`images: all`, so models see every one (AutoGluon's networks take no part)"
    else:
        words += "the first of each is used; `images: all` would let models see every one"
    return [words]


def images_inside(name: str, rows: int, ids: Profile) -> Images:
    """The images of a table that holds them itself, in so many rows."""
    column = ImageColumn(name, None, rows, ids.total, rows, frozenset(), 0)
    if rows:
        note = f"the images lie in the table, in '{shown(name)}': {rows:,} of {ids.total:,} rows"
    else:
        note = f"the column '{shown(name)}' holds paths and no image: send the files along"
    return Images(None, column, notes=[note])


def linked_by_columns(profiles: Mapping[str, Profile], id_column: str) -> list[str]:
    """What to say of columns that name or link images which nothing was found of."""
    notes = []
    for name, profile in profiles.items():
        if name == id_column or not profile.values:
            continue
        example = shown(next(iter(profile.values)))
        if profile.share(WEB_ADDRESS) >= NUMBERS_SHARE:
            notes.append(_of_addresses(name, profile, example))
        elif profile.share(IMAGE_FILES) >= NUMBERS_SHARE:
            notes.append(_of_paths(name, profile, example))
    return notes


def _of_addresses(name: str, profile: Profile, example: str) -> str:
    """Whether a host may be asked for images is a person's decision, so no draft allows one."""
    values = list(profile.values)[:FILES_TRIED]
    if all(value.lower().startswith("s3://") for value in values):
        allowed = "let MM_ALLOW_BUCKETS name the bucket"
    else:
        hosts = Counter(host for value in values if (host := _host(value)))
        listed = ", ".join(shown(host) for host, _ in hosts.most_common(3)) or "HOST"
        allowed = f"`allow_urls: [{listed}]`"
    return (
        f"column '{shown(name)}' holds web addresses ('{example}'): nothing is fetched; if images "
        f"lie there, write `image_column: {shown(name)}` instead of `image_name`, and {allowed}"
    )


def _host(address: str) -> str:
    try:
        return urlsplit(address).netloc.rpartition("@")[2]
    except ValueError:
        return ""


def _of_paths(name: str, profile: Profile, example: str) -> str:
    several = next((c for c in ";|," if sum(c in v for v in profile.values)), "")
    images = f"[cell.split({several!r}) for cell in frame[{name!r}]]" if several else repr(name)
    return (
        f"column '{shown(name)}' holds names of image files ('{example}') that are not there: give "
        "the folder that holds them (--images DIR), or hand them over in Python: "
        f"mm.draft(frame, images={images}, …), then ds.upload(frame, images={images})"
    )


def _spec_with(image_name: str) -> DatasetSpec:
    return DatasetSpec(
        dataset="draft", id_column="id", label_column="label", problem_type="binary", columns={},
        image_name=image_name,
    )  # fmt: skip


def _fitting(shape: str, files: list[str], ids: Set[str]) -> dict[str, str]:
    """File to ID, for the files whose name yields an ID that is in the table."""
    spec = _spec_with(shape)
    named = {file: spec.named_image(file) for file in files}
    return {file: found[0] for file, found in named.items() if found and found[0] in ids}


def _with_own_prefix(files: list[str], ids: Set[str]) -> list[str]:
    """Shapes such as `IMG{id}`, from names that end in an ID after a prefix they share."""
    prefixes = Counter[str]()
    for file in files[:2000]:
        stem = re.sub(r"[-_ ][0-9]{1,3}$", "", file.rpartition(".")[0])
        for start in range(1, min(len(stem), 40)):
            if stem[start:] in ids:
                prefixes[stem[:start]] += 1
                break
    common = [prefix for prefix, _ in prefixes.most_common(2) if not set(prefix) & set("*{}")]
    return [f"{prefix}{shape}" for prefix in common for shape in ("{id}", "{id}-{n}", "{id}_{n}")]


def _no_match(folder: Path, files: list[str], ids: Profile, linked: list[str]) -> SpecError:
    stems = {file.rpartition(".")[0].casefold() for file in files}
    hint = ""
    if stems & {value.casefold() for value in ids.values}:
        hint = " They would fit if upper and lower case were the same."
    return SpecError(
        code="init_no_match",
        what=f"no image's name holds an ID of column '{shown(ids.name)}'; "
        f"images: {', '.join(map(shown, files[:3]))}; "
        f"IDs: {', '.join(map(shown, sorted(ids.values)[:3])) or 'none'}.{hint}",
        where=str(folder),
        todo=". ".join(
            [
                "Check --id and --images, or rename the images to ID.jpg, ID-1.jpg, ID-2.jpg, …",
                *(f"C{one[1:]}" for one in linked),
            ]
        ),
    )
