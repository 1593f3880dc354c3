"""`mm review` as a person uses it, from a trained model to the label in its next training set."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mm_assets.cli.review import app as review
from mm_assets.contract.spec_file import load_spec
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import of_dataset
from mm_assets.orchestration.run import Runner, open_instance
from mm_assets.registry.store import ModelStore
from mm_assets.review.one_by_one import Given, note_sent, now
from mm_assets.tables.open import open_store
from mm_assets.training.training_set import build_training_set
from mm_assets.uploads.received import read_parquet
from tests.make import csv_table, draw_image, drop_zip

YAML = """
type: mm_assets.pipeline.DatasetPipeline
attributes:
  dataset: pets
  id_column: id
  label_column: kind
  problem_type: binary
  columns: {age: number}
  image_longest_side: 16
  minimum_training_records: 20
  review_threshold: 0.9
  model_with_image: {engine: "tests.kill.engine:NearestMean"}
  model_without_image: {engine: "tests.kill.engine:NearestMean"}
"""


@pytest.fixture
def project(folder_settings) -> Lake:
    file = folder_settings.defs_folder / "pets" / "defs.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(YAML)
    return Lake(folder_settings)


@pytest.fixture
def run():
    def invoke(*arguments: str, code: int = 0):
        result = CliRunner().invoke(review, [str(a) for a in arguments])
        assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
        assert "Traceback" not in result.stderr
        return result

    return invoke


def next_training_set(lake: Lake) -> dict[str, str]:
    spec = load_spec(lake.settings.defs_folder / "pets" / "defs.yaml")
    document = build_training_set(lake, open_store(lake.settings), spec, run_id="run")
    rows = read_parquet(lake, document, "training_set.parquet").to_pylist()
    return {row["record_id"]: row["label"] for row in rows}


def work(lake: Lake, *works: str) -> None:
    """What `mm sync` and `mm train` do, without the monitoring after it."""
    spec = load_spec(lake.settings.defs_folder / "pets" / "defs.yaml")
    with open_instance(lake.settings) as instance:
        runner = Runner(spec, instance, print)
        for one in works:
            outcome = next(getattr(runner, one)())
            assert outcome.success, outcome


def test_what_people_answer_is_in_the_next_training_set_and_no_longer_asked(
    project: Lake, run, tmp_path: Path
) -> None:
    labelled = [[f"r{n}", str(n % 2 * 10), ("cat", "dog")[n % 2]] for n in range(60)]
    unclear = [[f"u{n}", str(4 + n), ""] for n in range(3)]
    files = {"rows.csv": csv_table(["id", "age", "kind"], labelled + unclear)}
    drop_zip(project, "first.zip", {**files, "u0.png": draw_image(1)})
    work(project, "sync", "train", "predict_all")

    listed = json.loads(run("list", "--format", "json").stdout)
    assert {row["record_id"] for row in listed} == {"u0", "u1", "u2"}
    assert listed == sorted(listed, key=lambda row: row["confidence"])
    assert listed[0]["second_probability"] == pytest.approx(1 - listed[0]["confidence"])
    assert [row["image_file"] for row in listed if row["image_file"]] == ["u0.png"]

    folder = tmp_path / "out"
    said = run("export", "--to", folder)
    assert "3 records, 1 images" in said.stderr
    assert "export_exists" in run("export", "--to", folder, code=2).stderr
    with (folder / "tasks.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    answers = {"u0": "dog", "u1": "owl"}
    for row in rows:
        row["kind"] = answers.get(row["record_id"], "")
    with (folder / "tasks.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)

    said = run("import", folder / "tasks.csv", "--format", "json", code=3)
    report = json.loads(said.stdout)
    assert (report["labels"], report["left_out"]) == (1, {"not answered": 1})
    assert [one["code"] for one in report["refused"]] == ["label_invalid"]
    assert "not one of the classes: cat, dog" in said.stderr
    assert "there already" in run("import", folder / "tasks.csv", code=3).stderr

    work(project, "sync")
    left = json.loads(run("list", "--format", "json").stdout)
    assert {row["record_id"] for row in left} == {"u1", "u2"}
    assert "1 known already" in run("import", folder / "tasks.csv", code=3).stderr
    labels = next_training_set(project)
    assert labels["u0"] == "dog"
    assert labels.keys().isdisjoint({"u1", "u2"})

    assert "Nobody answered yet" in run("results").stderr
    champion = ModelStore(project, "pets").champion("without_image")
    at = now().isoformat(timespec="milliseconds")
    note_sent(project, "pets", None, [Given("u0", "dog", "Ana", at, "cat", champion.version)])
    [batch] = json.loads(run("results", "--format", "json").stdout)
    assert (batch["answers"], batch["as_the_model"], batch["version_after"]) == (1, 0, None)
    said = run("results").stderr
    assert f"before: {champion.version}" in said
    assert "no other model answers since" in said


def test_an_empty_queue_and_an_import_of_nothing_are_said(project: Lake, run, tmp_path) -> None:
    assert "Nothing needs review" in run("list").stderr
    assert "classes_unknown" in run("export", "--to", tmp_path / "x", code=1).stderr
    project.write_json(of_dataset("pets", "training_set"), {"labels": {"cat": 1, "dog": 1}})
    assert "Nothing needs review" in run("export", "--to", tmp_path / "y").stderr
    (tmp_path / "empty.json").write_text("[]")
    assert "no label could be sent" in run("import", tmp_path / "empty.json", code=2).stderr
    assert "upload_missing" in run("import", tmp_path / "none", code=2).stderr
