"""Run the pipeline in this process, without a daemon: what `mm sync` and `mm train` do.

The same jobs as the daemon launches, on the same Dagster instance, so that the UI shows them.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mm_assets.dataset import DatasetSpec, Modality
from mm_assets.errors import MMError
from mm_assets.settings import Settings

if TYPE_CHECKING:
    import dagster as dg

WORKER = "mm/worker"
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """What became of one run: its checks that failed with ERROR, and what broke it, if anything."""

    job: str
    upload: str | None
    run_id: str
    success: bool
    problem: str = ""
    failed_checks: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        return self.success and not self.failed_checks


@contextmanager
def open_instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """The Dagster instance of the project, made on first use; dead runs of ours are ended."""
    import dagster as dg

    home = prepare_home(settings)
    os.environ["DAGSTER_HOME"] = str(home)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        _end_dead_runs(instance)
        yield instance


def prepare_home(settings: Settings) -> Any:
    """DAGSTER_HOME with its dagster.yaml."""
    home = settings.home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    ours = settings.root / "dagster_project" / "dagster.yaml"
    if not (home / "dagster.yaml").exists():
        if ours.exists():
            shutil.copy(ours, home / "dagster.yaml")
        else:
            (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    return home


class Runner:
    """Runs one dataset's jobs in this process."""

    def __init__(self, spec: DatasetSpec, instance: dg.DagsterInstance, progress: Progress) -> None:
        import dagster as dg

        from mm_assets.lake import Lake
        from mm_assets.pipeline import build_check_jobs, dataset_definitions, resources
        from mm_assets.scope import Scope

        self.scope = Scope(spec)
        self.lake = Lake(Settings.from_environment())
        self.instance = instance
        self.progress = progress
        self.definitions = dg.Definitions.merge(
            dataset_definitions(spec),
            dg.Definitions(jobs=build_check_jobs(self.scope), resources=resources()),
        )

    def sync(self) -> Iterator[Outcome]:
        """Look once for finished uploads and take each through to predictions."""
        from mm_assets.sensors import finished_uploads
        from mm_assets.uploads.find import find_uploads, register

        done = finished_uploads(self.instance, self.scope)
        found = find_uploads(self.lake, self.scope.dataset, done)
        for folder in found.waiting:
            self.progress(f"{self.scope.dataset}: {folder.name} is not finished: {folder.reason}")
        processed = False
        for source in found.finished:
            if source.upload in done:
                continue
            register(self.lake, source)
            name = self.scope.partitions.name or ""
            self.instance.add_dynamic_partitions(name, [source.upload])
            self.progress(f"{self.scope.dataset}: {source.name} is upload {source.upload}")
            yield self.run("upload", source.upload)
            processed = True
        if processed:
            yield self.run("monitor", None)

    def train(self) -> Iterator[Outcome]:
        """Train both models; when one is promoted, predict every upload again."""
        before = self._champions()
        trained = self.run("train", None)
        yield trained
        if trained.success and self._champions() != before:
            yield from self.predict_all()
            yield self.run("monitor", None)

    def check(self) -> Iterator[Outcome]:
        """Run every asset check again on what is there."""
        from mm_assets.sensors import finished_uploads

        for upload in sorted(finished_uploads(self.instance, self.scope)):
            yield self.run("check_upload", upload)
        yield self.run("check_models", None)

    def predict_all(self) -> Iterator[Outcome]:
        """Predict every received upload with the present champions."""
        from mm_assets.sensors import finished_uploads, has_something_to_predict

        for upload in sorted(finished_uploads(self.instance, self.scope)):
            if not has_something_to_predict(self.lake, self.scope.dataset, upload):
                continue
            self.progress(f"{self.scope.dataset}: predicting {upload} again")
            yield self.run("predict", upload)

    def run(self, job: str, upload: str | None) -> Outcome:
        """Run one job to its end; never raises for what goes wrong inside it."""
        definition = self.definitions.resolve_job_def(f"{self.scope.dataset}_{job}")
        result = definition.execute_in_process(
            instance=self.instance,
            raise_on_error=False,
            tags={
                WORKER: f"{socket.gethostname()}:{os.getpid()}",
                **({"dagster/partition": upload} if upload else {}),
            },
            run_config=QUIET,
        )
        return outcome_of(result, job, upload)

    def _champions(self) -> list[int]:
        from mm_assets.models.store import ModelStore

        models = ModelStore(self.lake, self.scope.dataset)
        champions = (models.champion(modality) for modality in Modality)
        return [champion.generation if champion else 0 for champion in champions]


def outcome_of(result: Any, job: str, upload: str | None) -> Outcome:
    """Read a finished run: Dagster itself calls a run with a failed ERROR check a success."""
    import dagster as dg

    evaluations = [e for e in result.get_asset_check_evaluations() if not e.passed]
    failed: list[str] = []
    warned: list[str] = []
    for evaluation in evaluations:
        words = f"{evaluation.check_name}: {evaluation.description}"
        is_error = evaluation.severity is dg.AssetCheckSeverity.ERROR
        (failed if is_error else warned).append(words)
    return Outcome(
        job=job,
        upload=upload,
        run_id=result.run_id,
        success=result.success,
        problem="" if result.success else _problem(result),
        failed_checks=failed,
        warnings=warned,
    )


def _problem(result: Any) -> str:
    """The first thing that broke, in its own words and without a traceback."""
    for event in result.all_events:
        if event.is_step_failure and event.step_failure_data.error is not None:
            error = event.step_failure_data.error
            while error.cause is not None:
                error = error.cause
            name = error.message.partition(":")[0].rpartition(".")[2]
            message = error.message.partition(": ")[2].strip() or error.message.strip()
            known = {kind.__name__ for kind in MMError.__subclasses__()}
            return message if name in known else f"{name}: {message}"
    return "the run failed; the UI shows where"


def _end_dead_runs(instance: dg.DagsterInstance) -> None:
    """End runs of this machine whose process is gone, and free the pool slots they held."""
    import dagster as dg

    running = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])
    for record in instance.get_run_records(running):
        host, _, pid = record.dagster_run.tags.get(WORKER, "").rpartition(":")
        if host != socket.gethostname() or _is_alive(int(pid)):
            continue
        instance.report_run_failed(record.dagster_run, f"its process {pid} is gone")
        instance.event_log_storage.free_concurrency_slots_for_run(record.dagster_run.run_id)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
