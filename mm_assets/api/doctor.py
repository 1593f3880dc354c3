"""`mm doctor`: what can be reached, what is misconfigured, and what to do about it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.engine_spec import EngineSpec
from mm_assets.contract.errors import MMError
from mm_assets.contract.facts import Fact
from mm_assets.contract.settings import Settings
from mm_assets.contract.spec_file import read_specs

if TYPE_CHECKING:
    from mm_assets.queues.sqs import Queue

DISK_NEEDED = 2 << 30  # bytes, for models and temporary files


def examine() -> list[Fact]:
    """Look at everything the pipeline needs; never raises for what it finds."""
    try:
        settings = Settings.from_environment()
    except MMError as error:
        return [_of_error("settings", error)]
    findings = [
        Fact("project", True, str(settings.root)),
        _packages(),
        _try("lake", lambda: _lake(settings)),
        _try("moving", lambda: _moving(settings)),
        _try("table", lambda: _table(settings)),
        *([_try("events", lambda: _events(settings))] if settings.events else []),
        *([_try("work", lambda: _work(settings))] if settings.work else []),
        *([_try("results", lambda: _results(settings))] if settings.results else []),
        *([_try("compute", lambda: _compute(settings))] if settings.compute == "ray" else []),
        _try("Dagster home", lambda: _home(settings)),
        _disk(settings),
    ]
    specs, faults = read_specs(settings.defs_folder)
    findings += [_of_error("datasets", fault) for fault in faults]
    if not specs and not faults:
        todo = "Draft one with `mm init`, or run this in the project's folder."
        return [*findings, Fact("datasets", False, f"none in {settings.defs_folder}", todo)]
    for spec in specs.values():
        findings += _dataset(settings, spec)
    return findings


def _try(what: str, look: Callable[[], Fact]) -> Fact:
    try:
        return look()
    except MMError as error:
        return _of_error(what, error)
    except OSError as error:
        todo = "Check the path and its permissions."
        return Fact(what, False, f"{error.strerror}: {error.filename}", todo)


def _of_error(what: str, error: MMError) -> Fact:
    where = f" ({error.where})" if error.where else ""
    found = "; ".join(line.strip() for line in error.what.splitlines()).replace(":; ", ": ")
    return Fact(what, False, f"[{error.code}] {found}{where}", error.todo)


def _packages() -> Fact:
    names = ("dagster", "autogluon.multimodal", "torch", "torchvision", "duckdb", "pillow")
    try:
        found = ", ".join(f"{name} {metadata.version(name)}" for name in names)
    except metadata.PackageNotFoundError as error:
        todo = "Run `pip install mm-assets`, or `make setup` in a checkout."
        return Fact("packages", False, f"{error.name} is missing", todo)
    return Fact("packages", True, found)


def _lake(settings: Settings) -> Fact:
    """Write, read, list and delete one small object."""
    from mm_assets.lake.lake import Lake

    lake = Lake(settings)
    key = f"doctor/{uuid.uuid4().hex}.json"
    lake.write_json(key, {"hello": "world"})
    read_back = lake.read_json(key) == {"hello": "world"}
    listed = [item.key for item in lake.list("doctor/")]
    lake.delete(key)
    if not read_back or key not in listed:
        return Fact("lake", False, f"{lake.url} does not give back what was written",
                       "Check that this store is consistent after a write.")  # fmt: skip
    endpoint = f" through {settings.aws_endpoint_url}" if settings.aws_endpoint_url else ""
    return Fact("lake", True, f"{lake.url}{endpoint}: write, read, list and delete work")


def _moving(settings: Settings) -> Fact:
    """Whether received uploads can be moved out of the inbox."""
    from mm_assets.lake.lake import Lake

    if Lake(settings).can_move:
        return Fact("moving", True, "received uploads are moved out of the inbox")
    found = "received uploads stay in the inbox: this store cannot delete on a condition (If-Match)"
    todo = "Nothing must be done. A store that can keeps the inbox short, and so each look at it."
    return Fact("moving", True, found, todo)


def _events(settings: Settings) -> Fact:
    from mm_assets.orchestration.triggers.events import events_queue

    return _queue("events", events_queue(settings))


def _work(settings: Settings) -> Fact:
    from mm_assets.orchestration.triggers.events import work_queue

    return _queue("work", work_queue(settings))


def _queue(what: str, queue: Queue) -> Fact:
    """A queue that is read: reachable, and with a place for messages that cannot be handled."""
    from mm_assets.queues.sqs import VISIBILITY_SECONDS

    facts = queue.attributes()
    words = (
        f"{queue.url} answers: {facts['ApproximateNumberOfMessages']} messages; one that "
        f"is not handled comes again after {VISIBILITY_SECONDS} s"
    )
    redrive = queue.redrive()
    if redrive is None:
        return Fact(what, False, f"{words}; it has no redrive policy",
                       "Messages that can't be handled would circle until they expire: give the "
                       "queue a redrive policy.")  # fmt: skip
    target, receipts = redrive
    return Fact(what, True, f"{words}; after {receipts} times it goes to {target}")


def _results(settings: Settings) -> Fact:
    """Who is told of changed predictions: reachable; nothing is sent."""
    from mm_assets.queues.targets import open_target

    words = open_target(settings).look()
    return Fact("results", True, f"{words}; it is told of: {settings.results_send}")


def _compute(settings: Settings) -> Fact:
    from mm_assets.compute import look

    return Fact("compute", True, look(settings))


def _table(settings: Settings) -> Fact:
    """The first thing that is wrong with the table, or that it answers."""
    from mm_assets.tables.open import inspect_table, reach_table

    for fact in inspect_table(settings):
        if not fact.good:
            found = f"{settings.table}: {fact.what}: {fact.found}"
            return Fact("table", False, found, fact.todo)
    reach_table(settings)
    return Fact("table", True, f"{settings.table} answers")


def _home(settings: Settings) -> Fact:
    """DAGSTER_HOME, and what keeps Dagster's history where that is a server."""
    from mm_assets.orchestration.history import opened
    from mm_assets.orchestration.home import prepare_home, speaking_of_home, storage_of

    home = prepare_home(settings)
    if not os.access(home, os.W_OK):
        return Fact("Dagster home", False, f"{home} cannot be written", "Check permissions.")
    kind = storage_of(home)
    if kind == "SQLite":
        return Fact("Dagster home", True, str(home))
    with speaking_of_home(home), opened(home) as instance:
        instance.get_runs_count()
    return Fact("Dagster home", True, f"{home}; Dagster's history is in {kind}, which answers")


def _disk(settings: Settings) -> Fact:
    free = shutil.disk_usage(settings.root).free
    words = f"{free / (1 << 30):.0f} GiB free"
    todo = "" if free > DISK_NEEDED else "Free some space: models and uploads pass through here."
    return Fact("disk", free > DISK_NEEDED, words, todo)


def _dataset(settings: Settings, spec: DatasetSpec) -> Iterator[Fact]:
    from mm_assets.lake.lake import Lake
    from mm_assets.registry.store import ModelStore

    yield Fact(f"dataset {spec.dataset}", True, f"{len(spec.columns)} columns, good YAML")
    yield _engines(settings, spec)
    for modality in spec.modalities:
        yield _backbones(settings, spec, modality)
        what = f"{spec.dataset} champion {modality}"

        def champion(modality: Modality = modality, what: str = what) -> Fact:
            models = ModelStore(Lake(settings), spec.dataset)
            found = models.champion(modality)
            if found is None:
                return Fact(what, True, "none yet; `mm train` makes one")
            models.fetch(modality, found.version, manifest_sha256=found.manifest_sha256)
            return Fact(what, True, f"{found.version}, every file verified")

        yield _try(what, champion)


def _engines(settings: Settings, spec: DatasetSpec) -> Fact:
    """Whether the packages are there that the dataset's engines, tuning and tracking need."""
    what = f"{spec.dataset} engines"
    chosen = [one for modality in spec.modalities for one in spec.candidates(modality)]
    needed = {"gradient-boosting": "xgboost"} if _named(chosen, "gradient_boosting") else {}
    needed |= {"tuning": "optuna"} if any(one.tuning for one in chosen) else {}
    needed |= {"tracking": "mlflow"} if settings.mlflow_tracking_uri else {}
    for extra, package in needed.items():
        if importlib.util.find_spec(package) is None:
            todo = f'Install it: pip install "mm-assets[{extra}]"'
            return Fact(what, False, f"the package {package} is missing", todo)
    return Fact(what, True, ", ".join(sorted({one.engine for one in chosen})))


def _named(chosen: list[EngineSpec], engine: str) -> bool:
    return any(one.engine == engine for one in chosen)


def _backbones(settings: Settings, spec: DatasetSpec, modality: Modality) -> Fact:
    """Local folders must be there; names need a hub that may be asked."""
    what = f"{spec.dataset} backbones {modality}"
    named, installed = [], True
    for engine in spec.candidates(modality):
        named += [name for name in (engine.image_backbone, engine.text_backbone) if name]
        installed &= engine.preset in ("embedded", "from_scratch")
    if installed and not named:
        return Fact(what, True, "none are needed")
    from mm_assets.engines.shared.backbones import EMBEDDED, embedded_weights

    if EMBEDDED in named:
        try:
            embedded_weights()
        except MMError as error:
            return Fact(what, False, error.what, error.todo)
    for name in named:
        looks_local = name.startswith((".", "/", "~"))
        if looks_local and not Path(settings.root, name).expanduser().is_dir():
            return Fact(what, False, f"the folder {name} is not there", "Correct the path.")
    local = [n for n in named if Path(settings.root, n).expanduser().is_dir()]
    remote = [n for n in named if n != EMBEDDED and n not in local]
    if not named or remote:
        offline = os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0")
        if offline or not _hub_answers():
            todo = "Name local folders as backbones, or use `preset: embedded`."
            return Fact(what, False, f"the model hub cannot be asked for {remote or 'defaults'}",
                           todo)  # fmt: skip
    return Fact(what, True, ", ".join(named) or "the preset's own, from the hub")


def _hub_answers() -> bool:
    if importlib.util.find_spec("huggingface_hub") is None:
        return False
    import socket
    from urllib.parse import urlparse

    from huggingface_hub import constants

    host = urlparse(constants.ENDPOINT).hostname or ""
    try:
        with socket.create_connection((host, 443), timeout=5):
            return True
    except OSError:
        return False
