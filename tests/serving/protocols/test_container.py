"""A container of SageMaker's: its model's folder, and nothing else said."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.errors import UsageError
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.registry.export import write_folder
from mm_assets.registry.mlflow_model import write_mlflow_model
from mm_assets.registry.store import ModelStore
from mm_assets.serving.container import Container, of_sagemaker
from tests.serving.protocols.served import PETS, RECORD, Project, ask_json, serving, status

# Without these, root is refused what the modes of files forbid, as everybody is.
AS_ANYBODY = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")


def exported(project: Project, to: Path, form: str) -> Path:
    spec = DatasetSpec.model_validate(PETS)
    models = ModelStore(Lake(project.settings), "pets")
    champions = [found for m in spec.modalities if (found := models.champion(m))]
    write = write_mlflow_model if form == "mlflow" else write_folder
    write(models, spec, champions, to)
    return to


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def read_only(*folders: Path) -> None:
    for folder in folders:
        for path in [folder, *folder.rglob("*")]:
            path.chmod(path.stat().st_mode & 0o555)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.mark.parametrize("form", ["folder", "mlflow"])
def test_the_models_folder_is_served_where_sagemaker_asks_and_nothing_is_written_there(
    served_project: Project, tmp_path: Path, form: str
) -> None:
    if form == "mlflow":
        pytest.importorskip("mlflow")
    model = exported(served_project, tmp_path / "model", form)
    before = hashes(model)
    here = tmp_path / "here"
    here.mkdir()
    read_only(model, here)
    port = free_port()
    (tmp_path / "tmp").mkdir()
    told = {
        "SM_MODEL_DIR": str(model), "SAGEMAKER_BIND_TO_PORT": str(port),
        "TMPDIR": str(tmp_path / "tmp"),
    }  # fmt: skip
    guard = AS_ANYBODY if os.geteuid() == 0 and shutil.which("setpriv") else ()
    with serving(here, environment=told, before=guard) as address:
        assert address == f"http://127.0.0.1:{port}"
        assert f"http://0.0.0.0:{port} is up" in (tmp_path / "here.log").read_text()
        assert status(f"{address}/ping") == 200
        (answer,) = ask_json(f"{address}/invocations", RECORD)["predictions"]
    assert answer == served_project.predictor("pets").predict(RECORD)[0]
    assert hashes(model) == before
    assert list(here.iterdir()) == []
    assert list((tmp_path / "tmp").glob("mm-*")) == []


def test_a_model_may_be_named_by_the_environment(served_project: Project, tmp_path: Path) -> None:
    model = exported(served_project, tmp_path / "model", "folder")
    here = tmp_path / "here"
    here.mkdir()
    with serving(here, "--port", "0", environment={"MM_SERVE_MODEL": str(model)}) as address:
        assert list(ask_json(f"{address}/v1/datasets")["datasets"]) == ["pets"]
        assert address.startswith("http://127.0.0.1:")


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Of a folder that is no project."""
    monkeypatch.setenv("SM_MODEL_DIR", str(tmp_path / "model"))
    (tmp_path / "model").mkdir()
    (tmp_path / "root").mkdir()
    return Settings(root=tmp_path / "root")


def test_without_a_model_or_within_a_project_nothing_is_as_in_a_container(
    settings: Settings, tmp_path: Path, served_project: Project
) -> None:
    assert of_sagemaker(settings) is None
    (tmp_path / "model" / "dataset.json").write_text("{}")
    assert of_sagemaker(settings) == Container(tmp_path / "model", 8080)
    assert of_sagemaker(served_project.settings) is None


def test_a_folder_in_the_models_folder_is_not_what_sagemaker_unpacks(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model" / "model").mkdir()
    with pytest.raises(UsageError, match="pack what is in the folder"):
        of_sagemaker(settings)
    (tmp_path / "model" / "dataset.json").write_text("{}")
    monkeypatch.setenv("SAGEMAKER_BIND_TO_PORT", "http")
    with pytest.raises(UsageError, match="is no port: 'http'"):
        of_sagemaker(settings)


def test_elsewhere_an_open_address_still_wants_keys(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from mm_assets.cli.main import main; main()", "serve",
         "--host", "0.0.0.0", "--dataset", "pets"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "whoever reaches 0.0.0.0 could ask this service" in " ".join(
        done.stderr.replace("│", " ").split()
    )
