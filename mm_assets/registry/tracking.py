"""Tracking: MLflow is told of each training, where the environment names a tracking URI.

An experiment `<dataset>/<modality>`, a run for each engine that competed, and a version of the
registered model `<dataset>-<modality>` for each promotion; its alias `champion` is the one that
predicts. MLflow is only told: the lake holds the models, and nothing here is ever read back. The
best engine's model lies beside its run as `mlflow.pyfunc.load_model` loads it (mlflow_model.py).
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mm_assets.contract.errors import LakeError, ModelError
from mm_assets.contract.packages import optional
from mm_assets.lake.local import working_folder

if TYPE_CHECKING:
    import pyarrow as pa
    from mlflow import MlflowClient
    from mlflow.entities import Run

CHAMPION = "champion"  # the alias of the promoted version
MODEL = "model"  # the folder of the model's files among a run's artefacts
FINISHED = "FINISHED"
LONGEST_NAME, LONGEST_VALUE, LONGEST_TAG = 250, 6000, 5000  # what MLflow takes
MOST_AT_ONCE = 100  # of MLflow's limits for one request the lowest one: parameters
NAME, LETTERS = "MLFLOW_TRACKING_URI", r"[^\w.\- ]"

# MLflow reports on its users and talks a lot unless it is told not to.
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_UV_AUTO_DETECT": "false",  # would copy the project's own files into a model
}
# By itself it tries a server that is down for minutes. Its own variables, where set, are obeyed.
_RETRIES, _TIMEOUT = "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"
_SQLITE = b"SQLite format 3\0"  # how each such file begins
_FIRST_CALL = {_RETRIES: "1", _TIMEOUT: "10"}
_LATER_CALLS = {_RETRIES: "2", _TIMEOUT: "120"}  # a server may store large files while we wait


@dataclass(frozen=True)
class Tracked:
    """Where a training stands in MLflow. `url`: of its page, or of the store if it has no pages."""

    run_id: str
    url: str
    registered_version: str | None


def track_training(
    uri: str,
    *,
    dataset: str,
    modality: str,
    version: str,
    run_id: str,
    candidate: str,
    parameters: Mapping[str, Any],
    metrics: Mapping[str, float],
    baseline: Mapping[str, float],
    tags: Mapping[str, str],
    artefacts: Mapping[str, bytes],
    folder: Path | None,
    trials: pa.Table | None,
    promoted: bool,
) -> Tracked:
    """Tell MLflow of one trained engine; telling it again adds nothing, also after a crash.

    uri: http(s)://… of a server, or sqlite:///path/mlflow.db, which keeps artefacts beside it.
    version, candidate: what a run is known by; run_id: Dagster's. artefacts: name to PNG.
    folder: a model of MLflow's. Only what is promoted, and has a folder, is registered.
    Raises ModelError: package_missing, tracking_failed.
    """
    with quiet_mlflow(NAME), _speaking(uri):
        with _environment(_FIRST_CALL):
            client, experiment = _opened(uri, f"{dataset}/{modality}")
        with _environment(_LATER_CALLS):
            told = {
                "version": version, "candidate": candidate, "dataset": dataset,
                "modality": modality, "run_id": run_id, "promoted": str(promoted).lower(),
                **tags,
            }  # fmt: skip
            run = _run(client, experiment, told)
            name = f"{dataset}-{modality}"
            if run.info.status != FINISHED:
                _tell_figures(client, run, parameters, metrics, baseline, trials)
                _tell_files(client, run, artefacts, folder, trials)
                if promoted and folder is not None:
                    _register(client, run, name, version)
                client.set_terminated(run.info.run_id)
            return Tracked(
                run_id=run.info.run_id,
                url=_url(uri, experiment, run.info.run_id),
                registered_version=_registered(client, run, name),
            )


def track_promotion(uri: str, *, dataset: str, modality: str, version: str) -> bool:
    """Move the alias `champion` to a model that was promoted by hand; registers it if it was not.

    Returns False if MLflow was never told of its training. Raises ModelError: package_missing,
    tracking_failed.
    """
    with quiet_mlflow(NAME), _speaking(uri):
        with _environment(_FIRST_CALL):
            client, experiment = _opened(uri, f"{dataset}/{modality}")
        with _environment(_LATER_CALLS):
            for run in client.search_runs([experiment], f"tags.`mm.version` = '{version}'"):
                if _has_model(client, run):
                    _register(client, run, f"{dataset}-{modality}", version)
                    return True
    return False


def _has_model(client: MlflowClient, run: Run) -> bool:
    """Whether the model's files are among the run's artefacts: only the best candidate's are."""
    return any(one.path == MODEL for one in client.list_artifacts(run.info.run_id))


# -- the run --------------------------------------------------------------------------------------


def _opened(uri: str, name: str) -> tuple[MlflowClient, str]:
    """A client, and the ID of the experiment, which is made if there is none."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    beside = _beside(uri)
    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(name)
    if found is None:
        with suppress(MlflowException):  # another process made it at this moment
            return client, client.create_experiment(name, artifact_location=beside)
        found = client.get_experiment_by_name(name)
    if found is None or found.lifecycle_stage != "active":
        raise MlflowException(f"the experiment {name} was deleted; restore it")
    return client, found.experiment_id


def _beside(uri: str) -> str | None:
    """Where an SQLite store keeps files. A server decides that itself: None."""
    if not uri.startswith("sqlite"):
        return None
    from sqlalchemy.engine import make_url

    file = Path(make_url(uri).database or "").resolve()
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.is_file():
        _refuse_no_database(file)
    return (file.parent / "mlartifacts").as_uri()


def _refuse_no_database(file: Path) -> None:
    """MLflow itself would try for minutes to open what is no database."""
    from mlflow.exceptions import MlflowException

    with file.open("rb") as read:
        begins = read.read(len(_SQLITE))
    if begins and begins != _SQLITE:
        raise MlflowException(f"{file} is no SQLite database")


def _run(client: MlflowClient, experiment: str, told: Mapping[str, str]) -> Run:
    """The run of this candidate of this version, perhaps one that was cut off."""
    search = f"tags.`mm.version` = '{told['version']}'"
    for run in client.search_runs([experiment], search):
        if run.data.tags.get("mm.candidate") == told["candidate"]:
            return run
    return client.create_run(
        experiment,
        run_name=f"{told['candidate']} {told['version']}",
        tags={f"mm.{_name(name)}": _cut(value, LONGEST_TAG) for name, value in told.items()},
    )


def _tell_figures(
    client: MlflowClient,
    run: Run,
    parameters: Mapping[str, Any],
    metrics: Mapping[str, float],
    baseline: Mapping[str, float],
    trials: pa.Table | None,
) -> None:
    from mlflow.entities import Metric, Param

    began = run.info.start_time  # so that what is told twice is the same and kept once
    params = [Param(_name(name), value) for name, value in _flat(parameters).items()]
    figures = {**metrics, **{f"baseline/{name}": value for name, value in baseline.items()}}
    kept = [Metric(name, value, began, 0) for name, value in figures.items()]
    tried = [] if trials is None else trials.select(["number", "value"]).to_pylist()
    kept += [
        Metric("tuning/value", one["value"], began, one["number"])
        for one in tried
        if one["value"] is not None
    ]
    for start in range(0, max(len(params), len(kept)), MOST_AT_ONCE):
        some = slice(start, start + MOST_AT_ONCE)
        client.log_batch(run.info.run_id, params=params[some], metrics=kept[some])


def _tell_files(
    client: MlflowClient,
    run: Run,
    artefacts: Mapping[str, bytes],
    folder: Path | None,
    trials: pa.Table | None,
) -> None:
    from pyarrow import csv

    with working_folder("tracking") as here:
        for name, png in artefacts.items():
            (here / "pictures").mkdir(exist_ok=True)
            (here / "pictures" / f"{_name(name)}.png").write_bytes(png)
        if trials is not None:
            csv.write_csv(trials, here / "trials.csv")
        client.log_artifacts(run.info.run_id, str(here))
    if folder is not None:
        client.log_artifacts(run.info.run_id, str(folder), MODEL)


def _flat(value: Any, name: str = "") -> dict[str, str]:
    """Nested parameters with dotted names, as text; what is None is left out."""
    if isinstance(value, Mapping):
        found: dict[str, str] = {}
        for key, part in value.items():
            found.update(_flat(part, f"{name}.{key}" if name else str(key)))
        return found
    if value is None:
        return {}
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    return {_name(name): _cut(text, LONGEST_VALUE)}


def _name(text: str) -> str:
    """A name with letters that MLflow takes, and files too."""
    return re.sub(LETTERS, "_", text).lstrip(".")[:LONGEST_NAME] or "_"


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


# -- the registered model -------------------------------------------------------------------------


def _register(client: MlflowClient, run: Run, name: str, version: str) -> None:
    """A new version whose source is the run's model files; the alias moves to it."""
    from mlflow.exceptions import MlflowException

    number = _registered(client, run, name)
    if number is None:
        with suppress(MlflowException):  # it is there already; if it is not, the next call says so
            client.create_registered_model(name)
        source = f"{run.info.artifact_uri}/{MODEL}"
        made = client.create_model_version(
            name, source, run.info.run_id, tags={"mm.version": version}, await_creation_for=0
        )
        number = str(made.version)
    client.set_registered_model_alias(name, CHAMPION, number)


def _registered(client: MlflowClient, run: Run, name: str) -> str | None:
    """The number of the version that was made of this run, if there is one."""
    for one in client.search_model_versions(f"run_id = '{run.info.run_id}'"):
        if one.name == name:
            return str(one.version)
    return None


# -- MLflow's manners -----------------------------------------------------------------------------


@contextmanager
def quiet_mlflow(wanted_by: str) -> Iterator[None]:
    """MLflow, imported, without its reports on its users and its chatter.

    Raises ModelError(package_missing) that names what wants it.
    """
    with _environment(_QUIET):
        optional("mlflow", "tracking", wanted_by)
        for logger in ("mlflow", "alembic"):
            logging.getLogger(logger).setLevel(logging.ERROR)
        yield


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set these variables where they are not set, and take them away again."""
    ours = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)


@contextmanager
def _speaking(uri: str) -> Iterator[None]:
    """Turn whatever MLflow and what lies below it raise into words."""
    from alembic.util import CommandError
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    of_mlflow = (MlflowException, SQLAlchemyError, CommandError)
    try:
        yield
    except (*of_mlflow, OSError, ImportError, ValueError) as error:
        what = _without_password(str(error), uri)
        raise _failed(what, uri) from None
    except LakeError as error:  # the disk for temporary files is full
        raise _failed(str(error), uri) from None


def _failed(what: str, uri: str) -> ModelError:
    return ModelError(
        code="tracking_failed",
        what=f"MLflow was not told: {' '.join(what.split())[:400]}",
        where=f"{NAME} {_shown(uri)}",
        todo=f"Check that MLflow runs and that {NAME} names it, or unset {NAME}. "
        "The model itself is stored and complete.",
    )


def _without_password(text: str, uri: str) -> str:
    user, at, _ = urlsplit(uri).netloc.rpartition("@")
    return text.replace(user + at, "") if at else text


def _shown(uri: str) -> str:
    return _without_password(uri, uri)


def _url(uri: str, experiment: str, run_id: str) -> str:
    if not uri.startswith("http"):
        return _shown(uri)
    return f"{_shown(uri).rstrip('/')}/#/experiments/{experiment}/runs/{run_id}"
