"""The leaderboard of an ensemble, from training to the UI, the terminal and Python."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import mm_assets as mm
from mm_assets.cli.main import app
from mm_assets.contract.settings import Settings
from mm_assets.orchestration.run import open_instance
from tests.make import table, zipped

YAML = """
type: mm_assets.pipeline.DatasetPipeline
attributes:
  dataset: pets
  id_column: id
  label_column: kind
  problem_type: binary
  columns: {age: number}
  minimum_training_records: 20
  model_with_image: {engine: "tests.engines.toy_engine:Members"}
  model_without_image: {engine: "tests.engines.toy_engine:Members"}
"""


def image(bright: bool) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), 230 if bright else 20, "uint8")).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def said(folder_settings: Settings, tmp_path: Path) -> str:
    """What `mm train` says: the image tells dogs (bright) from cats, the age nearly does."""
    file = folder_settings.defs_folder / "pets" / "defs.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(YAML)
    dogs = {f"r{n:02}": n % 2 for n in range(80)}
    rows = [
        f"{name},{80 * (dog if n % 8 > 1 else 1 - dog) + 10},{'dog' if dog else 'cat'}"
        for n, (name, dog) in enumerate(dogs.items())
    ]
    files = {f"{name}.png": image(bool(dog)) for name, dog in dogs.items()}
    path = tmp_path / "labelled.zip"
    path.write_bytes(zipped({"t.csv": table("id,age,kind", *rows), **files}))
    for command in (["upload", str(path)], ["sync"]):
        assert CliRunner().invoke(app, command).exit_code == 0
    done = CliRunner().invoke(app, ["train"])
    assert done.exit_code == 0, done.stderr
    return done.stderr


def run(words: str) -> str:
    done = CliRunner().invoke(app, words.split())
    assert done.exit_code == 0, done.stderr
    assert "--format csv" in words or "\x1b" not in done.stdout
    return done.stdout


def test_the_members_and_what_the_image_adds_are_told_everywhere(
    said: str, folder_settings: Settings
) -> None:
    assert "  pixels 75%, trees 25%\n" in said
    [words] = [line for line in said.splitlines() if "the image adds" in line]
    start, _, rest = words.strip().partition(" -> ")
    assert start.startswith("the image adds: accuracy 0.")
    assert rest.startswith("1 on ")
    assert rest.endswith(" held-out records; out of fold log loss 0.52 -> 0.44")

    about = json.loads(run("models show --modality with_image --format json"))
    assert about["image_adds"] == words.strip()
    assert [row["name"] for row in about["leaderboard"]][:3] == ["ensemble", "trees", "pixels"]
    ensemble, trees, pixels, net = about["leaderboard"]
    assert pixels["held_out"] == ensemble["held_out"]
    assert pixels["held_out"]["accuracy"] == 1 > trees["held_out"]["accuracy"]
    assert (net["held_out"], net["out_of_fold"], net["note"]) == ({}, None, "the time was over")

    shown = run("models show --modality with_image --leaderboard --format csv").splitlines()
    assert shown[0] == (
        "member,sees the image,out of fold log loss,held-out log loss,held-out accuracy,weight,"
        "seconds,kept,note"
    )
    assert shown[2].startswith("trees,,0.52,")
    assert len(shown) == 5
    shown = run("models show --modality with_image")
    assert "members of" in shown
    assert "net\\x1b[31m" in shown
    board = mm.open().leaderboard(modality="with_image")
    assert board[1]["weight"] == 0.25
    assert board.pictures["leaderboard"].startswith(b"\x89PNG")

    with open_instance(folder_settings) as instance:
        key = dg.AssetKey(["pets", "model_with_image"])
        event = instance.get_latest_materialization_event(key)
        assert event is not None
        metadata: dict[str, Any] = dict(event.asset_materialization.metadata)  # type: ignore[union-attr]
    assert metadata["what the image adds"].value == words.strip()
    assert "data:image/png" in metadata["leaderboard"].value
    records = [one.data for one in metadata["members"].records]
    assert [one["member"] for one in records] == ["ensemble", "trees", "pixels", "net\\x1b[31m"]
    assert "what the image adds" not in metadata_of(folder_settings, "model_without_image")


def test_the_report_is_a_file_that_says_what_the_models_say(
    said: str, folder_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(words: str, code: int) -> str:
        done = CliRunner().invoke(app, words.split())
        assert done.exit_code == code, (done.stdout, done.stderr)
        return done.stderr

    assert said
    # What can't be written or found is said before a minute is spent.
    assert "name a file" in refused(f"models report -o {tmp_path}", 2)
    assert "name a file" in refused(f"models report -o {tmp_path}/nowhere/r.html", 2)
    assert "several champions" in refused("models report", 2)
    assert "model_unknown" in refused("models report --version 1999", 1)

    file = tmp_path / "with.html"
    done = CliRunner().invoke(
        app, ["models", "report", "--modality", "with_image", "--output", str(file)]
    )
    assert done.exit_code == 0, done.stderr
    assert done.stdout == ""
    ds = mm.open()
    about = ds.model(modality="with_image")
    told = " ".join(done.stderr.split())
    assert f"with_image {about['version']}, accuracy 1 (" in told
    assert f"on {about['n']} held-out records; the simplest guess " in told
    page = file.read_text(encoding="utf-8")
    assert about["version"] in page
    assert "net\\x1b[31m" in page  # a member, and nothing that acts
    assert "\x1b" not in page

    report = ds.report(about["version"][:15], "with_image", quiet=True)
    assert report.figures["headline"]["metrics"] == about["metrics"]
    assert [row["name"] for row in report.figures["members"]] == [
        row["name"] for row in about["leaderboard"]
    ]
    assert report.figures["image"]["blind"]["verdict"] == "better"
    assert report.figures["importance"]["rows"][0]["column"] == "image"
    shown = report._repr_html_()
    assert shown.startswith('<iframe srcdoc="&lt;!doctype html&gt;')
    assert shown.count("<") == 2
    assert report.save(file) == file
    assert file.read_text(encoding="utf-8") == report.html

    monkeypatch.chdir(tmp_path)
    assert run("models report --modality without_image") == ""
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert ds.model(modality="without_image")["version"] in page

    # The model's asset shows what review gains, and names the command that this is.
    metadata = metadata_of(folder_settings, "model_with_image")
    assert "data:image/png" in metadata["review"].value
    program, *words = metadata["report"].value.split()
    assert program == "mm"
    assert about["version"] in words
    assert CliRunner().invoke(app, [*words[:-1], str(tmp_path / "ui.html")]).exit_code == 0
    assert about["version"] in (tmp_path / "ui.html").read_text(encoding="utf-8")


def metadata_of(settings: Settings, name: str) -> dict[str, Any]:
    with open_instance(settings) as instance:
        event = instance.get_latest_materialization_event(dg.AssetKey(["pets", name]))
    assert event is not None
    return dict(event.asset_materialization.metadata)  # type: ignore[union-attr]
