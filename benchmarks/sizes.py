"""What one look costs beside 100, 1,000 and 10,000 small uploads: the table, monitoring, listings.

    python -m benchmarks.sizes [--uploads 100,1000,10000]

The table is filled without going through Dagster, five rows an upload, in a DuckDB file that is
held open, over a folder. Shown are medians of the processor time of five, in milliseconds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.speed.lines.many import ATTRIBUTES, DATASET, ROWS

if TYPE_CHECKING:
    import pyarrow as pa

    from mm_assets.lake.lake import Lake
    from mm_assets.tables.duckdb.store import DuckDBStore

Measure = Callable[[Path, Sequence[int]], Iterator[dict[str, Any]]]
TIMES = 5
FIRST = datetime(2026, 1, 1, tzinfo=UTC)


def upload_of(number: int) -> str:
    """Keys as they are: one an hour."""
    return f"{FIRST + timedelta(hours=number):%Y%m%d-%H%M%S}000-{number:010d}"


def ids_of(upload: str) -> list[str]:
    return [f"{upload}-{row}" for row in range(ROWS)]


def rows_of(uploads: Sequence[str]) -> pa.Table:
    import pyarrow as pa

    ids = [one for upload in uploads for one in ids_of(upload)]
    return pa.table(
        {
            "record_id": ids,
            "labels_only": [False] * len(ids),
            "label": pa.nulls(len(ids), pa.string()),
        }
    )


def no_images() -> pa.Table:
    import pyarrow as pa

    names = ("record_id", "image_sha256", "image_file")
    return pa.schema([(name, pa.string()) for name in names]).empty_table()


def offered(uploads: Sequence[str]) -> pa.Table:
    """A prediction of each row."""
    import pyarrow as pa

    from mm_assets.predictions.offer import empty_predictions

    def one(upload: str, record_id: str, number: int) -> dict[str, Any]:
        sure = round(0.5 + number % 97 / 200, 3)
        return {
            "record_id": record_id, "prediction": "yes" if number % 3 else "no",
            "probabilities": json.dumps({"no": 1 - sure, "yes": sure}), "confidence": sure,
            "needs_review": sure < 0.6, "modality": "without_image", "model_version": "m",
            "upload": upload, "input_hash": record_id, "run_id": "r",
            "predicted_at": "2026-12-01T00:00:00.000000+00:00", "modality_rank": 0,
            "image_order": "", "image_upload": "", "model_generation": 1, "spec_generation": 1,
            "content_hash": record_id[-16:],
        }  # fmt: skip

    pairs = [(upload, record_id) for upload in uploads for record_id in ids_of(upload)]
    rows = [one(*pair, number) for number, pair in enumerate(pairs)]
    return pa.Table.from_pylist(rows, schema=empty_predictions().schema)


def processor(work: Callable[[int], object]) -> float:
    """The median of some times, in milliseconds; the first is not counted."""
    took = []
    for number in range(TIMES + 1):
        before = time.process_time()
        work(number)
        took.append((time.process_time() - before) * 1e3)
    return round(statistics.median(took[1:]), 1)


def looks(
    lake: Lake, store: DuckDBStore, old: Sequence[str], new: Sequence[str]
) -> dict[str, Callable[[int], object]]:
    """What is done, by name; each is told how often before."""
    import pyarrow as pa

    from mm_assets.contract.dataset import DatasetSpec
    from mm_assets.monitoring.report import build_monitoring
    from mm_assets.tables.store import Query
    from mm_assets.uploads.find import find_uploads
    from mm_assets.uploads.ledger import newest_uploads, pending_uploads

    spec = DatasetSpec.model_validate(ATTRIBUTES)
    return {
        "publish": lambda n: store.publish(DATASET, new[n], rows_of([new[n]]), no_images()),
        "look up": lambda n: store.look_up(DATASET, pa.array(ids_of(old[n]))),
        "merge": lambda n: store.merge(DATASET, offered([new[n]])),
        "read records": lambda n: store.read(DATASET, Query(record_ids=ids_of(old[n]))),
        "read upload": lambda n: store.read(DATASET, Query(upload=old[n])),
        "monitoring": lambda _: build_monitoring(lake, store, spec, None),
        "inbox": lambda _: find_uploads(lake, DATASET),
        "pending": lambda _: pending_uploads(lake, DATASET),
        "newest 50": lambda _: newest_uploads(lake, DATASET, 50),
    }


def measure(folder: Path, sizes: Sequence[int]) -> Iterator[dict[str, Any]]:
    """A line for each size."""
    from mm_assets.contract.settings import Settings
    from mm_assets.lake.lake import Lake
    from mm_assets.lake.layout import uploads_prefix
    from mm_assets.tables.duckdb.store import DuckDBStore

    lake = Lake(Settings(lake=str(folder / "lake"), data=folder))
    store, there = DuckDBStore(folder / "table.duckdb"), 0
    for size in sizes:
        old = [upload_of(number) for number in range(there, size)]
        new = [f"n{size}-{number}" for number in range(TIMES + 1)]
        there = size
        with store.held():
            _fill(store, lake.settings.lake_folder / uploads_prefix(DATASET), old)
            done = looks(lake, store, old, new)
            yield {"uploads": size} | {name: processor(work) for name, work in done.items()}


def _fill(store: DuckDBStore, folder: Path, uploads: Sequence[str]) -> None:
    """Older uploads: in the index, in the table, and as folders of the lake."""
    from mm_assets.tables.store import Published

    store.publish_several(DATASET, [Published(one, rows_of([one]), no_images()) for one in uploads])
    store.merge(DATASET, offered(uploads))
    for upload in uploads:
        (folder / upload).mkdir(parents=True)


def main(about: str, measure: Measure, sizes: str) -> None:
    """Measure beside so many uploads, and print each line. sizes: if no others are asked for."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--uploads", default=sizes, help="how many, with commas")
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="mm-uploads-") as name:
        for line in measure(Path(name), [int(one) for one in given.uploads.split(",")]):
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(__doc__.splitlines()[0], measure, "100,1000,10000")
