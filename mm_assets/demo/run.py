"""`mm demo`: uploads of a made dataset through a local S3 server, by themselves, to predictions.

It does what a person and a daemon would do: `send` puts uploads into a bucket, Dagster's daemon
runs the sensors, and this process only watches. What happens in a dataset's demo stands in its
own module.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.decisions import OF_REGRESSION
from mm_assets.contract.errors import MMError, SpecError
from mm_assets.contract.settings import Settings
from mm_assets.contract.spec_file import load_spec
from mm_assets.demo.machine import (
    daemon,
    empty,
    keep_lake,
    local_s3,
    local_settings,
    server_package,
)
from mm_assets.demo.stories import story_of
from mm_assets.demo.story import Story
from mm_assets.display.cells import written_out
from mm_assets.display.console import Format as Form
from mm_assets.display.console import bad, err, good, print_rows, say, warn
from mm_assets.drafting.templates import template_file
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import uploads_prefix
from mm_assets.orchestration.run import open_instance
from mm_assets.orchestration.scope import Scope
from mm_assets.orchestration.triggers.runs import finished_uploads, is_monitoring_fresh, run_counts
from mm_assets.orchestration.workflow import load_definitions
from mm_assets.registry.store import ModelStore
from mm_assets.tables.open import open_store
from mm_assets.tables.store import Query
from mm_assets.uploads.send import send

DATASET, FOLDER = "pets", Path("data/demo")  # what is shown where none is named
PATIENCE = 600  # seconds for any one step


def run_demo(settings: Settings, dataset: str, folder: Path | None = None) -> bool:
    """Run the dataset's demo in `folder`, which is emptied first; whether all went well.

    Without a folder it is data/demo for pets, and data/demo-<dataset> for the others. Raises
    SpecError for a dataset that has no demo.
    """
    story = story_of(dataset)
    folder = settings.root / folder if folder else folder_of(settings, dataset)
    spec = load_spec(template_file(dataset))
    server_package()  # missing, it is said before anything is made
    empty(folder)
    began = time.monotonic()
    with err().status(f"{story.making} …"):
        story.make(folder / "uploads")
        load_definitions(local_settings(folder, dataset))  # else the daemon would fail in silence
    # The instance comes first: two processes that make it at the same moment spoil it.
    with (
        local_s3(folder, dataset) as inside,
        open_instance(inside) as instance,
        daemon(inside, folder),
    ):
        watch = _Watch(inside, spec, instance)
        try:
            _tell(story, inside, folder / "uploads", watch)
        except MMError as error:
            bad(str(error))
            say(f"The daemon's log is {folder / 'daemon.log'}.")
            return False
        rows = watch.rows
        keep_lake(Lake(inside), folder / "lake")
    _ending(folder, spec, rows, time.monotonic() - began)
    return True


def _tell(story: Story, settings: Settings, uploads: Path, watch: _Watch) -> None:
    """What happens in the demo, in order."""
    lake = Lake(settings)
    sent = trained = 0
    for number, step in enumerate(story.steps, 1):
        say(f"{number}. {step.words}")
        for name in step.uploads:
            send(lake, uploads / name, watch.spec.dataset)
        sent += len(step.uploads)
        trained += not step.uploads
        job, count = ("upload", sent) if step.uploads else ("train", trained)
        watch.until(step.waits, partial(watch.finished, job, count))
        watch.note(step.note)
    say(f"{len(story.steps) + 1}. The monitoring pictures are drawn.")
    watch.until("monitoring is fresh", watch.monitored)


class _Watch:
    """Looks at Dagster's runs and at the table, and notes how the numbers change."""

    def __init__(self, settings: Settings, spec: DatasetSpec, instance: Any) -> None:
        self.settings = settings
        self.spec = spec
        self.instance = instance
        self.rows: list[dict[str, Any]] = []

    def until(self, words: str, is_done: Callable[[], bool]) -> None:
        began = time.monotonic()
        with err().status("") as status:
            while not is_done():
                waited = time.monotonic() - began
                status.update(f"waiting until {words} … {waited:.0f} s")
                if waited > PATIENCE:
                    raise MMError(
                        code="demo_too_slow",
                        what=f"after {PATIENCE} s it still was not so that {words}",
                        todo=f"Look into the daemon's log, or open the UI ({_ui(self.settings)}).",
                    )
                time.sleep(1)
        good(f"{words} ({time.monotonic() - began:.0f} s)")

    def finished(self, job: str, count: int) -> bool:
        """Whether `count` runs of the job succeeded, or so many uploads are through: several may
        go in one run. Raises MMError if one failed for good."""
        name = f"{self.spec.dataset}_{job}"
        succeeded, failed = run_counts(self.instance, name)
        if job == "upload":
            succeeded = len(finished_uploads(self.instance, Scope(self.spec)))
        if failed > 2:
            raise MMError(
                code="demo_run_failed",
                what=f"the job {name} failed {failed} times",
                todo=f"Open the UI ({_ui(self.settings)}) and look at its runs.",
            )
        return succeeded >= count

    def monitored(self) -> bool:
        return is_monitoring_fresh(self.instance, self.spec.dataset)

    def note(self, after: str) -> None:
        counts = open_store(self.settings).counts(self.spec.dataset)
        models = ModelStore(Lake(self.settings), self.spec.dataset)
        champions = sum(models.champion(modality) is not None for modality in Modality)
        shown = {name.replace("_", " "): number for name, number in counts.items()}
        self.rows.append({"after": after, "models": champions, **shown})


# -- the ending -----------------------------------------------------------------------------------


def _ending(folder: Path, spec: DatasetSpec, rows: list[dict[str, Any]], seconds: float) -> None:
    """Show what came of it: only what this dataset has."""
    from mm_assets.monitoring.live import live_figures

    settings = local_settings(folder, spec.dataset)
    lake, store = Lake(settings), open_store(settings)
    both = len(spec.modalities) > 1
    split, which = (["with image", "without image"], ["modality"]) if both else ([], [])
    columns = ["after", "models", "records", *split, "needs review"]
    print_rows(rows, columns, Form.TABLE, "Predictions in the table")
    for modality in spec.modalities:
        _show_model(lake, spec, modality)
    if spec.tolerated_failure_share is not None:
        _show_failures(lake, spec)
    least = store.read(spec.dataset, Query(limit=5)).to_pylist()
    columns = ["record_id", "prediction", "confidence", *which, "needs_review"]
    print_rows(least, columns, Form.TABLE, "The least confident predictions")
    known = live_figures(store.read(spec.dataset), spec.problem_type)
    if known and spec.is_regression:
        off, label = written_out(known["mean_absolute_error"]), spec.label_column
        good(f"the {known['n']} predictions with a known {label} are off by {off} on average")
    elif known:
        good(f"{known['accuracy']:.1%} of the {known['n']} predictions with a label are right")
    good(f"done in {seconds:.0f} s")
    shown = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    say(f"Pictures:     {shown / 'monitoring' / spec.dataset}")
    say(f"Table:        {shown / 'predictions.duckdb'}")
    say(f"In Dagster:   {_ui(settings)}     then open http://127.0.0.1:3000")
    say(f"Over HTTP:    {_serve(settings)}     then open http://127.0.0.1:8080")
    say("Your own:     mm init TABLE --images FOLDER --id COLUMN --label COLUMN")


def _serve(settings: Settings) -> str:
    """The command that answers over HTTP with what the demo with these settings trained."""
    if settings.data_folder != folder_of(settings, settings.datasets):
        return f"MM_DATA={settings.data_folder} MM_DEFS={settings.defs_folder} mm serve"
    return f"mm serve --demo {settings.datasets}"


def folder_of(settings: Settings, dataset: str) -> Path:
    """Where a dataset's demo keeps everything, unless it is told."""
    own = FOLDER if dataset == DATASET else FOLDER.with_name(f"demo-{dataset}")
    return settings.root / own


def left_behind(settings: Settings, dataset: str) -> Settings:
    """The settings that show what a dataset's demo left; the environment is set as well.

    Raises SpecError (demo_unknown, demo_data_missing, demo_not_run).
    """
    story_of(dataset)
    folder = folder_of(settings, dataset)
    if not (folder / "lake").is_dir():
        raise SpecError(
            code="demo_not_run",
            what=f"no demo of {dataset} has come to its end here",
            where=str(folder),
            todo=f"Run it first: mm demo --dataset {dataset}.",
        )
    return local_settings(folder, dataset)


def _ui(settings: Settings) -> str:
    """The command that shows in Dagster what the demo with these settings left behind."""
    folder, dataset = settings.data_folder, settings.datasets
    if folder != folder_of(settings, dataset):
        return f"MM_DATA={folder} MM_DATASETS={dataset} MM_DEFS={settings.defs_folder} mm dev"
    if (settings.root / "Makefile").exists():
        return "make demo-ui" if dataset == DATASET else f"make demo-ui DATASET={dataset}"
    return f"mm dev --demo {dataset}"


def _show_model(lake: Lake, spec: DatasetSpec, modality: Modality) -> None:
    """The champion and why it was promoted; every candidate, where several competed."""
    name = f"model {modality.replace('_', ' ')}"
    models = ModelStore(lake, spec.dataset)
    champion = models.champion(modality)
    if champion is None:
        warn(f"{name}: none passed its gate, so none was promoted")
        return
    good(f"{name}: {champion.reason}")
    manifest = models.manifest(modality, champion.version)
    if len(manifest["candidates"]) < 2:
        return
    others = OF_REGRESSION if spec.is_regression else ("accuracy", "roc_auc", "log_loss")
    figures = list(dict.fromkeys([manifest["metric"], *others]))
    rows = [
        {
            "engine": one["name"],
            **{name: one["metrics"].get(name) for name in figures},
            "seconds": one["seconds"],
            "promoted": one["metrics"] == manifest["metrics"],
        }
        for one in manifest["candidates"]
    ]
    print_rows(rows, list(rows[0]), Form.TABLE, f"Candidates for the {name}")


def _show_failures(lake: Lake, spec: DatasetSpec) -> None:
    """The files and rows of each upload that failed, by name."""
    from mm_assets.orchestration.checks.predictions import failed_items
    from mm_assets.uploads.received import read_receipt

    rows = []
    for upload in lake.names(uploads_prefix(spec.dataset)):
        name = read_receipt(lake, spec.dataset, upload)["source"]["name"]
        failed, items = failed_items(lake, spec, upload)
        share = f"{len(failed) / max(1, items):.1%}"
        rows += [{"upload": name, "share": share, "failed": words} for words in failed]
    title = f"What failed; tolerated is {spec.tolerated_failure_share:.1%} of an upload"
    print_rows(rows, ["upload", "share", "failed"], Form.TABLE, title)
