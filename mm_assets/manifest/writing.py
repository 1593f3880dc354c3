"""How tables of records are written, and counted as they are."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from mm_assets.lake.local import working_folder

if TYPE_CHECKING:
    import pyarrow as pa


def write_tables(path: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
    """Write tables one after the other."""
    import pyarrow.parquet as pq

    with pq.ParquetWriter(
        path, schema, compression="zstd", compression_level=1, use_dictionary=_repeated(schema)
    ) as writer:
        for table in tables:
            writer.write_table(table)


def write_table(path: Path, table: pa.Table) -> None:
    """The same of one table. One without rows is the same bytes each time, so it is made once."""
    if table.num_rows:
        write_tables(path, table.schema, [table])
    else:
        path.write_bytes(_without_rows(table.schema))


@lru_cache(maxsize=64)
def _without_rows(schema: pa.Schema) -> bytes:
    with working_folder("empty") as folder:
        write_tables(folder / "empty.parquet", schema, [schema.empty_table()])
        return (folder / "empty.parquet").read_bytes()


def _repeated(schema: pa.Schema) -> list[str]:
    """Columns whose values mostly repeat, so that a dictionary of them pays."""
    import pyarrow as pa

    names = [name for name in schema.names if name not in ("record_id", "input_hash", "features")]
    if "features" in schema.names and pa.types.is_struct(kinds := schema.field("features").type):
        names += [f"features.{field.name}" for field in kinds if pa.types.is_string(field.type)]
    return names


def counts_by(table: pa.Table, column: str) -> dict[str, int]:
    import pyarrow.compute as pc

    counted = pc.value_counts(table[column].combine_chunks())
    return {item["values"]: item["counts"] for item in counted.to_pylist()}
