"""A table of any format, read for a draft: its columns counted, its first rows kept."""

from __future__ import annotations

import difflib
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from mm_assets.contract.errors import SpecError
from mm_assets.drafting.profile import Profile, shown
from mm_assets.reading.table import IMAGE_COLUMN, TableRefused, Wanted
from mm_assets.reading.tables import Table, open_table

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_READ = 100_000  # enough to judge columns by; the whole table is read by the pipeline
ROWS_KEPT = 5_000  # to look for what goes together
_SHEETS_NAMED = 10
IMAGES_READ = 256 << 20  # bytes of images inside the table, and no more


@dataclass(frozen=True)
class Read:
    """What was read. profiles: by the name in the file; rows: the first ones, as text.

    id_column and label_column are the names as they stand in the file, '' where none was asked for.
    image_column: the one with images inside, if there is one; with_image: rows that have one.
    """

    profiles: dict[str, Profile]
    rows: pa.Table
    notes: list[str]
    delimiter: str
    id_column: str = ""
    label_column: str = ""
    image_column: str | None = None
    with_image: int = 0


def read_table(
    path: Path, id_column: str | None, label_column: str | None, encoding: str, most: int
) -> Read:
    """Read up to `most` rows. Raises SpecError when the table or a column cannot be read."""
    if id_column is not None and id_column == label_column:
        raise SpecError(
            code="init_same_column", what="the ID and the label are the same column",
            where=f"column '{shown(id_column)}'", todo="Name another column with --id or --label.",
        )  # fmt: skip
    columns = () if label_column is None else (label_column,)
    wanted = Wanted(id_column, columns, encoding, images=True)
    with speaking_of_table(path), tempfile.TemporaryDirectory(prefix="mm-init-") as folder:
        table = open_table(path, file=path.name, wanted=wanted, scratch=Path(folder))
        if label_column is not None and label_column not in table.header:
            raise _no_label(table, label_column)
        alike = _alike(table, path, wanted, Path(folder))
        return _counted(table, alike, id_column, label_column, most)


def _alike(table: Table, path: Path, wanted: Wanted, scratch: Path) -> Iterator[Table]:
    """The other sheets of a workbook with the same columns, one a month: an upload takes them."""
    for name in [*table.facts.get("more_sheets", []), *table.facts.get("other_sheets", [])]:
        with suppress(TableRefused):
            other = open_table(
                path, file=table.file, wanted=replace(wanted, sheet=name), scratch=scratch
            )
            if set(other.header) == set(table.header):
                yield other


@contextmanager
def speaking_of_table(path: Path) -> Iterator[None]:
    """Say in words why a table cannot be read."""
    try:
        yield
    except TableRefused as refused:
        todos = {
            "table_no_id": "Give the ID column's name as it stands in the header: --id COLUMN.",
            "table_encoding": "Save the table as UTF-8, or name its encoding: --encoding cp1252.",
            "file_type": "Unpack the archive and give its folder: mm init FOLDER."
            if path.name.lower().endswith((".zip", ".7z", ".tar", ".tar.gz", ".tgz"))
            else "Give a table: CSV, Excel, Parquet, Arrow, JSON Lines or JSON.",
        }
        raise SpecError(
            code=refused.code,
            what=refused.reason,
            where=f"{path}:{refused.line}" if refused.line else str(path),
            todo=todos.get(refused.code, "Correct the table, or save it anew as UTF-8 CSV."),
        ) from None
    except OSError as error:
        raise SpecError(
            code="init_unreadable", what=error.strerror or str(error), where=str(path),
            todo="Check the path of the table.",
        ) from None  # fmt: skip


def _no_label(table: Table, label_column: str) -> SpecError:
    folded = {name.casefold(): name for name in table.header}
    close = difflib.get_close_matches(label_column.casefold(), folded, n=1)
    hint = f"; did you mean '{shown(folded[close[0]])}'?" if close else ""
    return SpecError(
        code="init_no_label",
        what=f"no column is named '{shown(label_column)}'; found: "
        f"{', '.join(map(shown, table.header[:20]))}{hint}",
        where=table.file,
        todo="Give the label column's name as it stands in the header: --label COLUMN.",
    )


def _counted(
    table: Table, alike: Iterator[Table], id_column: str | None, label_column: str | None, most: int
) -> Read:
    """alike: that are read as one with it, each opened when the one before is through."""
    import pyarrow as pa

    tables: list[Table] = []  # that were read
    in_file = {wanted: name for name, wanted in table.facts.get("renamed", {}).items()}
    names = {name: in_file.get(name, name) for name in table.header}
    profiles = {name: Profile(names[name], exact=name == id_column) for name in table.header}
    kept: list[pa.RecordBatch] = []
    n_kept = n_read = with_image = in_images = 0
    inside = table.facts.get("images_in")
    for whole in _in_turn(chain([table], alike), tables):
        batch = whole.slice(0, most - n_read)
        n_read += batch.num_rows
        if inside is not None:
            images = batch.column(IMAGE_COLUMN)
            with_image += len(images) - images.null_count
            in_images += images.nbytes
        for name, profile in profiles.items():
            profile.add(batch[name].fill_null("").to_pylist())
        if n_kept < ROWS_KEPT:
            kept.append(batch.slice(0, ROWS_KEPT - n_kept))
            n_kept += kept[-1].num_rows
        if n_read >= most or in_images >= IMAGES_READ:
            most = n_read
            break
    if not n_read:
        raise SpecError(
            code="init_no_rows", what="no row of the table can be read", where=table.file,
            todo="Give a table with rows below its header.",
        )  # fmt: skip
    schema = pa.schema([(name, pa.string()) for name in table.header])
    rows = pa.Table.from_batches([batch.select(table.header) for batch in kept], schema)
    return Read(
        {profile.name: profile for profile in profiles.values()},
        rows.rename_columns([names[name] for name in table.header]),
        _notes(tables, n_read if n_read >= most else 0),
        "" if table.typed else str(table.facts.get("delimiter", "")),
        names.get(id_column or "", ""),
        names.get(label_column or "", ""),
        inside,
        with_image,
    )


def _in_turn(tables: Iterable[Table], begun: list[Table]) -> Iterator[pa.RecordBatch]:
    """The rows of one table after the other; `begun` gets each of them."""
    for one in tables:
        begun.append(one)
        yield from one.batches()


def _sheets(tables: list[Table]) -> str:
    """Which sheets of a workbook were read, and what is to be known of others with rows."""
    facts = tables[0].facts
    read = [str(one.facts["sheet"]) for one in tables]
    words = f"the sheet {_named(read)} was read"
    if len(read) > 1:
        words = f"the sheets {_named(read)} have the same columns and were read as one table"
    others = [*facts.get("more_sheets", []), *facts.get("other_sheets", [])]
    others = [name for name in others if name not in read]
    if not others:
        return words
    take = "an upload takes others too, if they hold the ID and a column of the YAML"
    return f"{words}; {take}: {_named(others)}"


def _named(sheets: list[str]) -> str:
    return ", ".join(f"'{shown(name)}'" for name in sheets[:_SHEETS_NAMED])


def _notes(tables: list[Table], first: int) -> list[str]:
    """first: how many rows were read, if that is not all of them."""
    table = tables[0]
    notes = []
    encoding = table.facts.get("encoding", "utf-8")
    if encoding != "utf-8":
        because = table.facts.get("encoding_because")
        notes.append(
            f"the table is not UTF-8; it was read as {encoding}"
            f"{f' ({because})' if because else ''}: look at its accents"
        )
    if "sheet" in table.facts:
        notes.append(_sheets(tables))
    if "image_columns" in table.facts:
        named = ", ".join(f"'{shown(name)}'" for name in table.facts["image_columns"])
        notes.append(f"columns with images: {named}; the first is taken, the YAML can name another")
    if "image_lists" in table.facts:
        notes.append("of several images in a cell the first is used")
    if first:
        notes.append(f"the first {first:,} rows were looked at")
    if rejects := [reject for one in tables for reject in one.rejects]:
        reject = rejects[0]
        notes.append(
            f"rows that cannot be read and will be rejected: {len(rejects):,}; "
            f"the first: line {reject.line}, {shown(reject.reason)}"
        )
    return notes
