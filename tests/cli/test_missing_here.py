"""A champion that lacks something on this machine: its records wait, and nobody else answers.

Not fewer members of the ensemble, and not the model that looks at no image.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from mm_assets.cli.main import app
from mm_assets.contract.settings import Settings
from mm_assets.engines.shared import backbones
from mm_assets.predictions import ask
from tests.make import plain_image, table, zipped

YAML = """
type: mm_assets.pipeline.DatasetPipeline
attributes:
  dataset: pets
  id_column: id
  label_column: label
  problem_type: binary
  columns: {age: number}
  image_longest_side: 16
  minimum_training_records: 30
  model_with_image: {engine: automatic, hyperparameters: {members: [linear with image], folds: 2}}
  model_without_image: {engine: automatic, hyperparameters: {members: [trees], folds: 2}}
"""


def mm(words: str, code: int = 0) -> Result:
    ask._in_memory.clear()  # as in a process of its own
    result = CliRunner().invoke(app, words.split())
    assert result.exit_code == code, (words, result.stdout, result.stderr, result.exception)
    assert "Traceback" not in result.stderr
    return result


def told(words: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(mm(f"{words} --format json").stdout)
    return rows


def answered() -> dict[str, str]:
    """Which kind of model has answered for each record."""
    return {row["record_id"]: row["modality"] for row in told("predictions -d pets")}


@pytest.fixture
def project(folder_settings: Settings, tmp_path: Path) -> Path:
    """Two champions, and an upload to predict: three records with an image, two without."""
    file = folder_settings.defs_folder / "pets" / "defs.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(YAML)
    draw = random.Random(1)
    images = [plain_image((10 + 50 * n, 90, 90), 16, 16) for n in range(4)]
    rows, files = [], {}
    for n in range(100):
        kind = n % 2
        rows.append(f"k{n},{draw.gauss(6 * kind, 1):.3f},{'cat' if kind else 'dog'}")
        if n % 4 < 3:
            files[f"k{n}.png"] = images[2 * kind + n % 2]
    known = tmp_path / "known.zip"
    known.write_bytes(zipped({"t.csv": table("id,age,label", *rows), **files}))
    new = {f"n{n}.png": images[n] for n in range(3)}
    (tmp_path / "new.zip").write_bytes(
        zipped({"t.csv": table("id,age", *[f"n{n},{n}" for n in range(5)]), **new})
    )
    mm(f"upload {known} -d pets")
    mm("sync -d pets")
    mm("train -d pets")
    champions = {row["modality"] for row in told("models list -d pets") if row["champion"]}
    assert champions == {"with_image", "without_image"}
    return tmp_path


WITH = {"n0", "n1", "n2"}
WITHOUT = {"n3", "n4"}


def no_backbone(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(backbones, "_EMBEDDED_PACKAGE", "no_such_package")


def no_lightgbm(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(sys.modules, "lightgbm", None)


def test_records_wait_for_what_is_missing_here_and_are_answered_once_it_is_there(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mm(f"upload {project / 'new.zip'} -d pets")
    with monkeypatch.context() as broken:
        no_backbone(broken)
        mm("sync -d pets")
        assert answered() == dict.fromkeys(WITHOUT, "without_image")
        [newest] = told("uploads -d pets --limit 1")
        assert newest["state"] == "waiting"
        assert "[backbone_incomplete]" in newest["words"]
        assert "mm retry" in newest["words"]
    with monkeypatch.context() as broken:
        no_lightgbm(broken)
        mm("retry new -d pets")
        mm("sync -d pets")
        [newest] = told("uploads -d pets --limit 1")
        assert "[model_unreadable]" in newest["words"]
        assert "lightgbm" in newest["words"]
        found = answered()
        assert {one for one in found if found[one] == "with_image"} == WITH
    mm("retry new -d pets")
    mm("sync -d pets")
    assert answered() == dict.fromkeys(WITH, "with_image") | dict.fromkeys(WITHOUT, "without_image")
    [newest] = told("uploads -d pets --limit 1")
    assert newest["state"] == "done"
    # What somebody changed is another matter: that run fails.
    files = [*project.rglob("members.joblib")]
    assert files
    for file in files:
        file.chmod(0o644)
        file.write_bytes(file.read_bytes()[:-1] + b"x")
    with monkeypatch.context() as broken:
        no_backbone(broken)
        mm("retry new -d pets")
        failed = mm("sync -d pets", code=1)
    assert "model_tampered" in failed.stderr + failed.stdout
