"""What a training set costs beside many labelled uploads: all of them read, or the new one alone.

    python -m benchmarks.gathering [--uploads 100,400,1000]

Uploads of five labelled rows are received and joined without Dagster, over a folder and DuckDB.
Shown is the processor time in seconds, and how many documents and files of the lake were read.
"""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.growth import count_requests
from benchmarks.sizes import main
from benchmarks.speed.lines.many import ATTRIBUTES, DATASET, ROWS, small_table

if TYPE_CHECKING:
    from mm_assets.contract.dataset import DatasetSpec
    from mm_assets.lake.lake import Lake
    from mm_assets.tables.store import Store


def come(lake: Lake, store: Store, spec: DatasetSpec, number: int) -> None:
    """One more upload, received and joined."""
    from mm_assets.lake.layout import inbox
    from mm_assets.manifest.join import build_manifest
    from mm_assets.uploads.find import find_uploads
    from mm_assets.uploads.receive import receive

    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("t.csv", small_table(number, ROWS, labelled=True))
    key = f"{inbox(DATASET)}{number:06d}.zip"
    lake.write(key, packed.getvalue())
    (source,) = find_uploads(lake, DATASET).finished
    receive(lake, spec, source, run_id="r", progress=lambda _: None)
    build_manifest(lake, store, spec, source.upload, run_id="r")
    lake.delete(key)


def measure(folder: Path, sizes: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Two lines for each size."""
    from mm_assets.contract.dataset import DatasetSpec
    from mm_assets.contract.settings import Settings
    from mm_assets.lake.lake import Lake
    from mm_assets.lake.layout import TRAINING_SET, of_dataset
    from mm_assets.tables.duckdb.store import DuckDBStore
    from mm_assets.training.training_set import build_training_set

    lake = Lake(Settings(lake=str(folder / "lake"), data=folder))
    store, spec = DuckDBStore(folder / "table.duckdb"), DatasetSpec.model_validate(ATTRIBUTES)
    asked, there = count_requests(), 0

    def gathered(what: str) -> dict[str, Any]:
        asked.clear()
        before = time.process_time()
        document = build_training_set(lake, store, spec, run_id="r")
        seconds = round(time.process_time() - before, 2)
        return {
            "uploads": there, "what": what, "processor": seconds, "read": asked["GET"],
            "records": document["counts"]["records"],
        }  # fmt: skip

    for size in sizes:
        for number in range(there, size - 1):
            come(lake, store, spec, number)
        there = size - 1
        lake.delete(of_dataset(DATASET, TRAINING_SET))
        yield gathered("all anew")
        come(lake, store, spec, there)
        there = size
        yield gathered("one is new")


if __name__ == "__main__":
    main(__doc__.splitlines()[0], measure, "100,400,1000")
