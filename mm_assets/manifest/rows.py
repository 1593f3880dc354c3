"""From rows of text to typed records, or rejects with a code.

A first look types what is plain, in Arrow (`looking.py`); what is odd is judged in DuckDB SQL
(`judging.py`), and of several rows of one record one is chosen (`choosing.py`). The values stay on
disk, and what decides about rows (ID, label, what is wrong) is a narrow table that DuckDB spills
when it must; records are put together when they are asked for, a batch at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mm_assets.contract.dataset import ColumnKind, DatasetSpec
from mm_assets.contract.sql import literal
from mm_assets.lake.lake import Lake
from mm_assets.lake.local import working_folder
from mm_assets.manifest.choosing import choose
from mm_assets.manifest.few import FewRows, Odd, are_few
from mm_assets.manifest.judging import Judged, judge
from mm_assets.manifest.numbers import read_with
from mm_assets.manifest.texts import Told, values_sql
from mm_assets.reading.in_memory import in_memory
from mm_assets.uploads.received import read_parquet, refusals_table

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    import pyarrow as pa

T = TypeVar("T", "pa.RecordBatch", "pa.Table")
MEMORY = "400MB"  # of DuckDB; what is more goes to disk
FEW_ROWS, FEW_BYTES = 1_000, 1 << 20
BATCH_ROWS = 65_536
LONG_ENOUGH = 100  # rows in a run, on average, from which on copying runs is faster than rows

# A record's own columns. The dataset's columns are in the struct column `features`, so that no
# name of theirs can meet one of ours.
RECORD_COLUMNS = ("record_id", "row_file", "row_line", "labels_only", "label", "row_hash")


def record_columns(spec: DatasetSpec) -> tuple[str, ...]:
    """RECORD_COLUMNS, then `split_group` and `split_time`, text, where the YAML names columns."""
    return (*RECORD_COLUMNS, *(f"split_{what}" for what in spec.split_columns))


@dataclass(frozen=True)
class TypedRows:
    """What became of the rows of one upload.

    index: record_id, labels_only and label of each record. rejects: as refusals_table.
    labels_joined counts rows of labels-only tables that were joined to a row with features.
    numbers: columns whose numbers are not written as computers do, by table.
    batches: given a table with record_id and other columns, those of its records that are here,
    some at a time: `record_columns`, `features` (a struct of float64 or string) and its columns.
    """

    index: pa.Table
    rejects: pa.Table
    labels_joined: int
    numbers: dict[str, Any]
    batches: Callable[[pa.Table], Iterator[pa.Table]]


@contextmanager
def typed_rows(lake: Lake, spec: DatasetSpec, receipt: dict[str, Any]) -> Iterator[TypedRows]:
    """Type the rows of one received upload."""
    entries = [entry for entry in receipt["tables"] if not entry.get("images_only")]
    size = sum(receipt["files"][entry["rows_file"]]["bytes"] for entry in entries)
    few = _few_rows(spec, entries, size, lambda name: read_parquet(lake, receipt, name))
    if few is not None:
        yield few
        return
    with working_folder("rows") as folder:
        for entry in entries:
            path = folder / entry["rows_file"]
            lake.fetch_published(receipt, entry["rows_file"], path)
        with _typed(spec, entries, folder) as typed:
            yield typed


@contextmanager
def typed_files(
    spec: DatasetSpec, entries: Sequence[dict[str, Any]], folder: Path
) -> Iterator[TypedRows]:
    """The same of tables that lie in a folder. entries: of each, as a receipt has them."""
    import pyarrow.parquet as pq

    size = sum((folder / entry["rows_file"]).stat().st_size for entry in entries)
    few = _few_rows(spec, entries, size, lambda name: pq.ParquetFile(folder / name).read())
    if few is not None:
        yield few
        return
    with _typed(spec, entries, folder) as typed:
        yield typed


@contextmanager
def _typed(
    spec: DatasetSpec, entries: Sequence[dict[str, Any]], folder: Path
) -> Iterator[TypedRows]:
    """By the rules, whatever the rows are like."""
    tables = [Told(n, entry, folder / entry["rows_file"]) for n, entry in enumerate(entries)]
    with _database(tables, folder) as db:
        yield _judged(db, spec, tables, folder)


def _few_rows(
    spec: DatasetSpec,
    entries: Sequence[dict[str, Any]],
    size: int,
    read: Callable[[str], pa.Table],
) -> TypedRows | None:
    """What needs no database; None if something has to be judged, or there is much.

    size: of the files of rows, in bytes; read: given the name of one, its rows.
    """
    if size > FEW_BYTES or not are_few(entries, spec):
        return None
    tables = [read(entry["rows_file"]) for entry in entries]
    try:
        few = FewRows(spec, entries, tables, empty_records(spec).schema)
    except Odd:
        return None
    return TypedRows(few.index, refusals_table([]), 0, {}, few.batches)


@contextmanager
def _database(tables: Sequence[Told], folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database of its own that spills into `folder`; for a few rows that takes too long."""
    import duckdb
    import pyarrow.parquet as pq

    size = sum(table.path.stat().st_size for table in tables)
    rows = sum(pq.read_metadata(table.path).num_rows for table in tables)
    if rows <= FEW_ROWS and size <= FEW_BYTES:
        with in_memory(threads=1) as db:
            yield db
        return
    with duckdb.connect() as db:
        db.execute(f"SET memory_limit = '{MEMORY}'")
        db.execute(f"SET temp_directory = {literal(str(folder))}")
        yield db


def type_rows(lake: Lake, spec: DatasetSpec, receipt: dict[str, Any]) -> tuple[pa.Table, TypedRows]:
    """As `typed_rows`, with all records in one table, by record_id."""
    import pyarrow as pa

    with typed_rows(lake, spec, receipt) as typed:
        records = typed.batches(typed.index.select(["record_id"]))
        return pa.concat_tables([empty_records(spec), *records]).sort_by("record_id"), typed


def _judged(
    db: duckdb.DuckDBPyConnection, spec: DatasetSpec, tables: list[Told], folder: Path
) -> TypedRows:
    import numpy as np

    judged = judge(db, spec, tables, folder)
    chosen, rejects, labels_joined = choose(db, spec, judged)
    db.execute("CREATE TEMP TABLE odd_numbers AS SELECT n, r FROM judged WHERE odd_number")
    db.execute("DROP VIEW good")
    for name in ("conflicts", "firsts", "compared", "rivals", "doubled", "problems", "judged"):
        db.execute(f"DROP TABLE IF EXISTS {name}")
    places = tuple(np.asarray(chosen[name]) for name in ("n", "r"))
    order = np.lexsort(places[::-1])
    if not (np.diff(order) == 1).all():
        chosen, places = chosen.take(order), tuple(one[order] for one in places)
    index = chosen.select(["record_id", "labels_only", "label"]).cast(_empty_index().schema)
    numbers = {
        one.looked.table.entry.get("file", ""): noted
        for one in judged
        if (noted := read_with(one.forms.items()))
    }
    records = _Records(db, spec, judged, index, places)
    return TypedRows(index, rejects, labels_joined, numbers, records.batches)


class _Records:
    """The records of an upload, put together from what was kept of their rows."""

    def __init__(
        self,
        db: duckdb.DuckDBPyConnection,
        spec: DatasetSpec,
        judged: list[Judged],
        index: pa.Table,
        places: tuple[np.ndarray, ...],
    ) -> None:
        """places: of each row of the index its table's number and its row there, in this order."""
        self._db, self._spec, self._judged, self._index = db, spec, judged, index
        self._table, self._row = places

    def batches(self, beside: pa.Table) -> Iterator[pa.Table]:
        """As `TypedRows.batches`."""
        import numpy as np

        beside = beside.combine_chunks()  # taking from many chunks is slow
        wanted, near = self._wanted(beside)
        tables, rows = self._table[wanted], self._row[wanted]
        for judged in self._judged:
            number = judged.looked.table.number
            begin, stop = np.searchsorted(tables, [number, number + 1])
            with _by_sql(self._db, self._spec, judged) as by_sql:
                for first, own, part in judged.looked.parts(rows[begin:stop]):
                    end, values = begin + len(own), by_sql.put_into(part, first)
                    yield self._put_together(
                        _taken(values, own - first),
                        _taken(self._index, wanted[begin:end]),
                        _taken(beside, near[begin:end]),
                    )
                    begin = end

    def _wanted(self, beside: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        """Which rows of the index are asked for, in their order, and where each is asked for."""
        import numpy as np
        import pyarrow as pa

        if self._index["record_id"].equals(beside["record_id"]):
            every = np.arange(self._index.num_rows)
            return every, every
        for name, table in (("own", self._index), ("beside", beside)):
            places = pa.array(np.arange(table.num_rows, dtype=np.int64))
            self._db.register(name, table.select(["record_id"]).append_column(f"{name}_at", places))
        found = self._db.sql(
            "SELECT own_at, beside_at FROM own JOIN beside USING (record_id)"
        ).to_arrow_table()
        self._db.unregister("own")
        self._db.unregister("beside")
        wanted, near = (np.asarray(column) for column in found.columns)
        order = np.argsort(wanted, kind="stable")
        return wanted[order], near[order]

    def _put_together(self, part: pa.RecordBatch, index: pa.Table, near: pa.Table) -> pa.Table:
        import pyarrow as pa

        features = pa.nulls(part.num_rows)
        if self._spec.columns:
            values = [part[f"v{k}"] for k in range(len(self._spec.columns))]
            features = pa.StructArray.from_arrays(values, names=list(self._spec.columns))
        columns = [
            index[name] if name in index.column_names else part[name]
            for name in record_columns(self._spec)
        ]
        schema = empty_records(self._spec).schema
        records = pa.table([*columns, features], names=schema.names).cast(schema)
        for name in near.column_names:
            if name != "record_id":
                records = records.append_column(name, near[name])
        return records


def _taken(rows: T, places: np.ndarray) -> T:
    """The rows at these places; where they follow one another, nothing is copied."""
    import numpy as np
    import pyarrow as pa

    if not len(places):
        return rows.slice(0, 0)
    begins = np.concatenate(([0], np.flatnonzero(np.diff(places) != 1) + 1, [len(places)]))
    if len(begins) == 2:
        return rows.slice(int(places[0]), len(places))
    if len(places) < LONG_ENOUGH * len(begins):
        return rows.take(places)
    runs = [rows.slice(int(places[begin]), end - begin) for begin, end in pairwise(begins.tolist())]
    if isinstance(rows, pa.RecordBatch):
        return pa.concat_batches(runs)
    return pa.concat_tables(runs).combine_chunks()


@contextmanager
def _by_sql(db: duckdb.DuckDBPyConnection, spec: DatasetSpec, judged: Judged) -> Iterator[_BySQL]:
    """The numbers of one table that the first look left to DuckDB."""
    names = [f"v{k}" for k in judged.by_sql]
    if not names:
        yield _BySQL([], iter(()))
        return
    table = judged.looked.table
    only = f"WHERE r IN (SELECT r FROM odd_numbers WHERE n = {table.number})"
    values = values_sql(
        spec, table, judged.forms, "" if judged.again else only, columns=judged.by_sql, judged=True
    )
    query = f"SELECT r, {', '.join(names)} FROM ({values}) ORDER BY r"
    with db.sql(query).to_arrow_reader(BATCH_ROWS) as reader:  # DuckDB answers one at a time
        yield _BySQL(names, iter(reader))


class _BySQL:
    """Numbers, in the order of their rows, that are put in their places."""

    def __init__(self, names: list[str], parts: Iterator[pa.RecordBatch]) -> None:
        self._names, self._parts = names, parts
        self._read: pa.Table | None = None

    def put_into(self, part: pa.RecordBatch, first: int) -> pa.RecordBatch:
        """Some rows of the table, from `first` on, with these numbers of theirs."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        if not self._names:
            return part
        found = self._until(first + part.num_rows)
        rows = np.asarray(found["r"])
        begin = int(np.searchsorted(rows, first))
        rows, found = rows[begin:] - first, found.slice(begin)
        if not len(rows):
            return part
        mask = np.zeros(part.num_rows, bool)
        mask[rows] = True
        for name in self._names:
            value = pc.replace_with_mask(part[name], pa.array(mask), found[name].combine_chunks())
            part = part.set_column(part.schema.get_field_index(name), name, value)
        return part

    def _until(self, last: int) -> pa.Table:
        """The rows before `last` that were not given out yet."""
        import numpy as np
        import pyarrow as pa

        read = [] if self._read is None else [self._read]
        while not (read and read[-1].num_rows and read[-1]["r"][-1].as_py() >= last):
            if (part := next(self._parts, None)) is None:
                break
            read.append(pa.Table.from_batches([part]))
        if not read:
            return pa.table({name: pa.array([], pa.int64()) for name in ("r", *self._names)})
        found = pa.concat_tables(read)
        count = int(np.searchsorted(np.asarray(found["r"]), last))
        self._read = found.slice(count)
        return found.slice(0, count)


def _empty_index() -> pa.Table:
    import pyarrow as pa

    return pa.schema(
        [("record_id", pa.string()), ("labels_only", pa.bool_()), ("label", pa.string())]
    ).empty_table()


def empty_records(spec: DatasetSpec) -> pa.Table:
    """No records, in the columns that `TypedRows.batches` has."""
    import pyarrow as pa

    kinds = {ColumnKind.NUMBER: pa.float64()}
    fields = [(name, kinds.get(c.kind, pa.string())) for name, c in spec.columns.items()]
    schema = pa.schema(
        [("record_id", pa.string()), ("row_file", pa.string()), ("row_line", pa.int64()),
         ("labels_only", pa.bool_()), ("label", pa.string()), ("row_hash", pa.string()),
         *((f"split_{what}", pa.string()) for what in spec.split_columns),
         ("features", pa.struct(fields) if fields else pa.null())]
    )  # fmt: skip
    return schema.empty_table()
