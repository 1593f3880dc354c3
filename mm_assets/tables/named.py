"""Images that only a row's path names, where the row and the image came in different uploads.

An upload with an `image_column` publishes two lists (`NAMES`): the files that none of its rows
names, and the cells that mean none of its files. A cell and a file meet here, by the key that both
have in common (`reading.image_column.key_of`) and then by the rule for cells within one upload.

Such a file has an ID of its own (`file_id`), which no row can have, so that it is kept, counted and
found as any image whose row has not come.

**Order never matters.** What a cell means in one upload never changes. Where the files of several
uploads fit, they are one image if their paths or their bytes are the same: then the newest counts.
Else it is not clear which is meant, and of all that this upload's rows name for the record nothing
counts. More files can make that of a clear cell, and nothing but a withdrawal undoes it.

**Which image is newest**: by `image_order`, which is the upload of an image that came with its row
or its ID, and `<upload of the row>+<upload of the image>` of one that is named from elsewhere.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mm_assets.reading.image_column import MOST_NAMED, Ambiguous, ImageFiles, same_path

if TYPE_CHECKING:
    import pyarrow as pa

# What an upload publishes: of each file its path, its ID as record_id and its sha256; of each cell
# its text as path, the record, its number among the record's cells, and the table that it is in.
NAMES = ("name", "record_id", "number", "path", "in_table", "image_sha256")
UNCLEAR = "image_ambiguous"
BY = "+"
FILE = "/"  # no record's ID has one


def file_id(path: str) -> str:
    """The ID of an image that no row of its own upload names."""
    return FILE + path


def is_file_id(record_id: str) -> bool:
    return record_id.startswith(FILE)


def image_order(named_by: str, image_upload: str) -> str:
    """The place of an image in the order of a record's images."""
    return image_upload if named_by == image_upload else f"{named_by}{BY}{image_upload}"


def named_by(order: str) -> str:
    """The upload whose row names the image from elsewhere; '' for any other image."""
    return order.partition(BY)[0] if BY in order else ""


def no_names() -> pa.Table:
    import pyarrow as pa

    types = {"number": pa.int64()}
    return pa.schema([(name, types.get(name, pa.string())) for name in NAMES]).empty_table()


@dataclass(frozen=True, slots=True)
class Cell:
    """What a row of one upload names that is not there."""

    record_id: str
    upload: str
    name: str
    number: int
    path: str
    in_table: str


@dataclass(frozen=True, slots=True)
class File:
    """An image that no row of its own upload names."""

    upload: str
    name: str
    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Named:
    """The image that a record has by name. files: all that are named there, in order."""

    order: str
    upload: str
    files: tuple[File, ...]


@dataclass(frozen=True, slots=True)
class Meeting:
    """named: by record, the newest. unclear: by record, by upload of its row, in words."""

    named: Mapping[str, Named]
    unclear: Mapping[str, Mapping[str, str]]

    def words(self, record_id: str) -> str | None:
        """What is not clear of a record, as its newest row says it."""
        own = self.unclear.get(record_id)
        return own[max(own)] if own else None


def meet(cells: Iterable[Cell], files: Iterable[File]) -> Meeting:
    """Which cells mean which files. Both only of uploads that count."""
    known = _Known(files)
    by_row: dict[tuple[str, str], list[Cell]] = defaultdict(list)
    for cell in cells:
        by_row[cell.record_id, cell.upload].append(cell)
    named: dict[str, Named] = {}
    unclear: dict[str, dict[str, str]] = defaultdict(dict)
    for (record_id, upload), own in by_row.items():
        own.sort(key=lambda cell: (cell.number, cell.path, cell.in_table))
        found: dict[str, dict[str, File]] = defaultdict(dict)  # by the image's upload, by path
        for cell in own:
            meant = known.meant(cell)
            if isinstance(meant, str):
                unclear[record_id][upload] = meant
                break
            for file in meant:
                found[file.upload].setdefault(file.path, file)
        else:
            if found:
                newest = max(found)
                one = Named(image_order(upload, newest), newest, tuple(found[newest].values()))
                before = named.get(record_id, one)
                named[record_id] = max(one, before, key=lambda image: image.order)
    return Meeting(named, unclear)


class _Known:
    """Files by upload, for cells to be looked up in."""

    def __init__(self, files: Iterable[File]) -> None:
        self._files: dict[str, dict[str, File]] = defaultdict(dict)
        self._uploads: dict[str, set[str]] = defaultdict(set)
        for file in files:
            self._files[file.upload][file.path] = file
            self._uploads[file.name].add(file.upload)
        self._paths: dict[str, ImageFiles] = {}
        self._told: dict[tuple[str, str, str], Sequence[File] | str] = {}

    def meant(self, cell: Cell) -> Sequence[File] | str:
        """A file of each upload that has one; in words if it is not clear which is meant."""
        key = (cell.name, cell.path, cell.in_table)
        if key not in self._told:
            self._told[key] = self._meant(cell)
        return self._told[key]

    def _meant(self, cell: Cell) -> Sequence[File] | str:
        found: list[File] = []
        clear: list[File] = []
        open_in_one = False
        for upload in sorted(self._uploads.get(cell.name, ())):
            own = self._files[upload]
            if upload not in self._paths:
                self._paths[upload] = ImageFiles(own)
            meant = self._paths[upload].meant(cell.path, cell.in_table)
            paths = meant.files if isinstance(meant, Ambiguous) else (meant,)
            some = [own[path] for path in sorted(path for path in paths if path is not None)]
            found += some
            clear += some[:1]
            open_in_one |= len(some) > 1
        one_place = len({same_path(file.path) for file in found}) <= 1 and not open_in_one
        if one_place or len({file.sha256 for file in found}) == 1:
            return clear
        shown = " or ".join(f"{file.path} (upload {file.upload})" for file in found[:MOST_NAMED])
        more = " or others" if len(found) > MOST_NAMED else ""
        return f"'{cell.path[:200]}' may be {shown}{more}"


def cell_of(row: Mapping[str, Any]) -> Cell:
    """Of a row with NAMES and `upload`."""
    return Cell(row["record_id"], row["upload"], row["name"], row["number"], row["path"],
                row["in_table"])  # fmt: skip


def file_of(row: Mapping[str, Any]) -> File:
    return File(row["upload"], row["name"], row["path"], row["image_sha256"])


def with_named(found: pa.Table, meeting: Meeting) -> pa.Table:
    """What `look_up` found by ID, with what is named by other uploads, where that is newer."""
    import pyarrow as pa
    import pyarrow.compute as pc

    n = found.num_rows
    found = found.append_column("image_order", found["image_upload"].cast(pa.string()))
    found = found.append_column("named_files", pa.nulls(n, pa.list_(pa.string())))
    found = found.append_column("image_unclear", pa.nulls(n, pa.string()))
    touched = sorted({*meeting.named, *meeting.unclear})
    if not touched:
        return found
    here = pc.is_in(found["record_id"], value_set=pa.array(touched, pa.string()))
    some = [newer(row, meeting) for row in found.filter(here).to_pylist()]
    both = [found.filter(pc.invert(here)), pa.Table.from_pylist(some, schema=found.schema)]
    return pa.concat_tables(both).sort_by("record_id")


def newer(row: dict[str, Any], meeting: Meeting) -> dict[str, Any]:
    """One record's answer to `look_up`, with the image that it has by name if that is newer."""
    row |= {"image_unclear": meeting.words(row["record_id"])}
    named = meeting.named.get(row["record_id"])
    if named is None or named.order <= (row["image_order"] or ""):
        return row
    first = named.files[0]
    return row | {
        "image_upload": named.upload, "image_sha256": first.sha256, "image_file": first.path,
        "image_order": named.order, "named_files": [file.path for file in named.files],
    }  # fmt: skip
