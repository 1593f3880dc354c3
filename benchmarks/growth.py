"""What one more small upload costs, as they become many: time, memory, requests, what is kept.

    python -m benchmarks.growth [--uploads 1000] [--step 100] [--folder FOLDER]

Uploads of five rows go through `ds.sync()` in this process, a step at a time, over a folder and
DuckDB. Requests are the calls of the lake's own methods that would be one of S3's (of a listing,
one for each 1,000 objects). Each step is a line of JSON. With `--folder` it goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.speed.lines import many

PAGE = 1000  # objects in an answer of S3
KINDS = {
    "stat": "HEAD", "read": "GET", "read_range": "GET", "fetch": "GET", "write": "PUT",
    "create_json": "PUT", "delete": "DELETE", "move": "COPY",
}  # fmt: skip


def count_requests() -> Counter[str]:
    """What the lake is asked for from now on in this process, by kind."""
    from mm_assets.lake.lake import Lake

    asked: Counter[str] = Counter()

    def counted(work: Callable[..., Any], kind: str) -> Callable[..., Any]:
        def ask(*given: Any, **named: Any) -> Any:
            asked[kind] += 1
            return work(*given, **named)

        return ask

    for name, kind in KINDS.items():
        setattr(Lake, name, counted(getattr(Lake, name), kind))
    listing = Lake.list

    def listed(*given: Any, **named: Any) -> Iterator[Any]:
        asked["LIST"] += 1
        for number, item in enumerate(listing(*given, **named), 1):
            asked["listed objects"] += 1
            asked["LIST"] += number % PAGE == 0
            yield item

    setattr(Lake, "list", listed)  # noqa: B010
    for name in ("names", "top"):
        setattr(Lake, name, counted(getattr(Lake, name), "LIST"))
    return asked


def kept(project: Path) -> dict[str, int]:
    """What there is in the end: objects and bytes of the lake, rows and bytes of Dagster's."""
    lake = [path for path in (project / "data" / "lake").rglob("*") if path.is_file()]
    home = [path for path in (project / "data" / "dagster").rglob("*") if path.is_file()]
    events = 0
    for path in home:
        if path.suffix == ".db":
            with sqlite3.connect(path) as db:
                tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
                if "event_logs" in tables:
                    events += db.execute("SELECT count(*) FROM event_logs").fetchone()[0]
    return {
        "objects": len(lake),
        "lake_bytes": sum(path.stat().st_size for path in lake),
        "dagster_bytes": sum(path.stat().st_size for path in home),
        "events": events,
        "table_bytes": (project / "data" / "predictions.duckdb").stat().st_size,
    }


def measure(folder: Path, uploads: int, step: int) -> Iterator[dict[str, Any]]:
    """A line for each step; `there` is how many uploads there are after it."""
    if not (folder / "project").exists():
        many.make(folder)
    ds = many.opened(folder / "project")
    asked = count_requests()
    before = kept(folder / "project")
    there = len(ds.uploads()) - 1
    while there < uploads:
        for at in range(there, there + step):
            file = folder / f"growing-{at:06d}.csv"
            file.write_text(many.small_table(100_000 + at, many.ROWS), encoding="utf-8")
            many.send(ds, file)
            file.unlink()
        asked.clear()
        wall, processor = time.monotonic(), time.process_time()
        outcomes = ds.sync(quiet=True)
        line: dict[str, Any] = {
            "there": there + step,
            "of": step,
            "ended_well": many.ended_well(outcomes),
            "seconds": round(time.monotonic() - wall, 2),
            "processor": round(time.process_time() - processor, 2),
            "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            "requests": dict(asked),
        }
        now = kept(folder / "project")
        line |= {f"new_{name}": now[name] - before[name] for name in now}
        before, there = now, there + step
        yield line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--uploads", type=int, default=1000, help="how many in the end")
    parser.add_argument("--step", type=int, default=100, help="how many at a time")
    parser.add_argument("--folder", type=Path, help="where it is kept; default: nowhere")
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="mm-growth-") as name:
        folder = (given.folder or Path(name)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        for line in measure(folder, given.uploads, given.step):
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
