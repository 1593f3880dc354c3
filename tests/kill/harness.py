"""Kill the whole flow at random moments, restart it, and compare the end with a quiet run.

    python -m tests.kill.harness --kills 1000 --seed 7

Uploads come in waves, with labels, without, split over several uploads, broken and sent twice;
two models are trained, promoted and trained again. The daemon, its code server and the workers of
the runs are killed with SIGKILL, one or all at once, and the daemon is started again. When nothing
is left to do, the table, the champions, the receipts and the lake must be what an undisturbed run
in one process made of the same uploads.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

REPOSITORY = Path(__file__).parents[2]
START = 1_790_000_000  # the moment when the first upload arrives
PARTS = 2 if os.environ.get("MM_NIGHTLY") == "1" else 1  # three uploads each in the second wave
KINDS = ["worker"] * 6 + ["code server", "daemon", "everything"]
TRIED_IN_VAIN = 600  # seconds in which nothing got quiet

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

CODE = """
import os
from pathlib import Path
import dagster as dg
from mm_assets.contract.spec_file import load_spec
from mm_assets.orchestration.component import dataset_definitions, resources

spec = load_spec(Path(os.environ["MM_ROOT"]) / "kill.yaml")
defs = dg.Definitions.merge(
    dataset_definitions(spec),
    dg.Definitions(resources=resources(), executor=dg.in_process_executor),
)
"""

DAGSTER = """
telemetry: {enabled: false}
nux: {enabled: false}
run_queue: {dequeue_interval_seconds: 1}
concurrency:
  runs: {max_concurrent_runs: 2}
  pools: {granularity: op, default_limit: 1}
run_monitoring:
  {enabled: true, start_timeout_seconds: 40, max_runtime_seconds: 300, poll_interval_seconds: 3,
   free_slots_after_run_end_seconds: 1}
run_retries: {enabled: true, max_retries: 2}
"""


# -- what people send -----------------------------------------------------------------------------


def make_waves(seed: int) -> list[list[tuple[str, dict[str, bytes]]]]:
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
    second: list[tuple[str, dict[str, bytes]]] = []
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


def drop(lake_folder: Path, wave: int, uploads: list[tuple[str, dict[str, bytes]]]) -> None:
    """Put the uploads into the inbox, each with a moment of its own as its time of arrival."""
    from tests.make import announcement, zipped

    inbox = lake_folder / "inbox" / "kill"
    inbox.mkdir(parents=True, exist_ok=True)
    for number, (name, files) in enumerate(uploads):
        moment = START + 1000 * wave + number
        if name.endswith(".zip"):
            hidden = inbox.parent / f".{name}"
            hidden.write_bytes(zipped(files))
            os.utime(hidden, (moment, moment))
            hidden.rename(inbox / name)
            continue
        folder = inbox / name
        folder.mkdir()
        for file, data in files.items():
            (folder / file).write_bytes(data)
            os.utime(folder / file, (moment, moment))
        hidden = inbox.parent / f".{name}.json"
        hidden.write_text(json.dumps(announcement(files)))
        os.utime(hidden, (moment, moment))
        hidden.rename(folder / "upload.json")


# -- a project of its own -------------------------------------------------------------------------


@dataclass
class Project:
    """A folder with a lake, a table and a Dagster home."""

    root: Path
    table: str = ""

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True)
        (self.root / "kill.yaml").write_text(YAML)
        (self.root / "kill_location.py").write_text(CODE)
        home = self.root / "dagster"
        home.mkdir()
        (home / "dagster.yaml").write_text(DAGSTER)

    @property
    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("MM_")}
        return {
            **kept, "MM_ROOT": str(self.root), "MM_DATA": str(self.root), "MM_TABLE": self.table,
            "DAGSTER_HOME": str(self.root / "dagster"), "PYTHONPATH": str(REPOSITORY),
            "PYTHONWARNINGS": "ignore",
        }  # fmt: skip

    def enter(self) -> Any:
        """Make this process work on the project; returns its settings."""
        from mm_assets.contract.settings import Settings

        for name in [name for name in os.environ if name.startswith("MM_")]:
            del os.environ[name]
        os.environ.update(self.environment)
        return Settings.from_environment()

    def end_state(self) -> dict[str, Any]:
        """All that must be the same after any crash, whatever happened on the way."""
        from mm_assets.contract.dataset import Modality
        from mm_assets.contract.spec_file import load_spec
        from mm_assets.lake.lake import Lake
        from mm_assets.predictions.receipt import build_receipt
        from mm_assets.registry.store import ModelStore
        from mm_assets.tables.open import open_store
        from mm_assets.uploads import ledger

        settings = self.enter()
        lake, store = Lake(settings), open_store(settings)
        spec = load_spec(self.root / "kill.yaml")
        models = ModelStore(lake, "kill")
        rows = store.read("kill").to_pylist()
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
            "pending": ledger.pending_uploads(lake, "kill"),
            "set aside": ledger.set_aside_uploads(lake, "kill"),
            "inbox": [item.key for item in lake.list("inbox/kill/")],
            "received": {
                item.key: hashlib.sha256(lake.read(item.key)).hexdigest()
                for item in lake.list("received/kill/")
            },
        }
        for upload in ledger.known_uploads(lake, "kill"):
            receipt = build_receipt(lake, store, spec, upload)
            state["receipts"][upload] = {k: v for k, v in receipt.items() if k != "run_id"}
        return state


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


def run_quietly(root: Path, seed: int) -> dict[str, Any]:
    """The same uploads, one after another in one process, with nothing going wrong."""
    from mm_assets.contract.spec_file import load_spec
    from mm_assets.orchestration.run import Runner, open_instance

    project = Project(root)
    settings = project.enter()
    spec = load_spec(root / "kill.yaml")
    with open_instance(settings) as instance:
        runner = Runner(spec, instance, lambda _: None)
        for wave, uploads in enumerate(make_waves(seed)):
            drop(settings.lake_folder, wave, uploads)
            outcomes = [*runner.sync(), *(runner.train() if wave != 1 else ())]
            problems = [o.problem for o in outcomes if not o.success]
            assert not problems, problems
    return project.end_state()


# -- the killing ----------------------------------------------------------------------------------


@dataclass
class Victim:
    """The daemon and whatever it started, in a session of their own."""

    project: Project
    rng: random.Random
    kills: Counter[str] = field(default_factory=Counter)
    next_kinds: list[str] = field(default_factory=list)
    sessions: list[int] = field(default_factory=list)

    def start(self) -> None:
        command = [sys.executable, "-m", "dagster._daemon", "run", "-f", "kill_location.py"]
        with (self.project.root / "daemon.log").open("ab") as log:
            self.daemon = subprocess.Popen(
                command, cwd=self.project.root, env=self.project.environment,
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self.sessions.append(self.daemon.pid)

    def processes(self) -> dict[str, list[psutil.Process]]:
        """What there is to kill: the daemon, its code servers, the workers of runs."""
        found: dict[str, list[psutil.Process]] = {"daemon": [], "code server": [], "worker": []}
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) not in self.sessions:
                    continue
                words = " ".join(process.cmdline())
                if process.pid == self.daemon.pid:
                    found["daemon"].append(process)
                elif "spawn_main" in words:
                    found["worker"].append(process)
                elif "grpc" in words or "code-server" in words:
                    found["code server"].append(process)
            except (psutil.Error, ProcessLookupError):
                continue
        return found

    def kill_one(self) -> None:
        """Kill something that is there: of nine kills six workers, and each other kind once."""
        there = self.processes()
        whole = {**there, "everything": [process for some in there.values() for process in some]}
        if not any(whole[kind] for kind in self.next_kinds):
            self.next_kinds += self.rng.sample(KINDS, len(KINDS))
        kind = next((kind for kind in self.next_kinds if whole[kind]), "")
        if not kind:
            return
        self.next_kinds.remove(kind)
        chosen = whole[kind] if kind == "everything" else [self.rng.choice(whole[kind])]
        for process in chosen:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.kills[kind] += 1
        if self.daemon.poll() is not None or kind in ("daemon", "everything"):
            self.daemon.wait()
            self.start()

    def end(self) -> None:
        for session in self.sessions:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(session, signal.SIGKILL)
        self.daemon.wait()


def run_under_fire(
    root: Path, seed: int, kills: int, say: Callable[[str], None], table: str = ""
) -> tuple[dict[str, Any], Counter[str]]:
    """Drop the waves one after another while things are killed; returns the end, and the kills."""
    project = Project(root, table)
    settings = project.enter()
    waves = make_waves(seed)
    victim = Victim(project, random.Random(seed))
    victim.start()
    try:
        for wave, uploads in enumerate(waves):
            drop(settings.lake_folder, wave, uploads)
            share = kills * (wave + 1) // len(waves)
            began = time.monotonic()
            while sum(victim.kills.values()) < share:
                _pause_until_busy(victim)
                victim.kill_one()
                say(f"wave {wave + 1}: {sum(victim.kills.values())} kills {dict(victim.kills)}")
            expected = sum(len(uploads) for uploads in waves[: wave + 1])
            while not is_quiet(project, wave, expected):
                if time.monotonic() - began > TRIED_IN_VAIN + 10 * share:
                    raise TimeoutError(f"wave {wave + 1} did not get quiet; see {root}/daemon.log")
                time.sleep(1)
            say(f"wave {wave + 1} is quiet after {time.monotonic() - began:.0f} s")
    finally:
        victim.end()
    return project.end_state(), victim.kills


def _pause_until_busy(victim: Victim) -> None:
    """Wait for the worker of a run, then for a random moment of its life."""
    deadline = time.monotonic() + 10
    while not victim.processes()["worker"] and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(victim.rng.uniform(0, 5))


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
    if len(ledger.known_uploads(lake, "kill")) < expected or ledger.pending_uploads(lake, "kill"):
        return False
    training_set = lake.read_json(of_dataset("kill", "training_set"))
    if training_set is None or training_set["labelled"] < (60, 60, 90)[wave]:
        return False
    from mm_assets.contract.spec_file import load_spec
    from mm_assets.orchestration.scope import Scope

    scope = Scope(load_spec(project.root / "kill.yaml"))
    wanted = pin_text(generations(ModelStore(lake, "kill")))
    with dg.DagsterInstance.from_config(str(project.root / "dagster")) as instance:
        if instance.get_run_records(dg.RunsFilter(statuses=IN_PROGRESS), limit=1):
            return False
        if tries_since_success(instance, "kill_train"):
            return False
        if failed_predictions(instance, scope, wanted, 50):
            return False
        sensors = {state.instigator_name: state for state in instance.all_instigator_state()}
        repredict = sensors.get("kill_repredict")
        data = repredict.instigator_data if repredict else None
        return is_through(data.cursor if data else None, wanted)


def say(words: str) -> None:
    print(words, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="keep everything here")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="mm-kill-"))
    began = time.monotonic()
    quiet = run_quietly(folder / "quiet", arguments.seed)
    killed, kills = run_under_fire(folder / "killed", arguments.seed, arguments.kills, say)
    found = differences(quiet, killed)
    print(f"{sum(kills.values())} kills {dict(kills)} in {time.monotonic() - began:.0f} s: {found}")
    if any(found.values()):
        print(f"Look into {folder}")
        sys.exit(1)
    if arguments.folder is None:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
