"""How the sensors' ticks and the UI's question grow with the number of uploads.

    python -m tests.scale [--uploads 10000] [--objects 20000]

One process and one run: a Dagster instance on disk (SQLite) with 100 uploads and one with 10,000,
each upload with a materialisation of all its assets, over a folder and over S3 (moto's server in
this process) whose inbox holds 20,000 files in 20 folders. Times are the median of three ticks.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from mm_assets.contract.dataset import Modality
from mm_assets.contract.settings import Settings
from mm_assets.contract.spec_file import load_spec
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import MARKER, inbox
from mm_assets.orchestration.component import predicting, receiving
from mm_assets.orchestration.scope import Scope
from mm_assets.orchestration.triggers import sensors
from mm_assets.uploads.find import upload_key
from tests.conftest import AWS
from tests.make import dataset, drop_zip
from tests.orchestration.daemon import Daemon, fill

FOLDERS = 20
REPEATS = 3
DATASET = "pets"
STATUSES = """
query($key: AssetKeyInput!) {
  assetNodeOrError(assetKey: $key) {
    ... on AssetNode {
      partitionKeysByDimension { partitionKeys }
      assetPartitionStatuses {
        ... on DefaultPartitionStatuses { materializedPartitions failedPartitions }
      }
    }
  }
}
"""


def fill_instance(instance: dg.DagsterInstance, uploads: int) -> float:
    """Partitions with a materialisation of each asset, all in one transaction; in seconds."""
    from sqlalchemy import insert, text

    began = time.monotonic()
    keys = [
        upload_key(datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=n), n)
        for n in range(uploads)
    ]
    instance.add_dynamic_partitions(f"{DATASET}_uploads", keys)
    storage: Any = instance.event_log_storage
    table = storage_table()
    scope = Scope(
        load_spec(Path(__file__).parents[1] / "dagster_project" / "defs" / DATASET / "defs.yaml")
    )
    steps = [*receiving(scope), *predicting(scope)]
    # One real event of each asset; the others are its copies with another partition.
    for step in steps:
        asset = dg.AssetKey([DATASET, step])
        instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=keys[0]))
    with storage.index_connection() as connection:
        rows = connection.execute(table.select().where(table.c.partition == keys[0])).mappings()
        copies = []
        for row in list(rows):
            values = {name: value for name, value in row.items() if name != "id"}
            for key in keys[1:]:
                event = values["event"].replace(keys[0], key)
                copies.append({**values, "partition": key, "event": event})
        copies.sort(key=lambda row: row["partition"])
        for start in range(0, len(copies), 5000):
            connection.execute(insert(table), copies[start : start + 5000])
        connection.execute(text("ANALYZE"))
    return time.monotonic() - began


def storage_table() -> Any:
    from dagster._core.storage.event_log.schema import SqlEventLogStorageTable

    return SqlEventLogStorageTable


def median_of(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """The median time of some repeats, in milliseconds."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)


def measure(daemon: Daemon) -> dict[str, float]:
    """The tick of each sensor, in milliseconds. Results are dropped, so that each is the same."""
    daemon.evaluate("uploads")  # connects
    found = {"uploads, idle": median_of(lambda: daemon.evaluate("uploads"))}
    times = []
    for number in range(REPEATS):
        drop_zip(daemon.lake, "new.zip", {f"{number}": b"x"}, DATASET)
        began = time.perf_counter()
        tick = daemon.evaluate("uploads")
        times.append((time.perf_counter() - began) * 1000)
        assert len(tick.run_requests) == number + 1
    found["uploads, 1 new"] = statistics.median(times)
    for item in list(daemon.lake.list(f"datasets/{DATASET}/pending/")):
        daemon.lake.delete(item.key)
    daemon.lake.delete(f"{inbox(DATASET)}new.zip")
    daemon.tick("training", "train")  # counts the labelled records
    found["training, idle"] = median_of(lambda: daemon.evaluate("training"))
    patch = pytest.MonkeyPatch()
    now = {Modality.WITH_IMAGE: 1, Modality.WITHOUT_IMAGE: 1}
    patch.setattr(sensors, "generations", lambda _: now)
    done = {"champions": "1-1", "after": "z", "until": "y", "late": []}
    daemon.cursors["repredict"] = json.dumps(done)
    found["repredict, idle"] = median_of(lambda: daemon.evaluate("repredict"))
    daemon.cursors["repredict"] = None
    tick = daemon.evaluate("repredict")
    assert len(tick.run_requests) == 50
    found["repredict, promoted"] = median_of(lambda: daemon.evaluate("repredict"))
    patch.undo()
    return found


def ask_as_the_ui(instance: dg.DagsterInstance, root: Path) -> float:
    """The status of each partition of one asset, through the webserver; in milliseconds."""
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import PythonFileTarget
    from dagster_webserver.app import create_app_from_workspace_process_context
    from starlette.testclient import TestClient

    file = root / "location.py"
    file.write_text(
        "import dagster as dg\n"
        "from mm_assets.orchestration.component import dataset_definitions, resources\n"
        "from tests.make import dataset\n"
        "defs = dg.Definitions.merge(dataset_definitions(dataset()), "
        "dg.Definitions(resources=resources()))\n"
    )
    target = PythonFileTarget(
        python_file=str(file),
        attribute=None,
        working_directory=str(Path.cwd()),
        location_name="scale",
    )
    with WorkspaceProcessContext(instance, target) as context:
        client = TestClient(create_app_from_workspace_process_context(context))
        variables = {"key": {"path": [DATASET, "predictions"]}}

        def ask() -> Any:
            answer = client.post("/graphql", json={"query": STATUSES, "variables": variables})
            return answer.json()["data"]["assetNodeOrError"]

        answer = ask()
        expected = len(instance.get_dynamic_partitions(f"{DATASET}_uploads"))
        assert len(answer["assetPartitionStatuses"]["materializedPartitions"]) == expected
        return median_of(ask)


@contextmanager
def lakes(root: Path, objects: int) -> Iterator[dict[str, Lake]]:
    """A folder and S3, whose inboxes hold unfinished and finished folders."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ.update({**AWS, "AWS_ENDPOINT_URL": f"http://{host}:{port}", "MM_ROOT": str(root)})
    folder = Lake(Settings(lake=str(root / "lake")))
    s3 = Lake(Settings(lake="s3://scale/lake"))
    s3.s3_client.create_bucket(Bucket="scale")
    each = objects // FOLDERS
    for number in range(FOLDERS):
        place = f"{inbox(DATASET)}folder-{number:02d}"
        fill(s3.settings, place, each)
        local = folder.settings.lake_folder / place
        local.mkdir(parents=True)
        for file in range(each):
            (local / f"{file:05d}.png").write_bytes(b"x")
        if number % 2:
            for lake in (folder, s3):
                lake.write(f"{place}/{MARKER}", json.dumps({"files": []}).encode())
    yield {"folder": folder, "s3": s3}
    server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--uploads", type=int, default=10_000)
    parser.add_argument("--objects", type=int, default=20_000)
    arguments = parser.parse_args()
    found: dict[str, dict[int, float]] = {}
    patch = pytest.MonkeyPatch()
    with tempfile.TemporaryDirectory(prefix="mm-scale-") as temporary:
        root = Path(temporary)
        with lakes(root, arguments.objects) as both:
            for uploads in (100, arguments.uploads):
                home = root / f"home-{uploads}"
                home.mkdir()
                with dg.instance_for_test(temp_dir=str(home)) as instance:
                    seconds = fill_instance(instance, uploads)
                    print(f"{uploads} uploads in {seconds:.0f} s", file=sys.stderr)
                    for name, lake in both.items():
                        daemon = Daemon(instance, lake, dataset(), patch)
                        finished = daemon.take_all()  # the finished folders, which stay
                        print(f"{name}: {len(finished)} finished folders", file=sys.stderr)
                        for what, milliseconds in measure(daemon).items():
                            found.setdefault(f"{what} ({name})", {})[uploads] = milliseconds
                            print(f"{name}: {what}: {milliseconds:.0f} ms", file=sys.stderr)
                    asked = ask_as_the_ui(instance, root)
                    found.setdefault("the UI's partition statuses", {})[uploads] = asked
    print(
        f"| what | 100 uploads, ms | {arguments.uploads:,} uploads, ms | ratio |\n|---|---|---|---|"
    )
    for what, times in found.items():
        few, many = times.values()
        print(f"| {what} | {few:.0f} | {many:.0f} | {many / few:.1f} |")


if __name__ == "__main__":
    main()
