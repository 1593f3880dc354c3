"""What MLflow is told of a training, read back with MLflow's own client."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mm_assets.contract.errors import ModelError
from mm_assets.registry.tracking import Tracked, track_training
from tests.make import plain_image

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # also for what the tests ask MLflow themselves
SERVER_SECONDS = 60


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture(scope="module")
def starting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Any, float]]:
    """A real MLflow server; it starts while the other tests run."""
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
        "--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--workers", "1",
        "--artifacts-destination", str(folder / "artefacts"),
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=folder, start_new_session=True,
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        )  # fmt: skip
    yield f"http://127.0.0.1:{port}", process, time.monotonic()
    os.killpg(process.pid, signal.SIGTERM)  # the group of this process alone
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


@pytest.fixture
def server(starting: tuple[str, Any, float]) -> str:
    uri, process, began = starting
    while time.monotonic() < began + SERVER_SECONDS or _is_up(uri):
        if _is_up(uri):
            return uri
        assert process.poll() is None, "the server ended"
        time.sleep(0.2)
    pytest.skip(f"the MLflow server did not start within {SERVER_SECONDS} seconds")


def _is_up(uri: str) -> bool:
    try:
        with urllib.request.urlopen(f"{uri}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.fixture
def sqlite(tmp_path: Path, starting: Any) -> str:
    return f"sqlite:///{tmp_path}/new/folder/mlflow.db"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "deep").mkdir(parents=True)
    (folder / "model.json").write_text('{"weights": [1, 2]}')
    (folder / "deep" / "weights.bin").write_bytes(b"\x00\x01")
    return folder


def track(uri: str, folder: Path | None, **changes: Any) -> Tracked:
    trials = pa.table(
        {
            "number": [1, 2, 3],
            "state": ["finished", "failed", "finished"],
            "value": [0.5, None, 0.4],
            "max_depth": [3.0, 9.0, 4.0],
        }
    )
    told: dict[str, Any] = {
        "dataset": "pets",
        "modality": "with_image",
        "version": "20261121-1f0c",
        "run_id": "dagster-run-1",
        "candidate": "gradient_boosting",
        "parameters": {
            "engine": "gradient_boosting",
            "image_backbone": None,
            "hyperparameters": {"max_depth": 4, "names": ["a", "ä"], "odd: key?": True},
            "long": "x" * 10_000,
        },
        "metrics": {"accuracy": 0.91, "log_loss": 0.3},
        "baseline": {"accuracy": 0.6},
        "tags": {"seconds": "12.3"},
        "artefacts": {"confusion matrix": plain_image((255, 0, 0), 4, 4)},
        "folder": folder,
        "trials": trials,
        "promoted": True,
    }
    return track_training(uri, **{**told, **changes})


def client_of(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def everything(client: Any, tracked: Tracked, tmp_path: Path) -> dict[str, Any]:
    run = client.get_run(tracked.run_id)
    fetched = tmp_path / f"fetched-{tracked.run_id}"
    fetched.mkdir(exist_ok=True)
    client.download_artifacts(tracked.run_id, "", str(fetched))
    files = {str(p.relative_to(fetched)): p.read_bytes() for p in fetched.rglob("*") if p.is_file()}
    return {"run": run, "parameters": run.data.params, "metrics": run.data.metrics, "files": files}


def check_all_is_there(uri: str, tracked: Tracked, model: Path, tmp_path: Path) -> None:
    client = client_of(uri)
    told = everything(client, tracked, tmp_path)
    assert told["run"].info.status == "FINISHED"
    assert client.get_experiment(told["run"].info.experiment_id).name == "pets/with_image"
    assert told["parameters"] == {
        "engine": "gradient_boosting",
        "hyperparameters.max_depth": "4",
        "hyperparameters.names": '["a", "ä"]',
        "hyperparameters.odd_ key_": "true",
        "long": "x" * 5999 + "…",
    }
    assert told["metrics"] == {
        "accuracy": 0.91, "log_loss": 0.3, "baseline/accuracy": 0.6, "tuning/value": 0.4,
    }  # fmt: skip
    history = client.get_metric_history(tracked.run_id, "tuning/value")
    assert [(one.step, one.value) for one in history] == [(1, 0.5), (3, 0.4)]
    tags = told["run"].data.tags
    assert tags["mm.version"] == "20261121-1f0c"
    assert (tags["mm.run_id"], tags["mm.promoted"]) == ("dagster-run-1", "true")
    assert tags["mm.seconds"] == "12.3"
    files = told["files"]
    assert files["pictures/confusion matrix.png"] == plain_image((255, 0, 0), 4, 4)
    assert files["trials.csv"].decode().splitlines()[2] == '2,"failed",,9'
    assert files["model/deep/weights.bin"] == b"\x00\x01"
    assert files["model/model.json"] == (model / "model.json").read_bytes()
    champion = client.get_model_version_by_alias("pets-with_image", "champion")
    assert str(champion.version) == tracked.registered_version == "1"
    assert champion.run_id == tracked.run_id
    assert champion.source == f"{told['run'].info.artifact_uri}/model"


def test_an_sqlite_store_keeps_all_of_it_and_the_files_beside_it(
    sqlite: str, model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tracked = track(sqlite, model)
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")
    check_all_is_there(sqlite, tracked, model, tmp_path)
    assert tracked.url == sqlite
    assert {path.name for path in (tmp_path / "new" / "folder").iterdir()} == {
        "mlflow.db", "mlartifacts",
    }  # fmt: skip


def test_telling_it_again_adds_nothing(sqlite: str, model: Path, tmp_path: Path) -> None:
    first = track(sqlite, model)
    assert track(sqlite, model, metrics={"accuracy": 0.1}) == first
    client = client_of(sqlite)
    runs = client.search_runs([client.get_experiment_by_name("pets/with_image").experiment_id])
    assert [run.info.run_id for run in runs] == [first.run_id]
    assert len(client.search_model_versions("name = 'pets-with_image'")) == 1
    check_all_is_there(sqlite, first, model, tmp_path)


def test_what_was_cut_off_is_completed_in_the_same_run(
    sqlite: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    for step in ("log_artifacts", "set_registered_model_alias", "set_terminated"):

        def cut(*_: Any, **__: Any) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(MlflowClient, step, cut)
            track(sqlite, model)
    tracked = track(sqlite, model)
    check_all_is_there(sqlite, tracked, model, tmp_path)
    client = client_of(sqlite)
    assert len(client.search_runs(["1"])) == 1
    assert len(client.search_model_versions("name = 'pets-with_image'")) == 1


def test_each_candidate_has_a_run_and_only_what_is_promoted_is_registered(
    sqlite: str, model: Path
) -> None:
    best = track(sqlite, model)
    loser = track(sqlite, None, candidate="rules", promoted=False, trials=None, artefacts={})
    later = track(sqlite, model, version="20261122-77aa", promoted=False)
    newest = track(sqlite, model, version="20261123-0b1d")
    assert len({one.run_id for one in (best, loser, later, newest)}) == 4
    versions = [one.registered_version for one in (best, loser, later, newest)]
    assert versions == ["1", None, None, "2"]
    client = client_of(sqlite)
    assert client.get_model_version_by_alias("pets-with_image", "champion").version == 2
    # An older training that is told once more does not take the alias back.
    assert track(sqlite, model) == best
    assert client.get_model_version_by_alias("pets-with_image", "champion").version == 2


def test_the_environment_and_the_global_tracking_uri_stay_as_they_were(
    sqlite: str, model: Path
) -> None:
    import mlflow

    before, uri = dict(os.environ), mlflow.get_tracking_uri()
    track(sqlite, model)
    assert dict(os.environ) == before
    assert mlflow.get_tracking_uri() == uri


def test_more_parameters_than_fit_into_one_request_are_told(sqlite: str) -> None:
    parameters = {f"p{i}": i for i in range(250)}
    tracked = track(sqlite, None, parameters=parameters)
    kept = client_of(sqlite).get_run(tracked.run_id).data.params
    assert kept == {name: str(value) for name, value in parameters.items()}


def refusal(uri: str, folder: Path | None = None) -> ModelError:
    with pytest.raises(ModelError) as caught:
        track(uri, folder)
    return caught.value


def test_a_server_that_is_down_is_said_soon_and_without_its_password() -> None:
    port = free_port()
    error = refusal(f"http://somebody:secret@127.0.0.1:{port}")
    assert error.code == "tracking_failed"
    assert "MLFLOW_TRACKING_URI" in error.todo
    assert str(port) in error.where
    assert "secret" not in str(error)


def test_a_server_that_is_something_else_is_said_in_words(s3_endpoint: str) -> None:
    assert refusal(s3_endpoint).code == "tracking_failed"


@pytest.mark.parametrize("uri", ["nonsense://here", "sqlite:////proc/nowhere/mlflow.db"])
def test_a_store_that_cannot_be_is_said_in_words(uri: str) -> None:
    assert refusal(uri).code == "tracking_failed"


def test_a_file_that_is_no_database_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("not a database " * 100)
    error = refusal(f"sqlite:///{tmp_path}/mlflow.db")
    assert error.code == "tracking_failed"
    assert "is no SQLite database" in error.what


def test_without_mlflow_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    error = refusal("sqlite:///never.db")
    assert error.code == "package_missing"
    assert "mm-assets[tracking]" in error.todo


def test_a_server_keeps_all_of_it_and_serves_the_champion(
    server: str, model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tracked = track(server, model)
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")
    check_all_is_there(server, tracked, model, tmp_path)
    assert track(server, model) == tracked
    assert tracked.url.startswith(f"{server}/#/experiments/")
    assert tracked.url.endswith(f"/runs/{tracked.run_id}")
