"""A million predictions into the table: all of them new, and none of them new."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.speed.line import OURS, Case, Goal, Line

if TYPE_CHECKING:
    import pyarrow as pa

MANY = 1_000_000
DATASET, UPLOAD = "large", "20260101t000000-0000000000"


def make(data: Path) -> None:
    """Predictions as `predictions_without_image` offers them, and the rows that they speak of."""
    import pyarrow.parquet as pq

    pq.write_table(offered(), data / "offered.parquet")


def offered() -> pa.Table:
    """Every column of a prediction, and of the order by which the greatest is kept."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from mm_assets.predictions.offer import empty_predictions

    random = np.random.default_rng(7)
    schema = empty_predictions().schema
    confidence = random.uniform(0.5, 1, MANY)
    numbers = pc.cast(pa.array(np.arange(MANY)), pa.string())
    padded = pc.utf8_lpad(numbers, 9, "0")
    texts = {
        "record_id": pc.binary_join_element_wise(pa.scalar("P"), padded, ""),
        "prediction": pa.array(np.where(random.random(MANY) < 0.5, "cat", "dog")),
        "probabilities": pc.binary_join_element_wise(
            pa.scalar('{"cat": '), pc.cast(pa.array(confidence.round(6)), pa.string()),
            pa.scalar(', "dog": 0.5}'), "",
        ),
        "confidence": pa.array(confidence),
        "needs_review": pa.array(confidence < 0.6),
        "input_hash": _hashes(padded, "i"),
        "content_hash": _hashes(padded, "c"),
    }  # fmt: skip
    fixed = {
        "modality": "without_image", "model_version": "m20260101", "upload": UPLOAD,
        "run_id": "0b6f5dd6-8d0f-4c59-9c4e-7d6a3f5b8f01", "modality_rank": 0, "image_upload": "",
        "image_order": "",
        "predicted_at": "2026-01-01T00:00:00.000+00:00", "model_generation": 1,
        "spec_generation": 1,
    }  # fmt: skip
    columns = []
    for field in schema:
        if field.name in texts:
            columns.append(pc.cast(texts[field.name], field.type))
        elif field.name in fixed:
            columns.append(pa.repeat(pa.scalar(fixed[field.name], field.type), MANY))
        else:
            columns.append(pa.nulls(MANY, field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def _hashes(padded: pa.Array, mark: str) -> pa.Array:
    """64 letters each, as a SHA-256 has, all different."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.binary_join_element_wise(pa.scalar(mark * 55), padded, "")


def _rows(table: pa.Table) -> tuple[pa.Table, pa.Table]:
    """What the upload published: its rows, and no images."""
    import pyarrow as pa

    rows = pa.table(
        {
            "record_id": table["record_id"],
            "labels_only": pa.repeat(False, MANY),
            "label": pa.nulls(MANY, pa.string()),
        }
    )
    names = ("record_id", "image_sha256", "image_file")
    return rows, pa.schema([(name, pa.string()) for name in names]).empty_table()


def _ours(*, again: bool) -> Case:
    def prepare(data: Path, folder: Path) -> Callable[[], int]:
        import pyarrow.parquet as pq

        from mm_assets.tables.duckdb.store import DuckDBStore

        table = pq.read_table(data / "offered.parquet")
        store = DuckDBStore(folder / "table.duckdb")
        store.publish(DATASET, UPLOAD, *_rows(table))
        if again:
            store.merge(DATASET, table)

        def run() -> int:
            result = store.merge(DATASET, table)
            return result.unchanged if again else result.inserted

        return run

    return prepare


def _on_conflict(*, again: bool) -> Case:
    """The same columns by DuckDB's own upsert, guarded by the same order."""

    def prepare(data: Path, folder: Path) -> Callable[[], int]:
        import duckdb

        from mm_assets.tables.merge_rule import ORDER

        db = duckdb.connect(str(folder / "table.duckdb"))
        db.execute(f"SET temp_directory = '{folder}'")
        source = f"read_parquet('{data / 'offered.parquet'}')"
        db.execute(f"CREATE TABLE predictions AS FROM {source} LIMIT 0")
        db.execute("ALTER TABLE predictions ADD PRIMARY KEY (record_id)")
        names = [name for (name, *_) in db.execute(f"DESCRIBE FROM {source}").fetchall()]
        changed = ", ".join(f"{name} = excluded.{name}" for name in names if name != "record_id")
        order = ", ".join(ORDER)
        theirs = ", ".join(f"excluded.{name}" for name in ORDER)
        upsert = (
            f"INSERT INTO predictions FROM {source} ON CONFLICT (record_id) DO UPDATE SET "
            f"{changed} WHERE ({theirs}) > ({order})"
        )
        if again:
            db.execute(upsert)

        def run() -> int:
            db.execute(upsert)
            return int(db.execute("SELECT count(*) FROM predictions").fetchall()[0][0])

        return run

    return prepare


LINES = tuple(
    Line(
        name=f"merge-{name}",
        words=f"A million predictions merged into DuckDB, {words}",
        amount=MANY,
        unit="predictions",
        make=make,
        cases={OURS: _ours(again=again), "ON CONFLICT": _on_conflict(again=again)},
        goals=(Goal("cpu", 1.25, "ON CONFLICT"),),
    )
    for name, words, again in (
        ("new", "all of them new", False),
        ("unchanged", "all of them there already", True),
    )
)
