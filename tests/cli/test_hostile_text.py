"""Names, IDs and values that somebody sent to take over a terminal: every command shows them."""

from __future__ import annotations

import csv
import unicodedata
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image
from typer.testing import CliRunner

import mm_assets as mm
from mm_assets.cli.main import app
from mm_assets.contract.errors import REFUSALS
from mm_assets.lake.lake import Lake
from mm_assets.orchestration.scope import check, shown_table
from mm_assets.predictions.predict import empty_predictions
from mm_assets.tables.open import open_store
from tests.make import drop_zip
from tests.tables.offers import offer

YAML = """
type: mm_assets.pipeline.DatasetPipeline
attributes:
  dataset: parts
  id_column: part
  label_column: state
  problem_type: multiclass
  columns: {weight: number, maker: category}
"""
OWNED, CLEAR, TURNED = "\x1b]0;owned\x07", "\x1b[2J", "\u202e"
HOSTILE = f"{OWNED}{CLEAR}{TURNED}\r✓\x9b"


def is_harmless(*texts: str) -> bool:
    found = {c for text in texts for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs")}
    return found <= {"\n"}


@pytest.fixture
def run(folder_settings):
    file = folder_settings.defs_folder / "parts" / "defs.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(YAML)

    def invoke(*arguments: str, code: int = 0):
        result = CliRunner().invoke(app, [str(a) for a in arguments])
        assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
        assert is_harmless(result.stdout, result.stderr), (result.stdout, result.stderr)
        return result

    return invoke


def hostile_folder(folder: Path) -> Path:
    """Refused rows and files whose names, IDs and values hold everything, and a good record."""
    folder.mkdir()
    rows = [["part", "weight", "maker", "state"], ["good", "1", "acme", ""],
            [f"{TURNED}id", f"5{HOSTILE}", "acme", ""], [HOSTILE, "1", "acme", ""]]  # fmt: skip
    with (folder / "parts.csv").open("w", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows(rows)
    Image.new("RGB", (9, 9)).save(folder / "good.png")
    (folder / f"{TURNED}gpj.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut short")
    (folder / f"{TURNED}.bin").write_bytes(bytes(99))
    (folder / "twice.csv").write_text(f"part,weight,{HOSTILE}x\u2066,{HOSTILE}x\u2066\n1,2,3,4\n")
    return folder


def test_upload_receipt_and_uploads_show_hostile_names_ids_and_values(run, tmp_path) -> None:
    folder = hostile_folder(tmp_path / "parts")
    sent = run("upload", folder, code=3)
    assert "\\x1b]0;owned\\x07" in sent.stderr
    assert "\\u202e" in sent.stderr
    run("upload", folder, "--format", "json", code=3)
    run("sync", code=1)  # more than a fifth was refused
    assert "\\x1b" in run("receipt", "parts").stdout
    run("receipt", "parts", "--format", "json")
    run("uploads")
    run("uploads", "--format", "json")


def test_an_archive_with_a_hostile_name_is_refused_in_harmless_words(run, folder_settings) -> None:
    lake = Lake(folder_settings)
    drop_zip(lake, "evil.zip", {f"{HOSTILE}.csv": b"part,weight,maker\n"}, dataset="parts")
    assert "archive_unsafe_name" in run("sync", code=2).stderr
    run("receipt", "evil.zip")
    run("uploads")
    [refused] = [one for one in mm.open("parts").uploads() if one["name"] == "evil.zip"]
    assert refused


def test_predictions_and_review_show_hostile_ids_and_labels(run, folder_settings, tmp_path) -> None:
    offered = [
        offer(f"{TURNED}id{OWNED}", prediction=HOSTILE, confidence=0.1, needs_review=True,
              probabilities="{}", reasons=HOSTILE, content_hash="h")
    ]  # fmt: skip
    table = pa.Table.from_pylist(offered, schema=empty_predictions().schema)
    open_store(folder_settings).merge("parts", table)
    assert "\\x1b" in run("predictions").stdout
    run("predictions", "--format", "json")
    assert "\\u202e" in run("review", "list").stdout
    run("review", "list", "--format", "json")
    ds = mm.open("parts")
    frame = ds.review()
    assert is_harmless(repr(frame), frame._repr_html_())
    answers = tmp_path / "answers.csv"
    with answers.open("w", newline="") as file:
        csv.writer(file).writerows([["part", "state"], [HOSTILE, HOSTILE]])
    run("review", "import", answers, code=2)


def test_what_is_typed_wrong_is_shown(run, tmp_path) -> None:
    run("receipt", HOSTILE, code=2)
    run("upload", tmp_path / f"{OWNED}{TURNED}", code=2)
    run("upload", tmp_path, HOSTILE, code=2)
    run(HOSTILE, code=2)
    run("upload", tmp_path, f"--{HOSTILE}", code=2)
    run("sync", "-d", HOSTILE, code=1)
    run("review", "export", HOSTILE, code=2)


def test_daggers_pages_show_it() -> None:
    values = pa.table({"id": [HOSTILE], "reason": [f"{TURNED}<b>"]})
    [record] = shown_table(values, ["id", "reason"]).records
    assert is_harmless(*map(str, record.data.values()))
    judged = check(False, HOSTILE, metadata={HOSTILE: HOSTILE})
    assert is_harmless(judged.description, *judged.metadata)
    assert is_harmless(*(str(value.value) for value in judged.metadata.values()))
    assert is_harmless(*REFUSALS.values())
