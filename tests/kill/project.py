"""A project that is killed or left alone: what people send to it, and what it must end as.

Its lake is a folder and its table DuckDB, or it lies on servers that speak S3, SQS and DynamoDB.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import uuid
from collections import Counter
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mm_assets.contract.settings import Settings
    from tests.aws_server import Servers

REPOSITORY = Path(__file__).parents[2]
START = 1_790_000_000  # the moment when the first upload arrives
PARTS = 2 if os.environ.get("MM_NIGHTLY") == "1" else 1  # three uploads each in the second wave
DATASET = "kill"

Upload = tuple[str, dict[str, bytes]]  # its name, and its files

YAML = """
type: mm_assets.pipeline.DatasetPipeline
attributes:
  dataset: kill
  id_column: id
  label_column: label
  problem_type: binary
  classes: [cat, dog]
  columns: {age: number}
  image_name: "{id}"
  image_longest_side: 16
  minimum_training_records: 30
  model_with_image: {engine: "tests.kill.engine:NearestMean"}
  model_without_image: {engine: "tests.kill.engine:NearestMean"}
  review_threshold: 0.7
  upload_tries: 1000
  retry_pause_seconds: 0
"""

DAGSTER = """
telemetry: {enabled: false}
nux: {enabled: false}
run_queue: {dequeue_interval_seconds: 1}
run_launcher: {module: mm_assets.orchestration.launcher, class: WarmRunLauncher}
concurrency:
  runs: {max_concurrent_runs: 2}
  pools: {granularity: op, default_limit: 1}
run_monitoring:
  {enabled: true, start_timeout_seconds: 20, max_runtime_seconds: 300, poll_interval_seconds: 3,
   free_slots_after_run_end_seconds: 1}
run_retries: {enabled: true, max_retries: 2}
"""


# -- what people send -----------------------------------------------------------------------------


def make_waves(seed: int) -> list[list[Upload]]:
    """Uploads in waves: labelled ones, then unlabelled ones in every shape, then more labels."""
    from tests.make import csv_table, draw_image

    rng = random.Random(seed)

    def rows(numbers: range, labelled: bool) -> bytes:
        header = ["id", "age", "label"] if labelled else ["id", "age"]
        lines = []
        for n in numbers:
            kind = ("cat", "dog")[n % 2]
            age = f"{rng.gauss(2 if kind == 'cat' else 5, 1):.3f}"
            lines.append([f"r{n:04d}", age, kind] if labelled else [f"r{n:04d}", age])
        return csv_table(header, lines)

    def images(numbers: range) -> dict[str, bytes]:
        return {f"r{n:04d}.png": draw_image(n) for n in numbers}

    labelled = [("labelled.zip", {"t.csv": rows(range(60), True), **images(range(45))})]
    second: list[Upload] = []
    for part in range(PARTS):
        numbers = range(1000 + 20 * part, 1020 + 20 * part)
        second.append((f"rows{part}.zip", {"t.csv": rows(numbers, False)}))
        late = {**images(numbers[:12]), "broken.png": draw_image(3)[:40]}
        second.append((f"images{part}", late))
        both = {"t.csv": rows(numbers[10:], False), **images(numbers[15:])}
        second.append((f"again{part}.zip", both))
    second.append(("evil.zip", {"../evil.csv": b"x"}))
    second.append(("again0-resent.zip", second[2][1]))
    third = [("more-labels.zip", {"t.csv": rows(range(60, 90), True), **images(range(60, 75))})]
    return [labelled, second, third]


def make_mistakes(seed: int) -> list[Upload]:
    """Uploads that are withdrawn: of records of the second wave they say something else, last."""
    from tests.make import csv_table, draw_image

    rng = random.Random(-1 - seed)

    def mistake(numbers: range, more: int) -> dict[str, bytes]:
        rows = [[f"r{n:04d}", f"{rng.gauss(9, 1):.3f}"] for n in (*numbers, 1900 + more)]
        images = {f"r{n:04d}.png": draw_image(n + 7) for n in numbers[4:]}
        return {"t.csv": csv_table(["id", "age"], rows), **images}

    first, second = mistake(range(1000, 1016), 0), mistake(range(1006, 1020), 1)
    return [("mistake.zip", first), ("another-mistake", second)]


# -- a project of its own -------------------------------------------------------------------------


@dataclass
class Project:
    """A folder with a dataset and a Dagster home; lake and table in it, or on servers.

    more: environment variables besides.
    """

    root: Path
    servers: Servers | None = None
    more: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True)
        self.file = self.root / "defs" / DATASET / "defs.yaml"
        self.file.parent.mkdir(parents=True)
        self.file.write_text(YAML)
        (self.root / "dagster.yaml").write_text(DAGSTER)  # of the project: prepare_home takes it
        home = self.root / "dagster"
        home.mkdir()
        (home / "dagster.yaml").write_text(DAGSTER)
        self.name = f"kill-{uuid.uuid4().hex[:12]}"
        self.place = self.servers.make(self.name) if self.servers else {}

    @property
    def environment(self) -> dict[str, str]:
        """Of a process that works on the project: nothing of it comes from this process."""
        own = ("MM_", "AWS_", "DAGSTER_")
        return {
            **{k: v for k, v in os.environ.items() if not k.startswith(own)},
            **(self.servers.environment if self.servers else {}), **self.place,
            "MM_ROOT": str(self.root), "MM_DATA": str(self.root),
            "DAGSTER_HOME": str(self.root / "dagster"), "PYTHONPATH": str(REPOSITORY),
            "PYTHONWARNINGS": "ignore", **self.more,
        }  # fmt: skip

    def enter(self) -> Settings:
        """Make this process work on the project; returns its settings."""
        from mm_assets.contract.settings import Settings

        environment = self.environment
        os.environ.clear()
        os.environ.update(environment)
        return Settings.from_environment()

    def drop(self, wave: int, uploads: list[Upload], *, after: int = 0) -> None:
        """Put the uploads into the inbox, each with a moment of its own as its time of arrival.

        after: how many others of the wave come before them.
        """
        from tests.make import announcement, zipped

        for number, (name, files) in enumerate(uploads, after):
            moment = START + 1000 * wave + number
            if name.endswith(".zip"):
                self._put(name, zipped(files), moment)
                continue
            for file, data in files.items():
                self._put(f"{name}/{file}", data, moment)
            self._put(f"{name}/upload.json", json.dumps(announcement(files)).encode(), moment)

    def _put(self, name: str, data: bytes, moment: int) -> None:
        """A file of the inbox, whole from the first moment."""
        if self.servers:
            self.servers.put(self.name, f"inbox/{DATASET}/{name}", data, moment)
            return
        inbox = self.root / "lake" / "inbox"
        file = inbox / DATASET / name
        file.parent.mkdir(parents=True, exist_ok=True)
        hidden = inbox / f".{file.name}"
        hidden.write_bytes(data)
        os.utime(hidden, (moment, moment))
        hidden.rename(file)

    def end_state(self) -> dict[str, Any]:
        """All that must be the same after any crash, whatever happened on the way.

        Of uploads that were withdrawn nothing may be seen outside of their own documents.
        """
        from mm_assets.contract.dataset import Modality
        from mm_assets.contract.spec_file import load_spec
        from mm_assets.lake.lake import Lake
        from mm_assets.predictions.receipt import build_receipt
        from mm_assets.registry.store import ModelStore
        from mm_assets.tables.open import open_store
        from mm_assets.uploads import ledger
        from mm_assets.uploads.find import read_source
        from mm_assets.uploads.withdrawals import withdrawn_uploads

        settings = self.enter()
        lake, store = Lake(settings), open_store(settings)
        spec = load_spec(self.file)
        withdrawn = withdrawn_uploads(lake, DATASET)
        uploads = [one for one in ledger.known_uploads(lake, DATASET) if one not in withdrawn]
        # What is withdrawn before it is received stays in the inbox.
        of_withdrawn = [read_source(lake, DATASET, one).key for one in withdrawn]
        models = ModelStore(lake, DATASET)
        rows = store.read(DATASET).to_pylist()
        of_a_run = {"run_id", "predicted_at", "model_version"}
        champions = {}
        for modality in Modality:
            champion = models.champion(modality)
            assert champion is not None
            files = models.manifest(modality, champion.version)["files"]
            champions[modality] = {name: facts["sha256"] for name, facts in files.items()}
        state: dict[str, Any] = {
            "records": Counter(row["record_id"] for row in rows),
            "rows": {
                row["record_id"]: {k: v for k, v in row.items() if k not in of_a_run}
                for row in rows
            },
            "newest champion everywhere": all(
                row["model_version"] == models.champion(row["modality"]).version for row in rows
            ),
            "champions": champions,
            "receipts": {},
            "pending": ledger.pending_uploads(lake, DATASET),
            "set aside": ledger.set_aside_uploads(lake, DATASET),
            "inbox": [
                item.key
                for item in lake.list(f"inbox/{DATASET}/")
                if not item.key.startswith(tuple(of_withdrawn))
            ],
            "received": {
                item.key: hashlib.sha256(lake.read(item.key)).hexdigest()
                for item in lake.list(f"received/{DATASET}/")
                if not withdrawn & {*item.key.split("/")}
            },
        }
        for upload in uploads:
            receipt = build_receipt(lake, store, spec, upload)
            state["receipts"][upload] = {k: v for k, v in receipt.items() if k != "run_id"}
        return _by_number(state, uploads)


def _by_number(state: dict[str, Any], uploads: list[str]) -> dict[str, Any]:
    """With the uploads' numbers in place of their keys, which a folder and S3 make of their own
    ETags."""
    text = json.dumps(state, sort_keys=True)
    for number, upload in enumerate(uploads):
        text = text.replace(upload, f"upload {number}")
    numbered: dict[str, Any] = json.loads(text)
    return numbered


def differences(quiet: dict[str, Any], killed: dict[str, Any]) -> dict[str, int]:
    """Records lost, duplicated and different, and other parts of the end that differ."""
    expected, found = quiet["rows"], killed["rows"]
    rest = [name for name in quiet if name not in ("rows", "records")]
    return {
        "lost": len(expected.keys() - found.keys()),
        "duplicated": sum(n - 1 for n in killed["records"].values()),
        "different": sum(found[i] != expected[i] for i in expected.keys() & found.keys())
        + len(found.keys() - expected.keys()),
        **{name: int(quiet[name] != killed[name]) for name in rest},
    }


@contextmanager
def process_as_before() -> Iterator[None]:
    """Afterwards nothing of a project that took this process over (`Project.enter`) is left."""
    from mm_assets.lake import moves
    from mm_assets.queues import sqs
    from mm_assets.tables.dynamodb import requests

    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        sqs.client.cache_clear()
        requests._clients.clear()
        moves._conditional.clear()


def run_quietly(
    project: Project, waves: list[list[Upload]], trained: Container[int] = (0, 2)
) -> dict[str, Any]:
    """The uploads, one after another in one process, with nothing going wrong.

    trained: the waves after which models are trained.
    """
    from mm_assets.contract.spec_file import load_spec
    from mm_assets.orchestration.run import Runner, open_instance

    settings = project.enter()
    spec = load_spec(project.file)
    with open_instance(settings) as instance:
        runner = Runner(spec, instance, lambda _: None)
        for wave, uploads in enumerate(waves):
            project.drop(wave, uploads)
            outcomes = [*runner.sync(), *(runner.train() if wave in trained else ())]
            problems = [o.problem for o in outcomes if not o.success]
            assert not problems, problems
    return project.end_state()


def has_run(project: Project) -> bool:
    """Whether a process has a run now."""
    import dagster as dg

    from mm_assets.orchestration.triggers.runs import BEGUN

    under_way = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTING, *BEGUN])
    with dg.DagsterInstance.from_config(str(project.root / "dagster")) as instance:
        return bool(instance.get_run_records(under_way, limit=1))


def is_quiet(project: Project, wave: int, expected: int) -> bool:
    """Whether everything that came is through, and nothing is under way or will be requested."""
    import dagster as dg

    from mm_assets.lake.lake import Lake
    from mm_assets.lake.layout import of_dataset
    from mm_assets.orchestration.triggers.decide import is_through
    from mm_assets.orchestration.triggers.runs import (
        IN_PROGRESS,
        failed_predictions,
        tries_since_success,
    )
    from mm_assets.registry.pins import generations, pin_text
    from mm_assets.registry.store import ModelStore
    from mm_assets.uploads import ledger

    settings = project.enter()
    lake = Lake(settings)
    if len(ledger.known_uploads(lake, DATASET)) < expected or ledger.pending_uploads(lake, DATASET):
        return False
    training_set = lake.read_json(of_dataset(DATASET, "training_set"))
    if training_set is None or training_set["labelled"] < (60, 60, 90)[wave]:
        return False
    from mm_assets.contract.spec_file import load_spec
    from mm_assets.orchestration.scope import Scope

    scope = Scope(load_spec(project.file))
    wanted = pin_text(generations(ModelStore(lake, DATASET)))
    with dg.DagsterInstance.from_config(str(project.root / "dagster")) as instance:
        if instance.get_run_records(dg.RunsFilter(statuses=IN_PROGRESS), limit=1):
            return False
        if tries_since_success(instance, f"{DATASET}_train"):
            return False
        if failed_predictions(instance, scope, wanted, 50):
            return False
        sensors = {state.instigator_name: state for state in instance.all_instigator_state()}
        repredict = sensors.get(f"{DATASET}_repredict")
        data = repredict.instigator_data if repredict else None
        return is_through(data.cursor if data else None, wanted)
