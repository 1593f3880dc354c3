"""What is said of a folder or a zip before it is sent: the same as the receiving side will say."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.errors import UploadError
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.predictions.receipt import build_receipt
from mm_assets.tables.open import open_store
from mm_assets.uploads.check import check
from mm_assets.uploads.find import find_uploads
from mm_assets.uploads.receive import receive
from mm_assets.uploads.send import send
from tests.make import drop_folder, plain_image, processed, received, rows_of
from tests.reading import heic_files as heic


@pytest.fixture
def spec() -> DatasetSpec:
    return DatasetSpec.model_validate(
        {
            "dataset": "pets",
            "id_column": "id",
            "label_column": "label",
            "problem_type": "binary",
            "columns": {"age": "number"},
            "image_name": "{id}-{n}",
        }
    )


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def test_what_is_neither_a_file_nor_a_folder_is_refused_in_words(
    tmp_path: Path, spec: DatasetSpec
) -> None:
    pipe = tmp_path / "pets.csv"
    os.mkfifo(pipe)
    for path, code in ((pipe, "upload_kind"), (tmp_path / "nowhere", "upload_missing")):
        with pytest.raises(UploadError) as error:
            check(path, spec)
        assert error.value.code == code


@pytest.fixture
def messy() -> dict[str, bytes]:
    return {
        "pets.csv": b"id,age,label\nP01,1,yes\nP02,2\nP03,3,no\n",
        "wrong.csv": b"id,size\nP01,1\n",
        "no-id.csv": b"name,age\nx,1\n",
        "labels.csv": b"id,label\nP04,yes\n",
        "P01-1.jpg": plain_image((100, 90, 60), kind="JPEG"),
        "P02-1.jpg": plain_image((100, 90, 60), kind="JPEG")[:-10],
        "P03-1.png": b"",
        "cover.jpg": plain_image((100, 90, 60), kind="JPEG"),
        "raw-1.cr3": b"\0\0\0\x18ftypcrx \0\0\0\1",
        "report.pdf": b"%PDF-1.7 ...",
    }


EXPECTED = {
    "wrong.csv": "table_columns",
    "no-id.csv": "table_no_id",
    "pets.csv": "row_width",
    "P02-1.jpg": "image_unreadable",
    "P03-1.png": "image_empty",
    "cover.jpg": "image_name",
    "raw-1.cr3": "image_type",
    "report.pdf": "file_type",
}


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_the_check_finds_each_problem_and_says_what_to_do(
    kind: str, messy: dict[str, bytes], tmp_path: Path, spec: DatasetSpec
) -> None:
    path = tmp_path / "messy"
    if kind == "zip":
        path = zipped(tmp_path / "messy.zip", messy)
    else:
        path.mkdir()
        for name, data in messy.items():
            (path / name).write_bytes(data)
    told: list[tuple[int, int, str]] = []
    report = check(path, spec, lambda *now: told.append(now))
    assert report.refused is None
    assert {problem.file: problem.code for problem in report.problems} == EXPECTED
    assert all(problem.todo for problem in report.problems)
    assert next(p.line for p in report.problems if p.code == "row_width") == 3
    assert report.counts == {
        "files": 10, "images": 1, "tables": 2, "quarantined": 7, "rows": 4, "rejected": 1
    }  # fmt: skip
    assert told[-1][0] == told[-1][1] == sum(map(len, messy.values()))
    json.dumps(report.as_dict())


def test_the_check_says_what_the_receiving_side_will_say(
    messy: dict[str, bytes], tmp_path: Path, spec: DatasetSpec, folder_settings: Settings
) -> None:
    path = zipped(tmp_path / "messy.zip", {**messy, "__MACOSX/._x": b"x"})
    report = check(path, spec)
    assert report.left_out == ["__MACOSX/._x"]
    lake = Lake(folder_settings)
    send(lake, path, "pets")
    [source] = find_uploads(lake, "pets").finished
    receipt = receive(lake, spec, source, run_id="r", progress=lambda _text: None)
    assert receipt["counts"] == report.counts
    by_code = {**receipt["quarantined_by_code"], "row_width": 1}
    assert by_code.pop("system_file") == 1
    assert by_code == report.problems_by_code


def test_a_zip_that_would_be_refused_whole_is_told_as_refused(
    tmp_path: Path, spec: DatasetSpec
) -> None:
    for number, files in enumerate(({"../x.csv": b"id\n"}, {})):
        path = zipped(tmp_path / f"{number}.zip", files)
        refused = check(path, spec).refused
        assert refused is not None
        assert refused.todo
    cut = zipped(tmp_path / "cut.zip", {"a.csv": b"id,age\n1,1\n"})
    cut.write_bytes(cut.read_bytes()[:-10])
    report = check(cut, spec)
    assert report.refused is not None
    assert report.as_dict()["refused"]["code"] == "archive_unreadable"


def test_large_files_of_the_sender_stay_where_they_are(
    tmp_path: Path, spec: DatasetSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mm_assets.uploads.check.IN_MEMORY", 8)  # so that these are large
    files = {"pets.csv": b"id,age,label\nP01,1,yes\n", "film.mp4": b"\0\0\0\x18ftypmp42" * 9}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    report = check(tmp_path, spec)
    assert report.problems_by_code == {"file_type": 1}
    assert report.counts["rows"] == 1
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files


def test_a_folder_of_a_phone_and_a_scanner_is_used_and_says_what_is_the_first_of_several(
    tmp_path: Path, spec: DatasetSpec, settings: Settings
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "P01-1.heic").write_bytes(heic.PLAIN)
    (folder / "P02-1.HEIC").write_bytes(heic.THREE)
    page = Image.new("L", (60, 40), 200)
    page.save(folder / "P03-1.tiff", save_all=True, append_images=[page, page, page])
    report = check(folder, spec)
    assert (report.counts["images"], report.problems) == (3, [])
    assert report.as_dict()["first_of_several"] == report.first_of_several
    (words,) = report.first_of_several
    assert words.endswith("2 files with several frames or pages: P02-1.HEIC (3), P03-1.tiff (4)")
    lake, store = Lake(settings), open_store(settings)
    drop_folder(lake, "u", {file.name: file.read_bytes() for file in folder.iterdir()})
    processed(lake, store, spec, "u")
    listed = rows_of(lake, received(lake, spec, "u"), "files.parquet")
    frames = {file["file"]: file["frames"] for file in listed}
    assert frames == {"P01-1.heic": 1, "P02-1.HEIC": 3, "P03-1.tiff": 4}
    receipt = build_receipt(lake, store, spec, received(lake, spec, "u")["upload"])
    assert receipt["first_of_several"] == report.first_of_several
    reasons = {file["file"]: file["reason"] for file in receipt["files"]}
    assert "3 images" not in (reasons["P01-1.heic"] or "")
    assert "it holds 3 images" in reasons["P02-1.HEIC"]
