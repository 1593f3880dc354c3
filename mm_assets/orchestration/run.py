"""Run the pipeline in this process, without a daemon: what `mm sync` and `mm train` do.

The same jobs as the daemon launches, on the same Dagster instance, so that the UI shows them.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.ends import OF_CONTENT, End, Ended, LeftOut, end_of_training, read_ended
from mm_assets.contract.errors import StoreError
from mm_assets.contract.settings import Settings
from mm_assets.orchestration.home import prepare_home, speaking_of_home
from mm_assets.tables.open import PATIENCE, open_store, reach_table

if TYPE_CHECKING:
    import dagster as dg

LOGGER: dict[str, Any] = {
    "loggers": {"mm": {}}
}  # instead of Dagster's own, which fills the terminal
Progress = Callable[[str], None]
# Dagster's own words for a step that it leaves out because an earlier one failed or gave nothing.
SKIPPED = ("Skipping step", "Dependencies for step")
SHOWN_AT_ONCE = 50  # uploads that are taken together before it is told what became of them
# The assets that say how an upload ended, the one that knows most first.
UPLOAD_STEPS = ("predictions", "manifest", "raw_uploads")


@dataclass(frozen=True)
class Outcome:
    """What became of one run: its checks that failed with ERROR, and what broke it, if anything.

    name: of the upload in the inbox, where a run received it. ended: of a run that took in an
    upload or trained, how much of it was used and what was left out. `end` is how the run ended;
    one of which nothing could be used did not fail.
    """

    job: str
    upload: str | None
    run_id: str
    success: bool
    problem: str = ""
    failed_checks: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    name: str = ""
    ended: Ended = field(default_factory=lambda: Ended(End.USED))

    @property
    def is_good(self) -> bool:
        return self.success and not self.failed_checks

    @property
    def end(self) -> End:
        ours = [words for words in self.failed_checks if words.split(":")[0] not in OF_CONTENT]
        if not self.success or ours:
            return End.FAILED
        if self.ended.end is not End.NOTHING and self.failed_checks:
            return End.FAILED
        return self.ended.end

    def as_row(self) -> dict[str, Any]:
        """What the commands print as data."""
        return {
            "job": self.job, "upload": self.upload, "run_id": self.run_id, "good": self.is_good,
            "end": self.end.value, "words": self.ended.words,
            "left_out": [one.as_dict() for one in self.ended.left_out],
            "problem": self.problem, "failed_checks": self.failed_checks,
            "warnings": self.warnings,
        }  # fmt: skip


@contextmanager
def open_instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """The Dagster instance of the project, made on first use; dead runs of ours are ended."""
    from mm_assets.orchestration.history import opened
    from mm_assets.orchestration.triggers.runs import end_dead_runs

    home = prepare_home(settings)
    os.environ["DAGSTER_HOME"] = str(home)
    with speaking_of_home(home), opened(home) as instance:
        end_dead_runs(instance)
        yield instance


@contextmanager
def without_previews() -> Iterator[None]:
    """Without Dagster's warnings of previews that we chose to use: no news to a user."""
    import dagster as dg

    with warnings.catch_warnings():
        for category in (dg.PreviewWarning, dg.BetaWarning):
            warnings.simplefilter("ignore", category)
        # In a notebook, whose event loop runs already, Dagster leaves one of its own behind.
        warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
        yield


class _Said(logging.Handler):
    """Hands on what a step says in its own words, each warning once; Dagster's events are not."""

    def __init__(self, progress: Progress, live: Progress) -> None:
        super().__init__()
        self.progress = progress
        self.live = live
        self.warned: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        meta = getattr(record, "dagster_meta", {})
        if meta.get("dagster_event") is not None:
            return
        text = str(meta.get("orig_message", record.getMessage()))
        if record.levelno < logging.WARNING:
            if not text.startswith(SKIPPED):
                self.live(text)
        elif text.startswith(SKIPPED):
            pass
        elif text not in self.warned:
            self.warned.add(text)
            self.progress(f"! {text}")


def mm_logger(progress: Progress, live: Progress) -> dg.LoggerDefinition:
    """What steps log: warnings become lines, the rest is shown for the moment."""
    import dagster as dg

    @dg.logger
    def mm(_context: dg.InitLoggerContext) -> logging.Logger:
        logger = logging.Logger("mm", logging.INFO)
        logger.addHandler(_Said(progress, live))
        return logger

    return mm


class Runner:
    """Runs one dataset's jobs in this process.

    `progress` is given what people should read, line by line; `live` what is going on this moment.
    """

    def __init__(
        self,
        spec: DatasetSpec,
        instance: dg.DagsterInstance,
        progress: Progress,
        live: Progress = lambda _: None,
    ) -> None:
        import dagster as dg

        from mm_assets.lake.lake import Lake
        from mm_assets.orchestration.component import (
            build_check_jobs,
            dataset_definitions,
            resources,
        )
        from mm_assets.orchestration.scope import Scope

        self.scope = Scope(spec)
        self.lake = Lake(Settings.from_environment())
        self.instance = instance
        self.progress = progress
        self.live = live
        self.definitions = dg.Definitions.merge(
            dataset_definitions(spec),
            dg.Definitions(
                jobs=build_check_jobs(self.scope),
                resources=resources(),
                loggers={"mm": mm_logger(progress, live)},
            ),
        )

    def sync(self) -> Iterator[Outcome]:
        """Look once for finished uploads and take each that is under way through to predictions."""
        from mm_assets.orchestration.triggers.sensors import note_new
        from mm_assets.uploads import ledger

        dataset = self.scope.dataset
        self._read_work()
        pending = ledger.pending_uploads(self.lake, dataset)
        new, waiting, _ = note_new(self.lake, self.instance, self.scope, pending, at_most=None)
        for folder in waiting:
            self.progress(f"{dataset}: {folder.name} is not finished: {folder.reason}")
        uploads = sorted({*pending, *new})
        if uploads:
            self._reach_table()
        changed = False
        for one in self._take_together(uploads):
            yield one
            changed |= one.success
        left = ledger.pending_uploads(self.lake, dataset) if changed else uploads
        for upload in sorted({*uploads}.intersection(left)):
            outcome = self._take_through(upload)
            if outcome is not None:
                yield outcome
                changed |= outcome.success
        if changed:
            yield self.run("monitor", None)
        self._tell_the_rest()

    def _read_work(self) -> None:
        """Note what the messages of MM_WORK ask for, of any dataset."""
        from mm_assets.contract.spec_file import load_specs
        from mm_assets.orchestration.triggers.events import pump, work_queue

        settings = self.lake.settings
        if not settings.work:
            return
        datasets = {self.scope.dataset, *load_specs(settings.defs_folder)}
        for reason in pump(self.lake, work_queue(settings), datasets).left:
            self.progress(f"left in the queue: {reason}")

    def _tell_the_rest(self) -> None:
        """Tell subscribers what a run that was cut off did not tell them any more."""
        from mm_assets.orchestration.triggers.runs import end_dead_runs, is_over
        from mm_assets.predictions.outbox import finish, left_behind

        if not (self.lake.settings.results and left_behind(self.lake, self.scope.dataset)):
            return
        end_dead_runs(self.instance)
        store = open_store(Settings.from_environment(), PATIENCE)
        told = finish(
            self.lake, store, self.scope.dataset, lambda run_id: is_over(self.instance, run_id)
        )
        if told.left:
            self.progress(f"{self.scope.dataset}: changes are not told yet: {told.reason}")

    def _reach_table(self) -> None:
        """Raises StoreError for a table that cannot be used, before each run fails of it.

        For one that is only busy the runs have more patience.
        """
        try:
            reach_table(Settings.from_environment())
        except StoreError as error:
            if error.code != "table_busy":
                raise

    def _take_together(self, uploads: list[str]) -> Iterator[Outcome]:
        """Take small uploads through together; those that do not get through are left for a run of
        their own, and so is everything where runs of several fail."""
        from mm_assets.orchestration.triggers.sensors import take_together

        config = {
            "ops": {
                f"{self.scope.dataset}_uploads_together": {"config": {"at_most": SHOWN_AT_ONCE}}
            }
        }
        left = uploads
        while left:  # some at a time, as the run takes them: the oldest first
            some = left[:SHOWN_AT_ONCE]
            small, now, _ = take_together(self.instance, self.lake, self.scope, some, pause=0)
            if now.do != "run":
                left = left[SHOWN_AT_ONCE:]
                continue
            self.live(f"{self.scope.dataset}: {len(small)} small uploads are taken together")
            outcomes = outcomes_of(self._execute("uploads", None, config=config), "uploads")
            yield from outcomes
            through = {one.upload for one in outcomes}
            left = [upload for upload in left if upload not in through]

    def _take_through(self, upload: str) -> Outcome | None:
        """Run one pending upload, without the pauses of the sensor; None if no run is needed."""
        from mm_assets.orchestration.triggers.sensors import run_tags, take_step
        from mm_assets.uploads import ledger

        def step() -> Any:
            return take_step(self.instance, self.lake, self.scope, upload, pause=0)

        dataset = self.scope.dataset
        pending, now = step()
        outcome = None
        if pending is not None and now.do == "run":
            self.instance.add_dynamic_partitions(self.scope.partitions.name or "", [upload])
            self.progress(f"{dataset}: {pending.source.name} is upload {upload}")
            outcome = self.run("upload", upload, run_tags(pending, now.number))
            if outcome.success:
                ledger.settle(self.lake, dataset, upload)
                return outcome
            _, now = step()  # the last of its tries sets it aside
        if now.do == "set aside":
            self.progress(f"{dataset}: {upload} is {now.reason}; `mm retry` takes it up again")
        elif outcome is None and now.reason:
            self.progress(f"{dataset}: {upload}: {now.reason}")
        return outcome

    def train(self, minutes: float | None = None) -> Iterator[Outcome]:
        """Train both models; when one is promoted, predict every upload again.

        minutes: for both together, instead of the YAML's. Somebody waits for it, so the first
        Ctrl-C while an engine learns keeps the best so far (engines/shared/stopping.py).
        """
        from mm_assets.engines.shared.stopping import keeping_the_best
        from mm_assets.orchestration.assets.training import training_config

        self._reach_table()
        before = self._champions()
        with keeping_the_best():
            trained = self.run("train", None, config=training_config(self.scope, minutes))
        yield trained
        if trained.success and self._champions() != before:
            yield from self.predict_all()

    def check(self) -> Iterator[Outcome]:
        """Run every asset check again on what is there."""
        self._reach_table()
        from mm_assets.orchestration.triggers.runs import finished_uploads

        for upload in sorted(finished_uploads(self.instance, self.scope)):
            yield self.run("check_upload", upload)
        yield self.run("check_models", None)

    def predict_all(self) -> Iterator[Outcome]:
        """Predict every received upload with the present champions, and draw monitoring again."""
        self._reach_table()
        from mm_assets.orchestration.triggers.runs import finished_uploads
        from mm_assets.orchestration.triggers.sensors import has_something_to_predict

        for upload in sorted(finished_uploads(self.instance, self.scope)):
            if not has_something_to_predict(self.lake, self.scope.dataset, upload):
                continue
            self.progress(f"{self.scope.dataset}: predicting {upload} again")
            yield self.run("predict", upload)
        yield self.run("monitor", None)

    def run(
        self,
        job: str,
        upload: str | None,
        tags: dict[str, str] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> Outcome:
        """Run one job to its end; never raises for what goes wrong inside it."""
        return outcome_of(self._execute(job, upload, tags, config), job, upload)

    def _execute(
        self,
        job: str,
        upload: str | None,
        tags: dict[str, str] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> Any:
        from mm_assets.orchestration.scope import WORKER, worker_name

        definition = self.definitions.resolve_job_def(f"{self.scope.dataset}_{job}")
        return definition.execute_in_process(
            instance=self.instance,
            raise_on_error=False,
            tags={
                WORKER: worker_name(os.getpid()),
                **({"dagster/partition": upload} if upload else {}),
                **(tags or {}),
            },
            run_config={**LOGGER, **(config or {})},
        )

    def _champions(self) -> list[int]:
        from mm_assets.registry.store import ModelStore

        models = ModelStore(self.lake, self.scope.dataset)
        champions = (models.champion(modality) for modality in Modality)
        return [champion.generation if champion else 0 for champion in champions]


def outcome_of(result: Any, job: str, upload: str | None) -> Outcome:
    """Read a finished run: Dagster itself calls a run with a failed ERROR check a success."""
    events = result.all_events
    evaluations = result.get_asset_check_evaluations()
    problem = "" if result.success else _problem(result)
    return _outcome(job, upload, result.run_id, events, evaluations, problem)


def outcomes_of(result: Any, job: str) -> list[Outcome]:
    """Of a run of several uploads, those that got through, in the order in which they did."""
    events: dict[str, list[Any]] = {}
    evaluations: dict[str, list[Any]] = {}
    for event in result.all_events:
        if event.is_step_materialization:
            events.setdefault(event.partition, []).append(event)
    for evaluation in result.get_asset_check_evaluations():
        evaluations.setdefault(evaluation.partition, []).append(evaluation)
    return [
        _outcome(job, upload, result.run_id, own, evaluations.get(upload, []), "")
        for upload, own in events.items()
        if any(event.asset_key.path[-1] == UPLOAD_STEPS[0] for event in own)
    ]


def _outcome(
    job: str,
    upload: str | None,
    run_id: str,
    events: Sequence[Any],
    evaluations: Sequence[Any],
    problem: str,
) -> Outcome:
    import dagster as dg

    said = _told(events)
    # What an upload is like was said when it came: a run that joins it again does not fail of it.
    again = OF_CONTENT if "manifest" in said and "raw_uploads" not in said else ()
    failed: list[str] = []
    warned: list[str] = []
    for evaluation in evaluations:
        if evaluation.passed or evaluation.check_name in again:
            continue
        words = f"{evaluation.check_name}: {evaluation.description}"
        is_error = evaluation.severity is dg.AssetCheckSeverity.ERROR
        (failed if is_error else warned).append(words)
    return Outcome(
        job=job,
        upload=upload,
        run_id=run_id,
        success=not problem,
        problem=problem,
        failed_checks=failed,
        warnings=warned,
        name=str(said.get("raw_uploads", {}).get("upload", "")),
        ended=_ended(said),
    )


def _told(events: Sequence[Any]) -> dict[str, dict[str, Any]]:
    """What each asset said in a run, materialised or not: its name to its metadata."""
    said: dict[str, dict[str, Any]] = {}
    for event in events:
        data = event.event_specific_data
        told = getattr(data, "materialization", None) or getattr(data, "asset_observation", None)
        if told is not None:
            said[told.asset_key.path[-1]] = {name: m.value for name, m in told.metadata.items()}
    return said


def _ended(said: dict[str, dict[str, Any]]) -> Ended:
    """How much of what a run took in, or wanted to train, was used: its assets say so."""
    from mm_assets.orchestration.scope import LEFT_OUT, STOPPED

    ended = Ended(End.USED)
    if "raw_uploads" in said or said.get("predictions", {}).get("failed"):
        newest = next(said[name] for name in UPLOAD_STEPS if name in said)
        ended = read_ended(
            {"end": newest["end"], "end_words": newest.get("in words"),
             "left_out": newest.get(LEFT_OUT)}
        )  # fmt: skip
    models = {name: one for name, one in said.items() if name.startswith("model_")}
    if models:
        missing = [LeftOut.read(one[LEFT_OUT]) for one in models.values() if LEFT_OUT in one]
        trained = [name for name, one in models.items() if LEFT_OUT not in one]
        return end_of_training(trained, missing, [n for n in trained if STOPPED in models[n]])
    return ended


def _problem(result: Any) -> str:
    """The first thing that broke, in its own words and without a traceback."""
    from mm_assets.orchestration.triggers.runs import words_of

    for event in result.all_events:
        if event.is_step_failure and event.step_failure_data.error is not None:
            return words_of(event.step_failure_data.error)
    return "the run failed; the UI shows where"
