"""WebDataset tars: each sample is a row and its image, whatever the order of its files."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from mm_assets.contract.ends import End
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import inbox
from mm_assets.manifest.before import judge_rows
from mm_assets.tables.open import open_store
from mm_assets.uploads.check import check
from mm_assets.uploads.webdataset import is_webdataset
from tests.make import dataset, draw_image, drop_folder, processed, received, rows_of, zipped
from tests.uploads.archives.made import tarred

SPEC = dataset(
    id_column="__key__", label_column="cls", image_column="image",
    columns={"age": "number", "txt": "text"},
)  # fmt: skip


def shard(first: int, count: int = 4, **more: bytes) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for n in range(first, first + count):
        files[f"{n:06d}.jpg"] = draw_image(n, "JPEG")
        files[f"{n:06d}.cls"] = b"cat\n" if n % 2 else b"dog"
        files[f"{n:06d}.json"] = json.dumps({"age": n}, indent=1).encode()
        files[f"{n:06d}.txt"] = f"the animal number {n}".encode()
    return {**files, **more}


def sent(settings: Settings, files: dict[str, bytes], spec: Any = SPEC) -> tuple[Any, ...]:
    lake, store = Lake(settings), open_store(settings)
    drop_folder(lake, "u", files)
    document = processed(lake, store, spec, "u")
    return document, received(lake, spec, "u"), rows_of(lake, document, "manifest.parquet"), lake


def test_the_shards_of_a_folder_are_one_upload(folder_settings: Settings) -> None:
    shards = {f"train-{n:04d}.tar": tarred(shard(4 * n)) for n in range(3)}
    document, receipt, rows, _ = sent(folder_settings, shards)
    counts = document["counts"]
    assert (counts["records"], counts["with_image"], counts["labelled"]) == (12, 12, 12)
    assert receipt["counts"]["quarantined"] == 0
    by_id = {row["record_id"]: row for row in rows}
    assert by_id["000007"]["features"] == {"age": 7.0, "txt": "the animal number 7"}
    assert by_id["000007"]["image_file"] == "train-0001.tar/000007.jpg"
    assert [entry["file"] for entry in receipt["tables"]] == [
        f"train-{n:04d}.tar/samples.jsonl" for n in range(3)
    ]


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_a_tar_alone_is_an_upload(folder_settings: Settings, suffix: str, tmp_path: Path) -> None:
    lake, store = Lake(folder_settings), open_store(folder_settings)
    name, data = f"u{suffix}", tarred(shard(0))
    data = gzip.compress(data) if suffix == ".tar.gz" else data
    lake.write(f"{inbox('pets')}{name}", data)
    counts = processed(lake, store, SPEC, name)["counts"]
    assert (counts["records"], counts["with_image"]) == (4, 4)
    (tmp_path / name).write_bytes(data)
    report = check(tmp_path / name, SPEC, judge_rows=judge_rows)
    assert report.ended.end is End.USED
    assert report.counts["images"] == 4


def test_a_sample_may_lie_apart_and_lack_parts(folder_settings: Settings) -> None:
    """First all images, then the rest; one sample without an image, one without a label."""
    files = shard(0)
    files = dict(sorted(files.items(), key=lambda one: not one[0].endswith("jpg")))
    del files["000001.jpg"], files["000002.cls"]
    document, _, rows, _ = sent(folder_settings, {"t.tar": tarred(files)})
    counts = document["counts"]
    assert (counts["records"], counts["with_image"], counts["labelled"]) == (4, 3, 3)
    assert {row["record_id"] for row in rows if not row["image_sha256"]} == {"000001"}


def test_a_bad_part_costs_itself(folder_settings: Settings) -> None:
    files = shard(0)
    files["000000.json"] = b'{"age": 1'
    files["000001.json"] = b"[1]"
    files["000002.txt"] = b"\xff\xfe\xfd"
    files["000003.txt"] = b"x" * (1 << 20) + b"y"
    files["000003.jpg"] = b"no image"
    document, receipt, _, lake = sent(folder_settings, {"t.tar": tarred(files)})
    codes = {
        one["file"]: one["code"] for one in rows_of(lake, receipt, "files.parquet") if one["code"]
    }
    assert codes == {
        "t.tar/000000.json": "table_json", "t.tar/000001.json": "table_json",
        "t.tar/000002.txt": "table_encoding", "t.tar/000003.txt": "table_row_too_long",
        "t.tar/000003.jpg": "image_unreadable",
    }  # fmt: skip
    assert document["counts"]["records"] == 4


def test_fields_are_exactly_what_stands_in_the_json(folder_settings: Settings) -> None:
    spec = dataset(
        id_column="id", label_column="cls", image_column="image",
        columns={"code": "category", "price": "number"},
    )  # fmt: skip
    files = {
        "in/a.b.jpg": draw_image(1, "JPEG"),
        "in/a.json": b'{"id": 12345678901234567890, "code": 1.10,\n "image": "http://x/y.jpg"}',
        "in/c.json": b'{"id": "c", "code": "007",\r\n "price": 1e3}', "in/c.png": draw_image(2),
    }  # fmt: skip
    document, _, rows, _ = sent(folder_settings, {"t.tar": tarred(files)}, spec)
    by_id = {row["record_id"]: row for row in rows}
    assert by_id.keys() == {"12345678901234567890", "c"}
    assert by_id["c"]["features"] == {"code": "007", "price": 1000.0}
    assert document["counts"]["with_image"] == 2


def test_keys_in_folders_are_ids_without_slashes(folder_settings: Settings) -> None:
    files = {f"{folder}/1.{kind}": data for folder in "ab"
             for kind, data in (("png", draw_image(ord(folder))), ("cls", b"cat"))}  # fmt: skip
    spec = dataset(id_column="__key__", label_column="cls", image_column="image", columns={})
    document, _, rows, _ = sent(folder_settings, {"t.tar": tarred(files)}, spec)
    assert {row["record_id"] for row in rows} == {"a-1", "b-1"}
    assert document["counts"]["with_image"] == 2


@pytest.mark.parametrize(
    "names",
    [
        ["a.jpg", "b.jpg", "records.csv"],  # an ordinary upload
        ["a.jpg", "a.txt", "records.csv"],
        ["a.jpg", "b.jpg", "c.jpg", "readme.txt"],
        ["records.json", "notes.txt"],
        ["cats/1.jpg", "dogs/1.jpg"],
        ["._a.jpg", "._a.txt", "a.jpg"],
        [],
    ],
)
def test_an_ordinary_tar_is_none(names: list[str]) -> None:
    assert not is_webdataset(names)


def test_a_zip_is_none(folder_settings: Settings) -> None:
    _, receipt, _, _ = sent(folder_settings, {"t.zip": zipped(shard(0))})
    assert not any(entry["file"].endswith("samples.jsonl") for entry in receipt["tables"])


def test_a_tar_cut_anywhere_is_one_refused_file(folder_settings: Settings) -> None:
    whole = tarred(shard(0))
    lake, store = Lake(folder_settings), open_store(folder_settings)
    for number, stop in enumerate(range(600, len(whole) - 1024, len(whole) // 6)):
        drop_folder(
            lake, f"u{number}", {"t.tar": whole[:stop], "g.csv": b"__key__,age,txt\ng,1,x\n"}
        )
        assert processed(lake, store, SPEC, f"u{number}")["counts"]["records"] == 1
        assert received(lake, SPEC, f"u{number}")["quarantined_by_code"].keys() == {
            "archive_unreadable"
        }
