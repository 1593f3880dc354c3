"""`mm demo`: uploads of drawn pets through a local S3 server, by themselves, to predictions.

It does what a person and a daemon would do: `send` puts uploads into a bucket, Dagster's daemon
runs the sensors, and this process only watches. `sample_checks` is the small, quick relative that
CI runs.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mm_assets.console import Format as Form
from mm_assets.console import bad, err, good, print_rows, say
from mm_assets.dataset import DatasetSpec, Modality
from mm_assets.errors import MMError, SettingsError
from mm_assets.lake import Lake
from mm_assets.models.store import ModelStore
from mm_assets.run import Outcome, Runner, open_instance, prepare_home
from mm_assets.settings import Settings
from mm_assets.spec_file import load_spec
from mm_assets.store.base import Query, open_store
from mm_assets.uploads.send import send

if TYPE_CHECKING:
    import dagster as dg

BUCKET = "mm-demo"
DATASET = "pets"
PATIENCE = 600  # seconds for any one step


def run_demo(settings: Settings, folder: Path) -> bool:
    """Run the demo in `folder`, which is emptied first; whether all went well."""
    from mm_assets.demo_data import make_pets

    folder = settings.root / folder
    spec = load_spec(settings.defs_folder / DATASET / "defs.yaml")
    _empty(folder)
    began = time.monotonic()
    with err.status("drawing pets …"):
        make_pets(folder / "uploads")
    # The instance comes first: two processes that make it at the same moment spoil it.
    with _local_s3(folder) as inside, open_instance(inside) as instance, _daemon(inside, folder):
        watch = _Watch(inside, spec, instance)
        try:
            _story(inside, folder / "uploads", watch)
        except MMError as error:
            bad(str(error))
            say(f"The daemon's log is {folder / 'daemon.log'}.")
            return False
        rows = watch.rows
        _keep_lake(Lake(inside), folder / "lake")
    _ending(folder, spec, rows, time.monotonic() - began)
    return True


def _story(settings: Settings, uploads: Path, watch: _Watch) -> None:
    """What happens in the demo, in order."""
    lake = Lake(settings)
    say("1. Pets with known outcome arrive: a folder, sent as a person would send it.")
    send(lake, uploads / "labelled", DATASET)
    watch.until("the sensor sees the upload and takes it in", lambda: watch.finished("upload", 1))
    watch.note("labelled")
    say("2. Enough labelled records are there: the training sensor asks for both models.")
    watch.until(
        "two models are trained, evaluated and promoted", lambda: watch.finished("train", 1)
    )
    watch.note("training")
    say("3. Pets without outcome arrive: a folder and a zip, some of them without a picture.")
    send(lake, uploads / "unlabelled", DATASET)
    send(lake, uploads / "unlabelled-2.zip", DATASET)
    watch.until("both are predicted", lambda: watch.finished("upload", 3))
    watch.note("unlabelled")
    say("4. Pictures that were missing arrive late, in an upload of their own.")
    send(lake, uploads / "late-images", DATASET)
    watch.until(
        "predictions with an image replace those without", lambda: watch.finished("upload", 4)
    )
    watch.note("late images")
    say("5. The monitoring pictures are drawn.")
    watch.until("monitoring is fresh", watch.monitored)


class _Watch:
    """Looks at Dagster's runs and at the table, and notes how the numbers change."""

    def __init__(self, settings: Settings, spec: DatasetSpec, instance: dg.DagsterInstance) -> None:
        self.settings = settings
        self.spec = spec
        self.instance = instance
        self.rows: list[dict[str, Any]] = []

    def until(self, words: str, is_done: Callable[[], bool]) -> None:
        began = time.monotonic()
        with err.status("") as status:
            while not is_done():
                waited = time.monotonic() - began
                status.update(f"waiting until {words} … {waited:.0f} s")
                if waited > PATIENCE:
                    raise MMError(
                        code="demo_too_slow",
                        what=f"after {PATIENCE} s it still was not so that {words}",
                        todo="Look into the daemon's log, or open the UI (make demo-ui).",
                    )
                time.sleep(1)
        good(f"{words} ({time.monotonic() - began:.0f} s)")

    def finished(self, job: str, count: int) -> bool:
        """Whether `count` runs of the job succeeded. Raises MMError if one failed for good."""
        import dagster as dg

        name = f"{self.spec.dataset}_{job}"
        runs = self.instance.get_run_records(dg.RunsFilter(job_name=name))
        succeeded = [r for r in runs if r.dagster_run.status is dg.DagsterRunStatus.SUCCESS]
        failed = [r for r in runs if r.dagster_run.status is dg.DagsterRunStatus.FAILURE]
        if len(failed) > 2:
            raise MMError(
                code="demo_run_failed",
                what=f"the job {name} failed {len(failed)} times",
                todo="Open the UI (make demo-ui) and look at its runs.",
            )
        return len(succeeded) >= count

    def monitored(self) -> bool:
        import dagster as dg

        key = dg.AssetKey([self.spec.dataset, "monitoring"])
        drawn = self.instance.get_latest_materialization_event(key)
        merged = self.instance.get_latest_materialization_event(
            dg.AssetKey([self.spec.dataset, "predictions"])
        )
        return bool(drawn and merged and drawn.timestamp > merged.timestamp)

    def note(self, after: str) -> None:
        counts = open_store(self.settings).counts(self.spec.dataset)
        models = ModelStore(Lake(self.settings), self.spec.dataset)
        champions = sum(models.champion(modality) is not None for modality in Modality)
        shown = {name.replace("_", " "): number for name, number in counts.items()}
        self.rows.append({"after": after, "models": champions, **shown})


def _ending(folder: Path, spec: DatasetSpec, rows: list[dict[str, Any]], seconds: float) -> None:
    columns = ["after", "models", "records", "with image", "without image", "needs review"]
    print_rows(rows, columns, Form.TABLE, "Predictions in the table")
    settings = _settings_of(folder)
    models = ModelStore(Lake(settings), spec.dataset)
    for modality in Modality:
        champion = models.champion(modality)
        if champion:
            good(f"model {modality.replace('_', ' ')}: {champion.reason}")
    least = open_store(settings).read(spec.dataset, Query(limit=5)).to_pylist()
    columns = ["record_id", "prediction", "confidence", "modality", "needs_review"]
    print_rows(least, columns, Form.TABLE, "The least confident predictions")
    shown = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    good(f"done in {seconds:.0f} s")
    say(f"Pictures:     {shown / 'monitoring' / spec.dataset}")
    say(f"Table:        {shown / 'predictions.duckdb'}")
    say("In Dagster:   make demo-ui     then open http://127.0.0.1:3000")
    say("Your own:     mm init TABLE --images FOLDER --id COLUMN --label COLUMN")


# -- the parts it runs on -------------------------------------------------------------------------


def _empty(folder: Path) -> None:
    marker = folder / ".mm-demo"
    if folder.exists() and any(folder.iterdir()) and not marker.exists():
        raise SettingsError(
            code="demo_folder",
            what="the folder holds something that no demo made",
            where=str(folder),
            todo="Name an empty folder with --folder.",
        )
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    marker.touch()


def _environment(folder: Path, lake: str) -> dict[str, str]:
    return {
        "MM_DATA": str(folder),
        "MM_LAKE": lake,
        "MM_TABLE": f"duckdb:///{folder / 'predictions.duckdb'}",
        "DAGSTER_HOME": str(folder / "dagster"),
    }


def _settings_of(folder: Path) -> Settings:
    os.environ.update(_environment(folder, str(folder / "lake")))
    return Settings.from_environment()


@contextmanager
def _local_s3(folder: Path) -> Iterator[Settings]:
    """A server on this machine that speaks S3, with an empty bucket; the settings to use it."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    # These are no secrets: the server takes any.
    os.environ.update(
        AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}",
        AWS_ACCESS_KEY_ID="demo",
        AWS_SECRET_ACCESS_KEY="demo",  # noqa: S106
        AWS_REGION="us-east-1",
        **_environment(folder, f"s3://{BUCKET}/lake"),
    )
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        os.environ.pop(name, None)
    try:
        settings = Settings.from_environment()
        Lake(settings).s3_client.create_bucket(Bucket=BUCKET)
        yield settings
    finally:
        server.stop()


@contextmanager
def _daemon(settings: Settings, folder: Path) -> Iterator[None]:
    """Dagster's daemon with the project's code location; its output goes to daemon.log."""
    prepare_home(settings)
    command = [sys.executable, "-m", "dagster._daemon", "run", "-w", "workspace.yaml"]
    with (folder / "daemon.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603
            command,
            cwd=settings.root,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield
        finally:
            _end_all(process)


def _end_all(process: subprocess.Popen[bytes]) -> None:
    """End the daemon and whatever it started: they share a process group of their own."""
    for sign, patience in ((signal.SIGTERM, 20), (signal.SIGKILL, 10)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
    process.wait()


def _keep_lake(lake: Lake, folder: Path) -> None:
    """Copy what the pipeline made into a folder, since the local server forgets it."""
    for item in lake.list("datasets/"):
        path = folder / item.key
        path.parent.mkdir(parents=True, exist_ok=True)
        lake.fetch(item.key, path)


# -- for CI ---------------------------------------------------------------------------------------


def sample_checks(
    settings: Settings, folder: Path, report: Callable[[DatasetSpec, Outcome], None]
) -> list[tuple[DatasetSpec, Outcome]]:
    """Materialise a small sample of the pets, every asset and every check; all outcomes."""
    from mm_assets.demo_data import make_pets

    folder = settings.root / folder
    spec = load_spec(settings.defs_folder / DATASET / "defs.yaml")
    _empty(folder)
    make_pets(folder / "uploads", labelled=200, unlabelled=40)
    os.environ.update(_environment(folder, str(folder / "lake")))
    inside = Settings.from_environment()
    quick = spec.model_with_image[0].model_copy(
        update={"hyperparameters": {"optim.max_epochs": 15}}
    )
    spec = spec.model_copy(
        update={
            "minimum_training_records": 30,
            "model_with_image": (quick,),
            "model_without_image": (quick,),
        }
    )
    outcomes: list[tuple[DatasetSpec, Outcome]] = []
    with open_instance(inside) as instance:
        runner = Runner(spec, instance, say)
        for upload in sorted((folder / "uploads").iterdir()):
            send(Lake(inside), upload, DATASET)
        for work in (runner.sync, runner.train, runner.check):
            for outcome in work():
                report(spec, outcome)
                outcomes.append((spec, outcome))
    models = ModelStore(Lake(inside), spec.dataset)
    if not all(models.champion(modality) for modality in Modality):
        raise MMError(
            code="sample_not_promoted",
            what="a model of the sample did not pass its gate, so nothing was predicted with it",
            where=str(folder),
            todo="Look at the observations of pets/model_… : did training change?",
        )
    return outcomes
