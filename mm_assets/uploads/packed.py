"""How what an upload brought is written: its rows as text, its files, what rows name in vain."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.reading.ahead import one_ahead
from mm_assets.reading.tables import Table
from mm_assets.uploads.images_inside import ImagesInside
from mm_assets.uploads.references import Missing

if TYPE_CHECKING:
    import pyarrow as pa


def write_rows(
    table: Table,
    path: Path,
    spec: DatasetSpec,
    inside: ImagesInside,
    most_rows: int | None = None,
) -> None:
    """Write a table's rows as text: _file, _line, then c0, c1, … in the order of its header.

    Columns go by position, because DuckDB does not tell `Name` from `name`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = ["_file", "_line", *(f"c{i}" for i in range(len(table.header)))]
    types = [pa.string(), pa.int64(), *(pa.string() for _ in table.header)]
    schema = pa.schema(list(zip(names, types, strict=True)))
    # Only what has few values is worth a dictionary; nobody asks for the least of a text.
    few = {name for name, kind in spec.kinds.items() if kind == "category"} | {spec.label_column}
    repeated = ["_file", *(f"c{i}" for i, name in enumerate(table.header) if name in few)]
    with pq.ParquetWriter(
        path, schema, compression="zstd", compression_level=1, use_dictionary=repeated,
        write_statistics=False,
    ) as writer:  # fmt: skip
        # Of a table that is only tried, nothing is read that is not taken.
        batches = one_ahead(table.batches()) if most_rows is None else table.batches()
        for batch in batches:
            rows = inside.take(batch)
            writer.write_table(pa.Table.from_arrays(rows.columns, schema=schema))
            if most_rows is not None and (table.n_rows >= most_rows or inside.enough):
                break


def write_missing(missing: Iterable[Missing], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = [*zip(*missing, strict=True)]
    types = [pa.string(), pa.int64(), pa.string(), pa.string()]
    arrays = [pa.array(column, kind) for column, kind in zip(columns, types, strict=True)]
    pq.write_table(pa.table(arrays, names=list(Missing._fields)), path, compression="zstd")


def files_table(files: list[dict[str, Any]]) -> pa.Table:
    import pyarrow as pa

    text, number = pa.string(), pa.int64()
    schema = pa.schema(
        [("file", text), ("kind", text), ("bytes", number), ("sha256", text), ("code", text),
         ("reason", text), ("record_id", text), ("width", number), ("height", number),
         ("frames", number)]
    )  # fmt: skip
    return pa.Table.from_pylist(files, schema=schema)
