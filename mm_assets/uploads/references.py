"""What the rows of one upload say of its images: whose each file is, what is missing, what is not
clear.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.errors import Refusal
from mm_assets.contract.ids import fault_of, normalised
from mm_assets.reading.fetch_many import is_address
from mm_assets.reading.image_column import Ambiguous, ImageFiles, cells_of, key_of
from mm_assets.reading.other_content import is_image_as_text

BATCH_ROWS = 65_536
MOST_SHOWN = 5
LONGEST = 1024  # bytes of a path, so that it can be kept for files that come later
# What programs write for no value; a file of that name is found all the same.
_NONE = frozenset(("nan", "none", "null", "na", "n/a", "<na>", "nat", "nil", "-"))
Owners = list[tuple[str, int]]


class Missing(NamedTuple):
    """A cell that means no file of its upload; files that come in another one may be meant."""

    record_id: str
    number: int
    path: str
    in_table: str


@dataclass
class References:
    """owners: of each file the records that name it, and its place among the files of each.
    refused: rows with a cell that could mean several files; lines_refused: the same, their lines by
    file of rows. not_found: in words, for each file of rows that names what is not there.
    addresses: that are to be fetched, for each file of rows; they are in `owners` as well.
    missing: the same as `not_found`, cell by cell, of records that have no image here.
    as_text: how many cells of each file of rows hold an image itself, which is not read.
    """

    owners: dict[str, Owners] = field(default_factory=dict)
    refused: list[Refusal] = field(default_factory=list)
    lines_refused: dict[str, set[int]] = field(default_factory=dict)
    not_found: dict[str, str] = field(default_factory=dict)
    addresses: dict[str, list[str]] = field(default_factory=dict)
    missing: list[Missing] = field(default_factory=list)
    as_text: dict[str, int] = field(default_factory=dict)

    def names_in(self, cell: str | None, rows_file: str) -> str | None:
        """The cell, unless it is an image itself instead of a name; that is counted."""
        if cell is None or not is_image_as_text(cell):
            return cell
        self.as_text[rows_file] = self.as_text.get(rows_file, 0) + 1
        return None

    def add(self, file: str, owner: tuple[str, int], fetch_for: str | None) -> None:
        """fetch_for: the file of rows that names it, if it is an address."""
        if fetch_for is not None and file not in self.owners:
            self.addresses.setdefault(fetch_for, []).append(file)
        self.owners.setdefault(file, []).append(owner)


def read_references(
    spec: DatasetSpec,
    tables: Sequence[Mapping[str, Any]],
    row_files: Mapping[str, Path],
    images: Collection[str],
    may_fetch: Callable[[str], bool] = lambda _: False,
) -> References:
    """tables: entries of a receipt. row_files: their rows, by `rows_file`. images: file names.

    may_fetch: of an address. One that may not be fetched can still mean a file of the upload.
    """
    found = References()
    files = ImageFiles(images)
    missing = frozenset(spec.missing_values)
    taken: set[tuple[str, str]] = set()
    for entry in tables:
        columns = entry["columns"]
        if spec.image_column not in columns:
            continue
        name, gone = entry["rows_file"], _NotFound()
        places = columns.index(spec.id_column), columns.index(spec.image_column)
        for line, given, cell in _cells(row_files[name], *places):
            record_id = normalised(given or "")
            if fault_of(record_id) is not None:
                continue  # the row is refused for it
            names = cells_of(found.names_in(cell, name), spec.image_separator, missing)
            for number, one in enumerate(names):
                file, fetch = _meant(one, entry["file"], files, may_fetch)
                if file is None:
                    gone.add(Missing(record_id, number, one, entry["file"]), line)
                elif isinstance(file, Ambiguous):
                    reason = f"column '{spec.image_column}': '{one[:200]}' may be {file.words}"
                    found.refused.append(
                        Refusal("image_ambiguous", reason, entry["file"], line, record_id)
                    )
                    found.lines_refused.setdefault(name, set()).add(line)
                elif (file, record_id) not in taken:
                    taken.add((file, record_id))
                    found.add(file, (record_id, number), name if fetch else None)
        if gone.count:
            found.not_found[name] = gone.words
            found.missing += gone.but_for(found.lines_refused.get(name, ()))
    have_one = {record_id for own in found.owners.values() for record_id, _ in own}
    found.missing = [cell for cell in found.missing if cell.record_id not in have_one]
    return found


def _meant(
    cell: str, table: str, files: ImageFiles, may_fetch: Callable[[str], bool]
) -> tuple[str | Ambiguous | None, bool]:
    """What a cell means, and whether that is an address."""
    by_address = is_address(cell)
    if by_address and may_fetch(cell):
        return cell, True
    file = files.meant(cell, table)
    if file is None and by_address:
        return cell, True  # it will be refused, with the reason
    return file, False


class _NotFound:
    """What rows name and is not in the upload."""

    def __init__(self) -> None:
        self.count = 0
        self._first: list[str] = []
        self._cells: dict[Missing, int] = {}  # and the line of each

    def add(self, cell: Missing, line: int) -> None:
        if cell.path.casefold() in _NONE:
            return
        self.count += 1
        if len(self._first) < MOST_SHOWN:
            self._first.append(cell.path[:100])
        if len(cell.path.encode()) <= LONGEST and key_of(cell.path):
            self._cells.setdefault(cell, line)

    def but_for(self, lines: Collection[int]) -> list[Missing]:
        """The cells that stand in other lines."""
        return [cell for cell, line in self._cells.items() if line not in lines]

    @property
    def words(self) -> str:
        more = self.count - len(self._first)
        return ", ".join(self._first) + (f" and {more:,} more" if more else "")


def _cells(path: Path, id_at: int, image_at: int) -> Iterator[tuple[int, str, str]]:
    """Line, ID and cell of each row."""
    import pyarrow.parquet as pq

    names = ["_line", f"c{id_at}", f"c{image_at}"]
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(BATCH_ROWS, columns=names):
            columns = (batch.column(name).to_pylist() for name in names)
            yield from zip(*columns, strict=True)


def without_lines(path: Path, lines: Iterable[int]) -> None:
    """Take rows out of a file of rows."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    gone = pa.array(sorted(lines), pa.int64())
    kept = path.with_suffix(".kept")
    with pq.ParquetFile(path) as file, pq.ParquetWriter(kept, file.schema_arrow) as writer:
        for batch in file.iter_batches(BATCH_ROWS):
            writer.write_batch(batch.filter(pc.invert(pc.is_in(batch.column("_line"), gone))))
    kept.replace(path)
