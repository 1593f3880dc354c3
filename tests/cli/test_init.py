"""`mm init` and all that follows on tables as people have them; and how it ends otherwise."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import openpyxl
import pyarrow as pa
import pyarrow.parquet
import pytest
from typer.testing import CliRunner, Result

import mm_assets as mm
from mm_assets.cli.main import app
from mm_assets.contract.settings import Settings
from mm_assets.contract.spec_file import load_spec
from tests.drafting.test_formats import patients, text_of
from tests.make import draw_image

TREES = "{engine: gradient_boosting}"


def run(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    assert "Traceback" not in result.stderr
    return result


def workbook_with_photos(folder: Path) -> Path:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(["patient_id", "age", "ward", "label"])
    for number, row in enumerate(patients()):
        sheet.append([row["patient_id"], float(row["age"]), row["ward"], row["label"]])
        photo = folder / "photos" / f"{row['patient_id']}.jpg"
        photo.parent.mkdir(exist_ok=True)
        photo.write_bytes(draw_image(number, "JPEG"))
    book.save(folder / "clinic.xlsx")
    return folder / "clinic.xlsx"


def parquet(folder: Path) -> Path:
    rows = [{**row, "age": float(row["age"])} for row in patients()]
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), folder / "clinic.parquet")
    return folder / "clinic.parquet"


def json_lines(folder: Path) -> Path:
    rows = [{**row, "age": float(row["age"])} for row in patients()]
    (folder / "clinic.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder / "clinic.jsonl"


def packed_german(folder: Path) -> Path:
    towns = {"north": "Köln", "south": "München", "west": "Übersee – 5 €"}
    rows = [{**row, "ward": towns[row["ward"]]} for row in patients()]
    data = text_of(rows, ";").replace(".", ",").encode("cp1252")
    (folder / "clinic.csv.gz").write_bytes(gzip.compress(data))
    return folder / "clinic.csv.gz"


@pytest.mark.parametrize("made", [workbook_with_photos, parquet, json_lines, packed_german])
def test_from_a_file_to_a_champion_without_editing_anything(
    made: Callable[[Path], Path], folder_settings: Settings, tmp_path: Path
) -> None:
    pytest.importorskip("xgboost")
    folder = tmp_path / "mine"
    folder.mkdir()
    with_images = made is workbook_with_photos
    done = run("init", made(folder))
    assert "patient_id" in done.stdout
    images = " and 60 images" if with_images else ""
    assert f"✓ tried on the first 60 rows{images}: used" in done.stderr
    file = folder_settings.defs_folder / "clinic" / "defs.yaml"
    spec = load_spec(file)
    assert spec.kinds == {"age": "number", "ward": "category"}
    if with_images:  # AutoGluon takes minutes for two networks, and other tests train it
        assert spec.image_name == "{id}"
        text = file.read_text()
        file.write_text(text.replace("{engine: automatic}", TREES))
    run("upload", folder)
    run("sync")
    trained = run("train")
    assert "champion" in trained.stderr
    [upload] = json.loads(run("uploads", "--format", "json").stdout)
    assert upload["state"] == "done"


def test_what_is_lost_of_the_table_itself_is_used_in_part_and_the_yaml_is_written(
    folder_settings: Settings, tmp_path: Path
) -> None:
    rows = patients()
    rows[4]["patient_id"] = "P003"
    (tmp_path / "t.csv").write_text(text_of(rows))
    done = run("init", tmp_path / "t.csv", "--id", "patient_id", code=3)
    assert "used in part: 1 of 60 rows left out: duplicate_id 1 (t.csv:6)" in done.stderr
    assert (folder_settings.defs_folder / "t" / "defs.yaml").exists()


def test_a_draft_with_which_nothing_would_be_used_is_not_written(
    folder_settings: Settings, tmp_path: Path
) -> None:
    rows = [{**row, "patient_id": f"ward/{row['patient_id']}"} for row in patients()]
    (tmp_path / "t.csv").write_text(text_of(rows))
    done = run("init", tmp_path / "t.csv", code=2)
    assert "✗ tried on the first 60 rows: nothing used" in done.stderr
    assert "[init_nothing_used]" in done.stderr
    assert "not '.', '..' or a path" in done.stderr
    assert not (folder_settings.defs_folder / "t").exists()


def test_python_has_the_same_table_and_end(
    folder_settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ds = mm.draft(parquet(tmp_path))
    assert ds.drafted is not None
    assert ds.drafted.ended is not None
    assert ds.drafted.ended.end is mm.End.USED
    assert [row["taken_for"] for row in ds.drafted.columns] == [
        "ID", "label, binary", "number", "category",
    ]  # fmt: skip
    said = capsys.readouterr()
    assert all(row["column"] in said.out for row in ds.drafted.columns)
    assert mm.open("clinic").drafted is None


def test_python_hands_each_note_and_doubt_to_who_asks_for_them(
    folder_settings: Settings, tmp_path: Path
) -> None:
    rows = [{**row, "again": row["label"]} for row in patients()]
    (tmp_path / "t.csv").write_text(text_of(rows))
    said: list[str] = []
    mm.draft(tmp_path / "t.csv", say=said.append)
    assert any("again: it decides the label alone" in line for line in said)
    assert said[-1] == "- tried on the first 60 rows: used"


def test_a_folder_of_a_table_and_photos_is_drafted_whole(
    folder_settings: Settings, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    workbook_with_photos(folder)
    done = run("init", folder, "--dataset", "ward")
    assert "60 of 60 images (100%)" in done.stderr
    assert load_spec(folder_settings.defs_folder / "ward" / "defs.yaml").image_name == "{id}"
