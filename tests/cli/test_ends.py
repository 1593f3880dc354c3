"""No command ends with 0 where nothing was used: a walk over every code by which it can be so.

Each code has a small upload that is only that. All are sent with `--anyway` and taken in by one
`mm sync`, and the tests look at how each ended. A code without an entry here fails.

Of what is refused, much is taken in together: were any of it used, the end would be another. With
MM_NIGHTLY=1 each code has a run of its own.
"""

from __future__ import annotations

import ast
import json
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

import mm_assets
from mm_assets.cli.main import app
from mm_assets.contract.ends import End
from mm_assets.contract.errors import REFUSALS, REFUSED_ADDRESSES
from mm_assets.contract.errors import REFUSED_ARCHIVES as REMEDIES
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from tests.conftest import AWS
from tests.make import csv_table, draw_image, drop_folder, table, zipped
from tests.test_input_contract import (
    BAD_ARCHIVES,
    BAD_FILES,
    BAD_ROWS,
    BAD_TABLES,
    HEADER,
    ONLY_IN_FOLDERS,
)

YAML = """
type: mm_assets.pipeline.DatasetPipeline
attributes:
  dataset: pets
  id_column: id
  label_column: label
  problem_type: binary
  classes: [cat, dog]
  columns: {age: {kind: number, required: true}, colour: category}
  image_name: "{id}-{n}"
  image_longest_side: 16
  limits: {maximum_refused_share: 1}  # or the check fails of shares, whatever was used
"""
TABLES = """
type: mm_assets.pipeline.DatasetPipeline
attributes:
  dataset: tables
  id_column: id
  label_column: label
  problem_type: binary
  columns: {age: number}
  image_name: null
  minimum_training_records: 20
  tolerated_failure_share: 1
  limits: {maximum_refused_share: 1}
  model_without_image: {engine: "tests.cli.test_ends:Touchy"}
"""


class Touchy:
    """An engine that knows cats by their age, and fails on whoever is 99."""

    def __init__(self, **_: Any) -> None:
        pass

    def train(self, task: Any, directory: Path, progress: Any) -> None:
        (directory / "nothing.txt").write_text("-")

    def load(self, directory: Path) -> Touchy:
        return self

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        if (frame["age"] == 99).any():
            raise RuntimeError("bad luck")
        cat = (frame["age"] < 10).astype(float) * 0.9 + 0.05
        return pd.DataFrame({"cat": cat, "dog": 1 - cat}, index=frame.index)


# -- an upload that is only that, for each code ---------------------------------------------------

SPECIMENS: dict[str, dict[str, bytes]] = {
    **{code: {name: data} for code, (name, data) in {**BAD_FILES, **BAD_TABLES}.items()},
    **{code: {"t.csv": csv_table(HEADER.split(","), [row])} for code, row in BAD_ROWS.items()},
    "duplicate_row": {"t.csv": table(HEADER, "a,1,red,", "a,1.0, red ,")},
    "duplicate_id": {"t.csv": table(HEADER, "a,1,red,", "a,2,red,")},
    "label_conflict": {"a.csv": table(HEADER, "a,1,red,cat"), "b.csv": table("id,label", "a,dog")},
}
# Of these something is used, for a bad second row has a good first one.
ENDS = {
    "duplicate_row": End.USED,  # the same row is there already: nothing is left out
    "duplicate_id": End.IN_PART,
    "label_conflict": End.IN_PART,
    "row_json": End.IN_PART,
}
# What becomes of a refused archive does not hang on its code: two are taken in.
SENT_ARCHIVES = ("archive_unreadable", "archive_bomb")
# How these end hangs on what lies beside them.
ALONE = {*ENDS, *SENT_ARCHIVES, "system_file", "row_width"}
# These are judged in another dataset, below.
ELSEWHERE = {"image_unexpected", "prediction_failed"}
# And these with an image column: tests/manifest/test_images_by_column.py, …_by_address.py.
BY_COLUMN = {"image_not_named", "image_ambiguous", *REFUSED_ADDRESSES}

# Each code of an UploadError: how this file, or which other one, comes to it.
WHOLE = {
    "nothing_used": "here, from each specimen",
    "init_nothing_used": "tests/cli/test_init.py",
    "upload_kind": "here",
    "upload_missing": "here",
    "upload_empty": "here",
    "upload_name": "here",
    "upload_not_sent": "here",
    "name_taken": "here",
    "unsafe_name": "here",
    "upload_unknown": "here",
    "export_exists": "tests/review/test_cli.py",
    "answers_unreadable": "here",
    "upload_unreadable": "tests/uploads/test_send.py",
    "upload_withdrawn": "tests/laws/test_withdrawals.py; a receipt that is refused, as an archive",
    "reason_invalid": "tests/cli/test_cli.py",
    "upload_superseded": "tests/uploads/test_receive.py; a receipt that is refused, as an archive",
    "note_unreadable": "tests/orchestration/test_ledger.py",
    "export_unwritable": "tests/review/test_export.py",
    "label_encoding": "tests/review/test_import.py",
    "wording_changed": "tests/orchestration; it fails a run",
    "table_encoding": "only from Python: a frame that cannot be written; raised before sending",
    "image_type": "only from Python: an image in hand; raised before sending",
    "image_name": "only from Python: an ID that cannot be a name; raised before sending",
}


def test_every_code_of_a_refused_row_or_file_has_an_upload_here() -> None:
    here = SPECIMENS.keys() | ONLY_IN_FOLDERS | ELSEWHERE | BY_COLUMN
    assert here | REMEDIES.keys() == REFUSALS.keys()
    # Of the other one only a file can be refused: tests/test_input_contract.py.
    assert BAD_ARCHIVES.keys() | {"archive_nested"} == REMEDIES.keys()


def test_every_code_of_a_refused_upload_is_accounted_for() -> None:
    found = set()
    for path in (Path(__file__).parents[2] / "mm_assets").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "UploadError":
                values = (k.value for k in node.keywords if k.arg == "code")
                found |= {value.value for value in values if isinstance(value, ast.Constant)}
    assert found == WHOLE.keys()


# -- the walk -------------------------------------------------------------------------------------


def mm(*arguments: object) -> Any:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert "Traceback" not in result.stderr
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("ends")
    patch = pytest.MonkeyPatch()
    for name, value in {**AWS, "MM_ROOT": str(root), "MM_LAKE": "data/lake"}.items():
        patch.setenv(name, value)
    for name in ("MM_TABLE", "MM_DEFS", "DAGSTER_HOME", "AWS_ENDPOINT_URL"):
        patch.delenv(name, raising=False)
    for name, text in (("pets", YAML), ("tables", TABLES)):
        file = Settings.from_environment().defs_folder / name / "defs.yaml"
        file.parent.mkdir(parents=True)
        file.write_text(text)
    yield root
    patch.undo()


def taken_in(code: str) -> str:
    """The upload with which a code is taken in: its own, or one of all of that sort."""
    if code in ALONE or os.environ.get("MM_NIGHTLY") == "1":
        return code
    return "folder" if code in ONLY_IN_FOLDERS else "rows" if code in BAD_ROWS else "files"


@pytest.fixture(scope="module")
def walked(project: Path) -> SimpleNamespace:
    """Every specimen through `mm upload`, `mm upload --anyway` and one `mm sync`."""
    sending, anyway = {}, {}
    for code, files in SPECIMENS.items():
        path = project / f"{code}.zip"
        path.write_bytes(zipped(files))
        sending[code] = mm("upload", path, "-d", "pets")
        anyway[code] = mm("upload", path, "-d", "pets", "--anyway")
    for code, data in BAD_ARCHIVES.items():
        path = project / f"{code}.zip"
        path.write_bytes(data)
        sending[code] = mm("upload", path, "-d", "pets")
        if code in SENT_ARCHIVES:
            anyway[code] = mm("upload", path, "-d", "pets", "--anyway")
    lake = Lake(Settings.from_environment())
    inbox = lake.settings.lake_folder / "inbox" / "pets"
    together: dict[str, dict[str, bytes]] = defaultdict(dict)
    for code, files in SPECIMENS.items():
        if taken_in(code) != code:
            (inbox / f"{code}.zip").unlink()
            inside = {f"{code}/{name}": data for name, data in files.items()}
            together[taken_in(code)] |= inside
    for name, files in together.items():
        lake.write(f"inbox/pets/{name}.zip", zipped(files))
    for name in {taken_in(code) for code in ONLY_IN_FOLDERS}:
        announced = name in ("checksum_differs", "folder")
        drop_folder(lake, name, {"a-1.png": draw_image(5)} if announced else {})
    for code in ONLY_IN_FOLDERS:
        name = {"checksum_differs": "a-1.png", "unsafe_name": "tab\t-1.png"}.get(code, "new-1.png")
        (inbox / taken_in(code) / name).write_bytes(draw_image(5)[:-1] + b"?")
    synced = mm("sync", "-d", "pets", "--format", "json")
    outcomes = {row["upload"]: row for row in json.loads(synced.stdout)}
    listed = json.loads(mm("uploads", "-d", "pets", "--limit", "200", "--format", "json").stdout)
    states = {row["name"].removesuffix(".zip"): row for row in listed}
    ended = {name: outcomes[row["upload"]] for name, row in states.items()}
    ds = mm_assets.open("pets")
    receipts = {name: ds.receipt(row["upload"]) for name, row in states.items()}
    return SimpleNamespace(
        sending=sending, anyway=anyway, synced=synced, states=states, ended=ended,
        receipts=receipts,
    )  # fmt: skip


@pytest.mark.parametrize("code", sorted({*SPECIMENS, *BAD_ARCHIVES}))
def test_an_upload_that_is_only_refused_is_not_sent_unless_anyway(
    walked: SimpleNamespace, code: str
) -> None:
    end = ENDS.get(code, End.NOTHING)
    sent = walked.sending[code]
    assert sent.exit_code == end.exit_code, sent.stderr
    if code in walked.anyway:
        assert walked.anyway[code].exit_code == end.exit_code
    if end is End.NOTHING:
        assert "✗ [" in sent.stderr
        assert "What to do: " in sent.stderr
        assert "sent to" not in sent.stderr
        assert code not in walked.anyway or "✗ sent to" in walked.anyway[code].stderr
    elif end is End.IN_PART:
        assert f"{code} 1 (" in sent.stderr
        assert REFUSALS[code] in sent.stderr


@pytest.mark.parametrize("code", sorted({*SPECIMENS, *SENT_ARCHIVES, *ONLY_IN_FOLDERS}))
def test_what_came_all_the_same_ends_as_empty_or_refused_and_says_so_everywhere(
    walked: SimpleNamespace, code: str
) -> None:
    end = ENDS.get(code, End.NOTHING)
    outcome, state = walked.ended[taken_in(code)], walked.states[taken_in(code)]
    assert outcome["end"] == end.value
    receipt = walked.receipts[taken_in(code)]
    assert receipt["end"] == end.value
    if end is not End.NOTHING:
        assert state["state"] in ("done", "waiting")  # those without a label, for a champion
        assert (code in state["words"]) == (end is End.IN_PART)
        assert not outcome["failed_checks"]
        return
    assert state["state"] == ("refused" if code in BAD_ARCHIVES else "empty")
    # A file of which no row fits its header is refused as a whole.
    assert {"row_width": "table_width"}.get(code, code) in state["words"] or code == "system_file"
    assert "something_used: nothing used" in " ".join(outcome["failed_checks"])
    assert repr(receipt).startswith("nothing used: ")


def test_a_sync_of_uploads_of_which_nothing_is_used_is_2_and_no_failed_run(
    walked: SimpleNamespace,
) -> None:
    assert walked.synced.exit_code == 2
    assert "runs failed" not in walked.synced.stderr
    assert "check failed" not in walked.synced.stderr
    again = mm("sync", "-d", "pets")
    assert again.exit_code == 0
    assert "No new uploads." in again.stderr


def test_twenty_equal_refusals_are_one_line_with_the_first_three_places(
    project: Path, tmp_path: Path
) -> None:
    rows = [f"r{n},{n},red," for n in range(80)] + [f"b{n},1 0,red," for n in range(20)]
    path = tmp_path / "twenty.zip"
    path.write_bytes(zipped({"t.csv": table(HEADER, *rows)}))
    sent = mm("upload", path, "-d", "pets")
    assert sent.exit_code == 3
    said = "20 of 100 rows left out: number_invalid 20 (t.csv:82, t.csv:83, t.csv:84, …)"
    assert sent.stderr.count("number_invalid") == 2  # the line, and what to do about it
    assert said in sent.stderr
    synced = mm("sync", "-d", "pets")
    assert said in synced.stderr
    receipt = mm("receipt", "twenty", "-d", "pets")
    assert said in receipt.stderr
    assert receipt.stdout.count("number_invalid") == 1


# -- the other dataset, of tables alone -----------------------------------------------------------


def test_images_for_a_dataset_without_images_are_nothing_used(project: Path) -> None:
    path = project / "images.zip"
    path.write_bytes(zipped({"a.png": draw_image(1)}))
    refused = mm("upload", path, "-d", "tables")
    assert refused.exit_code == 2
    assert "image_unexpected 1 (a.png)" in refused.stderr
    assert mm("upload", path, "-d", "tables", "--anyway").exit_code == 2
    assert mm("sync", "-d", "tables").exit_code == 2


def test_a_training_of_nothing_is_2_and_a_failed_prediction_is_used_in_part(project: Path) -> None:
    nothing = mm("train", "-d", "tables")
    assert nothing.exit_code == 2
    assert "✗ tables: train: nothing used: no model was trained: " in nothing.stderr
    rows = [f"k{n},{n % 20},{'cat' if n % 20 < 10 else 'dog'}" for n in range(80)]
    path = project / "labelled.zip"
    path.write_bytes(zipped({"t.csv": table("id,age,label", *rows)}))
    assert mm("upload", path, "-d", "tables").exit_code == 0
    assert mm("sync", "-d", "tables").exit_code == 0
    trained = mm("train", "-d", "tables")
    assert trained.exit_code == 0, trained.stderr
    path = project / "touchy.zip"
    path.write_bytes(zipped({"t.csv": table("id,age", "x,99")}))
    assert mm("upload", path, "-d", "tables").exit_code == 0
    synced = mm("sync", "-d", "tables")
    assert synced.exit_code == 3, synced.stderr
    assert "1 of 1 predictions failed: prediction_failed 1 (x)" in synced.stderr
    [newest] = json.loads(mm("uploads", "-d", "tables", "--limit", "1", "--format", "json").stdout)
    assert newest["state"] == "waiting"
    assert "prediction_failed" in newest["words"]


# -- edges ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "end"),
    [
        ({"t.csv": table(HEADER, "a,1,red,"), "a-1.png": draw_image(1)}, End.USED),
        ({"t.csv": table(HEADER, "a,1,red,", "b,1,5,red,")}, End.IN_PART),
        ({"orphan-1.png": draw_image(2)}, End.USED),
        ({"labels.csv": table("id,label", "a,cat")}, End.USED),
        ({"t.csv": table(HEADER)}, End.NOTHING),
        ({"t.csv": table(HEADER), "orphan-1.png": draw_image(2)}, End.USED),
        ({"bad.csv": table("x,y", "1,2"), "orphan-1.png": draw_image(2)}, End.IN_PART),
        ({".DS_Store": b"\0\0\0\1Bud1", "labels.csv": table("id,label", "a,cat")}, End.USED),
    ],
    ids=["all", "one good row and one bad", "images alone", "labels alone", "a header alone",
         "a header and images", "the only table refused", "a system file beside"],
)  # fmt: skip
def test_a_folder_ends_as_what_is_in_it(
    project: Path, tmp_path: Path, files: dict[str, bytes], end: End
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    name = str(abs(hash(tuple(files))))
    sent = mm("upload", folder, "-d", "pets", "--name", name)
    assert sent.exit_code == end.exit_code, sent.stderr


def test_what_cannot_be_an_upload_is_2(project: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    empty, linked, good = tmp_path / "empty", tmp_path / "linked", tmp_path / "good"
    for folder in (empty, linked, good):
        folder.mkdir()
    (linked / "a.csv").symlink_to("/etc/passwd")
    (good / "t.csv").write_bytes(table(HEADER, "z,1,red,", "y,one,red,"))
    (tmp_path / "answers.json").write_text("{")
    assert mm("upload", good, "-d", "pets", "--name", "taken").exit_code == 3
    (good / "t.csv").write_bytes(table(HEADER, "z,2,red,", "y,one,red,"))
    for code, *arguments in (
        ("upload_kind", "upload", tmp_path / "pipe.csv"),
        ("upload_missing", "upload", tmp_path / "nowhere"),
        ("upload_empty", "upload", empty),
        ("upload_empty", "upload", empty, "--anyway"),
        ("unsafe_name", "upload", linked),
        ("unsafe_name", "upload", linked, "--anyway"),
        ("upload_name", "upload", good, "--name", "../x"),
        ("name_taken", "upload", good, "--name", "taken"),
        ("upload_not_sent", "upload", good, "--strict"),
        ("upload_unknown", "receipt", "never"),
        ("upload_unknown", "retry", "never"),
        ("answers_unreadable", "review", "import", tmp_path / "answers.json"),
    ):
        done = mm(*arguments, "-d", "pets")
        assert done.exit_code == 2, (code, done.stderr)
        assert f"[{code}]" in done.stderr
