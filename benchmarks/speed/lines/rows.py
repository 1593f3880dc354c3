"""A large table from its bytes to the records of each modality.

23 columns: an ID, a label for half of the rows, 14 numbers, 5 categories, 2 texts, some of them
quoted; about 230 bytes a row. Of each thousand rows one holds a number that is none. `ours`
receives the upload from a folder, builds its manifest and splits it; the rivals read the same file,
type it, join it with a list of images and write both parts as Parquet, and refuse nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.speed.line import OURS, Case, Goal, Line

NUMBERS, CATEGORIES, TEXTS = 14, 5, 2
CHUNK = 50_000
WRONG_EVERY = 1_000
TABLE = "large.csv"
WORDS = ("blue", "round", "old", "quite", "small", 'said ""yes""', "soft, warm", "heavy")


def columns() -> dict[str, str]:
    """What the dataset's YAML says of its columns."""
    return {
        **{f"number_{at}": "number" for at in range(NUMBERS)},
        **{f"kind_{at}": "category" for at in range(CATEGORIES)},
        **{f"text_{at}": "text" for at in range(TEXTS)},
    }


def make(rows: int, data: Path) -> None:
    """Write the table."""
    import numpy as np

    random = np.random.default_rng(7)
    with (data / TABLE).open("w", encoding="utf-8", newline="") as file:
        file.write(",".join(["id", "label", *columns()]) + "\r\n")
        for start in range(0, rows, CHUNK):
            count = min(CHUNK, rows - start)
            parts = [[f"P{at:09d}" for at in range(start, start + count)]]
            parts.append(np.array(["", "", "cat", "dog"])[random.integers(0, 4, count)].tolist())
            for at in range(NUMBERS):
                if at < 4:
                    parts.append([str(n) for n in random.integers(0, 10**6, count).tolist()])
                else:
                    parts.append([f"{n:.6f}" for n in random.normal(0, 100, count).tolist()])
            for wrong in range(WRONG_EVERY // 2, count, WRONG_EVERY):
                parts[3][wrong] = "much"
            for at in range(CATEGORIES):
                names = [f"kind {at} {n}" for n in range(12)]
                parts.append([names[n] for n in random.integers(0, 12, count).tolist()])
            for _ in range(TEXTS):
                drawn = random.integers(0, len(WORDS), (count, 4)).tolist()
                said = (" ".join(WORDS[n] for n in row) for row in drawn)
                parts.append([f'"{one}"' if "," in one or '"' in one else one for one in said])
            lines = (",".join(row) + "\r\n" for row in zip(*parts, strict=True))
            file.write("".join(lines))


SPEC: dict[str, Any] = {
    "dataset": "large", "id_column": "id", "label_column": "label", "problem_type": "binary",
    "classes": ["cat", "dog"], "columns": columns(),
}  # fmt: skip


def ours(rows: int) -> Case:
    """Receive, manifest, split."""

    def prepare(data: Path, folder: Path) -> Callable[[], int]:
        for name in ("duckdb", "pandas", "pyarrow.csv", "pyarrow.parquet"):  # pyarrow's own, too
            import_module(name)
        from mm_assets.contract.dataset import DatasetSpec, Modality
        from mm_assets.contract.settings import Settings
        from mm_assets.lake.lake import Lake
        from mm_assets.lake.layout import MARKER, inbox
        from mm_assets.manifest.join import build_manifest
        from mm_assets.manifest.split import split_records
        from mm_assets.tables.duckdb.store import DuckDBStore
        from mm_assets.uploads.find import find_uploads
        from mm_assets.uploads.receive import receive

        table = data / TABLE
        spec = DatasetSpec.model_validate(SPEC)
        lake = Lake(Settings(lake=str(folder / "lake")))
        place = folder / "lake" / inbox(spec.dataset) / "one"
        place.mkdir(parents=True)
        os.link(table, place / TABLE)
        with table.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        named = {"name": TABLE, "size": table.stat().st_size, "sha256": digest}
        (place / MARKER).write_text(json.dumps({"files": [named]}), encoding="utf-8")
        store = DuckDBStore(folder / "table.duckdb")

        def run() -> int:
            (source,) = find_uploads(lake, spec.dataset).finished
            receive(lake, spec, source, run_id="speed", progress=lambda _: None)
            manifest = build_manifest(lake, store, spec, source.upload, run_id="speed")
            records = 0
            for modality in Modality:
                split = split_records(lake, spec, source.upload, modality)
                records += split["counts"]["records"]
            counts = manifest["counts"]
            assert counts["rejected"] == rows // WRONG_EVERY, counts  # noqa: S101
            return records + counts["rejected"]

        return run

    return prepare


def pandas(rows: int) -> Case:
    """As it is usually written: read as text, to_numeric, merge, to_parquet."""

    def prepare(data: Path, folder: Path) -> Callable[[], int]:
        import pandas as pd

        def run() -> int:
            frame = pd.read_csv(data / TABLE, dtype=str, keep_default_na=False)
            for name, kind in columns().items():
                if kind == "number":
                    frame[name] = pd.to_numeric(frame[name], errors="coerce")
            frame = frame.drop_duplicates("id")
            nothing = pd.Series([], dtype=str)
            images = pd.DataFrame({"id": nothing, "image": nothing})
            joined = frame.merge(images, on="id", how="left")
            with_image = joined["image"].notna()
            joined.to_parquet(folder / "manifest.parquet")
            joined[with_image].to_parquet(folder / "with.parquet")
            joined[~with_image].to_parquet(folder / "without.parquet")
            return min(len(joined), rows)

        return run

    return prepare


def polars(rows: int) -> Case:
    """The same in polars, lazily: scan, cast, join, sink."""

    def prepare(data: Path, folder: Path) -> Callable[[], int]:
        import polars as pl

        def run() -> int:
            numbers = [name for name, kind in columns().items() if kind == "number"]
            images = pl.LazyFrame(schema={"id": pl.String, "image": pl.String})
            joined = (
                pl.scan_csv(data / TABLE, infer_schema=False)
                .with_columns(pl.col(numbers).cast(pl.Float64, strict=False))
                .join(images, on="id", how="left")
            )
            joined.sink_parquet(folder / "manifest.parquet")
            written = pl.scan_parquet(folder / "manifest.parquet")
            there = pl.col("image").is_not_null()
            written.filter(there).sink_parquet(folder / "with.parquet")
            written.filter(~there).sink_parquet(folder / "without.parquet")
            return min(int(written.select(pl.len()).collect().item()), rows)

        return run

    return prepare


def duckdb(rows: int) -> Case:
    """The limit, the bare join: read as text, TRY_CAST, LEFT JOIN, COPY to Parquet."""

    def prepare(data: Path, folder: Path) -> Callable[[], int]:
        import duckdb as library

        casts = ", ".join(
            f"try_cast({name} AS DOUBLE) AS {name}" if kind == "number" else name
            for name, kind in columns().items()
        )

        def run() -> int:
            with library.connect() as db:
                db.execute(f"SET temp_directory = '{folder}'")
                db.execute("CREATE TABLE images (id VARCHAR, image VARCHAR)")
                written = db.execute(
                    f"COPY (SELECT id, label, {casts}, image "
                    f"FROM read_csv('{data / TABLE}', all_varchar = true) "
                    f"LEFT JOIN images USING (id)) TO '{folder}/all.parquet' (COMPRESSION zstd)"
                ).fetchall()[0][0]
                for name, when in (("with", "IS NOT NULL"), ("without", "IS NULL")):
                    db.execute(
                        f"COPY (FROM '{folder}/all.parquet' WHERE image {when}) "
                        f"TO '{folder}/{name}.parquet' (COMPRESSION zstd)"
                    )
            return min(int(written), rows)

        return run

    return prepare


def _line(rows: int, *goals: Goal, takes_long: bool = False) -> Line:
    return Line(
        name=f"join-{rows // 1_000_000}m",
        words=f"{rows / 1e6:.0f}M rows of 23 columns: read, checked, typed, joined, split",
        amount=rows,
        unit="rows",
        make=partial(make, rows),
        cases={OURS: ours(rows), "pandas": pandas(rows), "polars": polars(rows),
               "bare DuckDB": duckdb(rows)},
        goals=goals,
        takes_long=takes_long,
    )  # fmt: skip


LINES = (
    _line(1_000_000, Goal("cpu", 5.0), Goal("peak", 1e9), Goal("cpu", 1 / 6, "pandas")),
    _line(5_000_000, Goal("peak", 1.3e9), takes_long=True),
)
