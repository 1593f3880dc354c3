"""Dagster's daemon as far as a sensor can tell, on a real instance: ticks, run keys, and runs.

Runs are not carried out here; a test says how each one ends.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import dagster as dg
import pytest
from dagster._core.events import DagsterEvent, DagsterEventType
from dagster._core.test_utils import create_run_for_test

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import MARKER
from mm_assets.orchestration import scope as scope_room
from mm_assets.orchestration.component import dataset_definitions, resources
from mm_assets.orchestration.scope import Scope
from mm_assets.orchestration.triggers import decide
from mm_assets.orchestration.triggers.runs import PARTITION

End = Literal["succeeded", "failed", "canceled"]
RUN_KEY = "dagster/run_key"


class Daemon:
    """Ticks the sensors of one dataset and launches what they request, each run key once."""

    def __init__(
        self,
        instance: dg.DagsterInstance,
        lake: Lake,
        spec: DatasetSpec,
        patch: pytest.MonkeyPatch,
        *,
        together: bool = False,
    ) -> None:
        """together: small uploads may go together; else each has a run of its own."""
        patch.setattr(scope_room, "_lake", lambda _: lake)
        if not together:
            patch.setattr(decide, "FEWEST_TOGETHER", sys.maxsize)
        self.instance, self.lake, self.spec, self.scope = instance, lake, spec, Scope(spec)
        self.repository = dg.Definitions.merge(
            dataset_definitions(spec), dg.Definitions(resources=resources())
        ).get_repository_def()
        self.cursors: dict[str, str | None] = {}

    def evaluate(self, name: str) -> Any:
        """A tick whose result is not kept, as if the daemon died right after it."""
        sensor = self.repository.get_sensor_def(f"{self.scope.dataset}_{name}")
        with dg.build_sensor_context(
            self.instance,
            instance_ref=self.instance.get_ref(),
            cursor=self.cursors.get(name),
            repository_def=self.repository,
            resources=resources(),
        ) as context:
            return sensor.evaluate_tick(context)

    def add_partitions(self, tick: Any) -> None:
        for request in tick.dynamic_partitions_requests or []:
            self.instance.add_dynamic_partitions(
                request.partitions_def_name, request.partition_keys
            )

    def launch(self, request: dg.RunRequest, job: str = "upload") -> dg.DagsterRun | None:
        """The run of a request, launched; None if its run key was used before."""
        # Run keys count for one sensor, which names its own jobs.
        name = request.job_name or f"{self.scope.dataset}_{job}"
        known = dg.RunsFilter(job_name=name, tags={RUN_KEY: request.run_key})
        if self.instance.get_run_records(known):
            return None
        tags = {**request.tags, RUN_KEY: request.run_key}
        if request.partition_key:
            tags[PARTITION] = request.partition_key
        return self.run(name.removeprefix(f"{self.scope.dataset}_"), tags)

    def run(
        self, job: str, tags: dict[str, str], status: dg.DagsterRunStatus | None = None
    ) -> dg.DagsterRun:
        return create_run_for_test(
            self.instance,
            job_name=f"{self.scope.dataset}_{job}",
            tags=tags,
            status=status or dg.DagsterRunStatus.STARTING,
        )

    def tick(self, name: str = "uploads", job: str = "upload") -> list[dg.DagsterRun]:
        """A tick, kept as the daemon keeps it; returns the runs that it launched."""
        tick = self.evaluate(name)
        self.add_partitions(tick)
        self.cursors[name] = tick.cursor
        launched = (self.launch(request, job) for request in tick.run_requests or [])
        return [run for run in launched if run]

    def end(self, run: dg.DagsterRun, how: End = "succeeded") -> None:
        """How a run ends; one that succeeds has materialised its upload's predictions."""
        if how == "failed":
            self.instance.report_run_failed(run, "it broke")
        elif how == "canceled":
            self.instance.report_run_canceled(run, "by a person")
        else:
            self.materialise(run.tags[PARTITION])
            event = DagsterEvent(DagsterEventType.PIPELINE_SUCCESS.value, run.job_name)
            self.instance.report_dagster_event(event, run.run_id)

    def materialise(self, upload: str) -> None:
        key = self.scope.key("predictions")
        self.instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=upload))

    def take_all(self, most: int = 20) -> list[str]:
        """Tick and let every run succeed until nothing is requested; the uploads, as launched."""
        taken: list[str] = []
        for _ in range(most):
            runs = self.tick()
            for run in runs:
                self.end(run)
            taken += [run.tags[PARTITION] for run in runs]
            if not runs:
                break
        return taken


@contextmanager
def counted(client: Any) -> Iterator[Counter[str]]:
    """Counts the requests of a boto3 client by their operation."""
    counts: Counter[str] = Counter()

    def count(model: Any, **_: Any) -> None:
        counts[model.name] += 1

    service = client.meta.service_model.service_name
    client.meta.events.register(f"before-call.{service}", count, unique_id="counted")
    yield counts
    client.meta.events.unregister(f"before-call.{service}", count, unique_id="counted")


def fill(settings: Settings, folder: str, files: int, marker: bytes | None = None) -> None:
    """Objects straight into the memory of the test server; as requests they would take minutes."""
    bucket, prefix = settings.bucket_and_prefix
    for number in range(files):
        _server().put_object(bucket, f"{prefix}/{folder}/{number:05d}.png", b"x")
    if marker:
        _server().put_object(bucket, f"{prefix}/{folder}/{MARKER}", marker)


def forget(settings: Settings) -> None:
    """Everything that is in the bucket."""
    _server().buckets[settings.bucket_and_prefix[0]].keys.clear()


def _server() -> Any:
    from moto.s3.models import s3_backends

    return s3_backends["123456789012"]["aws"]
