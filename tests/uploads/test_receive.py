"""Every file of an upload has a fate, and what is kept is the same each time."""

from __future__ import annotations

import io
import json
import os
import tempfile
import tracemalloc
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.errors import REFUSALS, LakeError
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.uploads.find import Source, announced_files
from mm_assets.uploads.receive import receive
from mm_assets.uploads.received import read_images, read_parquet, read_sample_images
from tests.make import (
    announcement,
    dataset,
    draw_image,
    drop_folder,
    drop_zip,
    found,
    received,
    rows_of,
    table,
    zipped,
)

PNG = draw_image(1)
JPEG = draw_image(2, "JPEG", 64)
GOOD_TABLE = table("id,age,colour", "1,2,red", "2,3,blue")
Fate = tuple[str, str | None]

# name: content, kind, the code it is refused with
FILES: dict[str, tuple[bytes, str, str | None]] = {
    "images/1.jpg": (JPEG, "image", None),
    "images/2.png": (PNG, "image", None),
    "3.webp": (draw_image(3, "WEBP"), "image", None),
    "4.png": (JPEG, "image", None),  # a JPEG by its content
    "5.csv": (draw_image(5), "image", None),  # an image by its content
    "no-suffix": (draw_image(6), "image", None),
    "rows.csv": (GOOD_TABLE, "table", None),
    "rows.jpg": (table("id,age,colour", "7,1,red"), "table", None),  # a table by its content
    "cut.jpg": (JPEG[:-20], "image", "image_unreadable"),
    "cut.png": (PNG[:-30], "image", "image_unreadable"),
    "noise.jpg": (bytes(range(256)) * 8, "image", "image_unreadable"),
    "page.jpg": (b"<html>404 Not Found</html>\n", "image", "image_unreadable"),
    "empty.jpg": (b"", "unknown", "image_empty"),
    "empty.csv": (b"", "unknown", "file_type"),
    "still.gif": (draw_image(8, "GIF"), "image", None),
    "camera.cr3": (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "image", "image_type"),
    "film.mp4": (b"\0\0\0\x18ftypmp42" + bytes(100), "unknown", "file_type"),
    "notes.txt": (b"dear all,\nhere are the images\n", "table", "table_no_id"),
    "no-id.csv": (table("number,age,colour", "1,2,red"), "table", "table_no_id"),
    "no-age.csv": (table("id,colour,label", "1,red,cat"), "table", "table_columns"),
    "twice.csv": (table("id,id,age,colour", "1,1,2,red"), "table", "table_header"),
    "nul.csv": (b"id,age,colour\n1,2,re\0d\n", "table", "table_nul"),
    "utf16-cut.csv": (GOOD_TABLE.decode().encode("utf-16")[:-1], "table", "table_encoding"),
    "utf8-cut.csv": (
        "id,age,colour\n1,2,grün\n2,2,gr".encode() + b"\xc3",
        "table",
        "table_encoding",
    ),
    "french-or-czech.csv": (
        "id,age,colour\n1,2,élève\n".encode("cp1252"),
        "table",
        "table_encoding",
    ),
    ".DS_Store": (b"\0\0\0\1Bud1", "system", "system_file"),
    "images/._1.jpg": (b"\0\x05\x16\x07\0\2\0\0Mac OS X", "system", "system_file"),
    "sub/Thumbs.db": (b"\xd0\xcf\x11\xe0", "system", "system_file"),
    "__MACOSX/._1.jpg": (b"\0\5\x16\7", "system", "system_file"),
}


def fates(lake: Lake, receipt: dict[str, Any]) -> dict[str, Fate]:
    return {f["file"]: (f["kind"], f["code"]) for f in rows_of(lake, receipt, "files.parquet")}


def check_counts(lake: Lake, receipt: dict[str, Any]) -> None:
    """Law 1: files in = images + tables + quarantined, and every refusal has its reason."""
    counts = receipt["counts"]
    files = rows_of(lake, receipt, "files.parquet")
    refused = [file for file in files if file["code"]]
    assert counts["files"] == len(files)
    assert counts["quarantined"] == len(refused) == sum(receipt["quarantined_by_code"].values())
    assert counts["files"] == counts["images"] + counts["tables"] + counts["quarantined"]
    assert all(file["code"] in REFUSALS and file["reason"] for file in refused)
    assert len(rows_of(lake, receipt, "images.parquet")) == counts["images"]
    assert len(receipt["tables"]) == counts["tables"]
    kept = sum(len(rows_of(lake, receipt, t["rows_file"])) for t in receipt["tables"])
    assert counts["rows"] == kept + counts["rejected"]
    assert counts["rejected"] == len(rows_of(lake, receipt, "rejects.parquet"))


@pytest.fixture(params=["zip", "folder"])
def drop(request: pytest.FixtureRequest) -> Callable[..., None]:
    return drop_zip if request.param == "zip" else drop_folder


@pytest.fixture
def spec() -> DatasetSpec:
    return dataset()


def test_every_kind_of_file_has_its_fate(
    lake: Lake, spec: DatasetSpec, drop: Callable[..., None]
) -> None:
    drop(lake, "a.zip", {name: content for name, (content, _, _) in FILES.items()})
    receipt = received(lake, spec, "a.zip")
    assert fates(lake, receipt) == {name: (kind, code) for name, (_, kind, code) in FILES.items()}
    assert receipt["refused"] is None
    check_counts(lake, receipt)
    images = {row["file"]: row for row in rows_of(lake, receipt, "images.parquet")}
    assert images["images/1.jpg"]["record_id"] == "1"
    for row in images.values():
        with Image.open(io.BytesIO(row["image"])) as image:
            assert image.mode == "RGB"
            assert max(image.size) == spec.image_longest_side


def test_an_image_whose_name_holds_no_id_is_refused(lake: Lake) -> None:
    drop_zip(lake, "a.zip", {"1-1.png": PNG, "front.png": PNG, "rows.csv": GOOD_TABLE})
    receipt = received(lake, dataset(image_name="{id}-{n}"), "a.zip")
    assert fates(lake, receipt)["front.png"] == ("image", "image_name")
    assert receipt["counts"]["images"] == 1


def test_an_image_whose_name_holds_an_id_that_no_record_can_have_is_refused(lake: Lake) -> None:
    names = {" .png": "image_name", "...png": "image_name", "a\u0085.png": "image_name",
             "\u0958" * 100 + "a.png": None, "\u0958" * 180 + ".png": "id_too_long"}  # fmt: skip
    if not lake.settings.is_s3:  # a name in a folder has at most 255 bytes
        names = {n: code for n, code in names.items() if len(n.encode()) < 256}
    for name in names:
        lake.write(f"inbox/pets/u/{name}", PNG)
    lake.write("inbox/pets/u/upload_size.json", json.dumps({"n_files": len(names)}).encode())
    receipt = received(lake, dataset(), "u")
    assert fates(lake, receipt) == {name: ("image", code) for name, code in names.items()}
    reasons = [file["reason"] for file in rows_of(lake, receipt, "files.parquet") if file["code"]]
    assert all("the ID" in reason for reason in reasons)


def test_an_empty_archive_is_an_upload_without_data(lake: Lake, spec: DatasetSpec) -> None:
    drop_zip(lake, "none.zip", {})
    receipt = received(lake, spec, "none.zip")
    assert receipt["refused"] is None
    assert set(receipt["counts"].values()) == {0}


def test_a_number_in_an_image_name_may_be_longer_than_any_machine_word(lake: Lake) -> None:
    drop_zip(lake, "a.zip", {f"1-{'9' * 40}.png": PNG, "1-2.png": PNG})
    receipt = received(lake, dataset(image_name="{id}-{n}"), "a.zip")
    numbers = {row["file"]: row["number"] for row in rows_of(lake, receipt, "images.parquet")}
    assert numbers["1-2.png"] == 2
    assert min(numbers.values()) == 2


def test_an_image_with_too_many_pixels_is_refused(lake: Lake) -> None:
    drop_zip(lake, "a.zip", {"1.png": draw_image(1, side=200)})
    receipt = received(lake, dataset(image_maximum_megapixels=0.01), "a.zip")
    assert fates(lake, receipt) == {"1.png": ("image", "image_too_large")}


def test_an_unsafe_key_is_refused_and_its_neighbours_go_on(
    s3_settings: Settings, s3_client: Any, spec: DatasetSpec
) -> None:
    lake = Lake(s3_settings, s3_client)
    bucket, base = s3_settings.bucket_and_prefix
    hostile = ["../1.png", "a/../1.png", "a//1.png", "a/./1.png", "tab\t1.png", "a\\1.png"]
    for name in hostile:
        s3_client.put_object(Bucket=bucket, Key=f"{base}/inbox/pets/u/{name}", Body=PNG)
    lake.write("inbox/pets/u/1.png", PNG)
    lake.write("inbox/pets/u/upload_size.json", json.dumps({"n_files": 7}).encode())
    receipt = received(lake, spec, "u")
    unsafe = dict.fromkeys(hostile, ("unknown", "unsafe_name"))
    assert fates(lake, receipt) == {**unsafe, "1.png": ("image", None)}
    check_counts(lake, receipt)


def test_a_file_name_that_is_not_unicode_is_refused(
    folder_settings: Settings, spec: DatasetSpec
) -> None:
    lake = Lake(folder_settings)
    lake.write("inbox/pets/u/upload_size.json", b'{"n_files": 2}')
    lake.write("inbox/pets/u/1.png", PNG)
    folder = folder_settings.lake_folder / "inbox/pets/u"
    Path(os.fsdecode(os.fsencode(folder) + b"/2\xff.png")).write_bytes(PNG)
    receipt = received(lake, spec, "u")
    assert fates(lake, receipt) == {
        "1.png": ("image", None), "2\\udcff.png": ("unknown", "unsafe_name"),
    }  # fmt: skip


def test_what_the_marker_does_not_announce_or_announces_otherwise_is_refused(
    lake: Lake, spec: DatasetSpec
) -> None:
    announced = {"1.png": PNG, "2.png": draw_image(2), "3.png": draw_image(3)}
    drop_folder(lake, "u", announced)
    source = found(lake, "u")
    changed = bytes([*PNG[:-1], PNG[-1] ^ 1])
    lake.write("inbox/pets/u/1.png", changed)
    lake.write("inbox/pets/u/new.png", PNG)
    lake.delete("inbox/pets/u/3.png")
    receipt = receive(lake, spec, source, run_id="run", progress=lambda _: None)
    assert fates(lake, receipt) == {
        "1.png": ("unknown", "checksum_differs"),
        "2.png": ("image", None),
        "3.png": ("unknown", "checksum_differs"),
        "new.png": ("unknown", "not_announced"),
    }
    check_counts(lake, receipt)


def test_rows_are_kept_exactly_as_text_with_file_and_line(lake: Lake, spec: DatasetSpec) -> None:
    content = b'\xef\xbb\xbfid,age,colour\r\n007, 5 ,"a\r\nb"\r\nNA,1E5,""\r\nshort\r\n'
    drop_zip(lake, "a.zip", {"t.csv": content})
    receipt = received(lake, spec, "a.zip")
    (first,) = receipt["tables"]
    assert (first["columns"], first["rows"], first["rejected"]) == (["id", "age", "colour"], 3, 1)
    assert [tuple(row.values()) for row in rows_of(lake, receipt, first["rows_file"])] == [
        ("t.csv", 2, "007", " 5 ", "a\r\nb"), ("t.csv", 4, "NA", "1E5", ""),
    ]  # fmt: skip
    (reject,) = rows_of(lake, receipt, "rejects.parquet")
    assert (reject["code"], reject["file"], reject["line"]) == ("row_width", "t.csv", 5)
    assert reject["todo"] == REFUSALS["row_width"]


def test_several_tables_of_an_upload_are_kept_apart(lake: Lake, spec: DatasetSpec) -> None:
    drop_zip(
        lake,
        "a.zip",
        {
            "b.tsv": b"colour\tid\tage\textra\nred\t1\t2\tx\n",
            "a.csv": GOOD_TABLE,
            "labels.csv": table("id,label", "1,cat"),
            "none.csv": table("id,age,colour"),
        },
    )
    receipt = received(lake, spec, "a.zip")
    told = [(t["file"], t["labels_only"], t["rows"]) for t in receipt["tables"]]
    assert told == [
        ("a.csv", False, 2), ("b.tsv", False, 1), ("labels.csv", True, 1), ("none.csv", False, 0),
    ]  # fmt: skip
    check_counts(lake, receipt)


def test_an_upload_received_twice_has_the_same_files(
    lake: Lake, spec: DatasetSpec, drop: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = {name: content for name, (content, _, _) in FILES.items()}
    contents |= {f"more/{number}.png": draw_image(number) for number in range(40)}
    drop(lake, "a.zip", contents)
    first = received(lake, spec, "a.zip")
    before = [item.key for item in lake.list("datasets/")]
    monkeypatch.setattr(os, "cpu_count", lambda: 7)  # another machine
    again = received(lake, spec, "a.zip")
    assert again["files"] == first["files"]
    assert [item.key for item in lake.list("datasets/")] == before
    changing = {"published_at"}
    assert {k: v for k, v in again.items() if k not in changing} == {
        k: v for k, v in first.items() if k not in changing
    }


def corrupt_zip() -> bytes:
    """A zip with 60 good images and a table, whose last entry has a wrong checksum."""
    files = {f"{number}.png": draw_image(number) for number in range(60)}
    data = bytearray(zipped({**files, "t.csv": GOOD_TABLE, "last.bin": b"A" * 1000}))
    data[data.index(b"A" * 1000) + 5] ^= 1
    return bytes(data)


def encrypted_zip() -> bytes:
    data = bytearray(zipped({"1.png": PNG}))
    data[data.index(b"PK\x01\x02") + 8] |= 1
    data[6] |= 1
    return bytes(data)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"no zip", "archive_"),
        (b"", "archive_"),
        (zipped({"1.png": PNG})[:-10], "archive_"),
        (zipped({"../1.png": PNG}), "archive_unsafe_name"),
        (encrypted_zip(), "archive_encrypted"),
        (corrupt_zip(), "archive_corrupt"),
    ],
)
def test_an_archive_that_is_refused_has_a_receipt_that_says_why_and_no_rows(
    lake: Lake, spec: DatasetSpec, content: bytes, code: str
) -> None:
    lake.write("inbox/pets/bad.zip", content)
    receipt = received(lake, spec, "bad.zip")
    assert receipt["refused"]["code"].startswith(code)
    assert receipt["refused"]["what"]
    assert receipt["refused"]["todo"]
    assert "bad.zip" in receipt["refused"]["where"]
    assert set(receipt["counts"].values()) == {0}
    assert receipt["tables"] == []
    for name in ("files.parquet", "images.parquet", "rejects.parquet"):
        assert rows_of(lake, receipt, name) == []


def test_a_refusal_after_many_images_leaves_no_image_in_the_receipt(
    lake: Lake, spec: DatasetSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mm_assets.uploads.image_file.ROW_GROUP_BYTES", 100)
    lake.write("inbox/pets/bad.zip", corrupt_zip())
    receipt = received(lake, spec, "bad.zip")
    with lake.open(receipt["files"]["images.parquet"]["key"]) as file:
        assert pq.ParquetFile(file).metadata.num_rows == 0
    size = receipt["files"]["images.parquet"]["bytes"]
    lake.write("inbox/pets/never.zip", b"no zip")
    assert size == received(lake, spec, "never.zip")["files"]["images.parquet"]["bytes"]


def test_an_upload_that_is_gone_is_superseded_and_keeps_an_earlier_receipt(
    lake: Lake, spec: DatasetSpec, drop: Callable[..., None]
) -> None:
    drop(lake, "a.zip", {"1.png": PNG})
    first = found(lake, "a.zip")
    receipt = received(lake, spec, "a.zip")
    drop(lake, "a.zip", {"1.png": PNG, "2.png": draw_image(2)})
    assert receive(lake, spec, first, run_id="again", progress=lambda _: None) == receipt
    second = found(lake, "a.zip")
    drop(lake, "a.zip", {"3.png": draw_image(3)})
    late = receive(lake, spec, second, run_id="run", progress=lambda _: None)
    assert late["refused"]["code"] == "upload_superseded"
    assert late["counts"]["files"] == 0


class Changing(Lake):
    """A lake in which an image is replaced as soon as the first one is read."""

    def read(self, key: str) -> bytes:
        data = super().read(key)
        self.write("inbox/pets/u/1.png", draw_image(9))
        return data


def test_a_folder_that_changes_while_it_is_received_is_superseded(
    lake: Lake, spec: DatasetSpec
) -> None:
    for number in range(3):
        lake.write(f"inbox/pets/u/{number}.png", draw_image(number))
    lake.write("inbox/pets/u/upload_size.json", b'{"n_files": 3}')
    source = found(lake, "u")
    changing = Changing(lake.settings, lake._s3_client)
    receipt = receive(changing, spec, source, run_id="run", progress=lambda _: None)
    assert receipt["refused"]["code"] == "upload_superseded"
    assert rows_of(lake, receipt, "images.parquet") == []


def many_images(path: Path, count: int, size: int) -> None:
    """A zip of `count` images of about `size` bytes; each a PNG with something behind its end."""
    with zipfile.ZipFile(path, "w") as archive:
        filling = os.urandom(size)
        for number in range(count):
            archive.writestr(f"{number}.png", draw_image(number % 50) + filling)


def peak_of_receiving(lake: Lake, spec: DatasetSpec, source: Source) -> tuple[int, int]:
    """The peak of Python's memory while receiving, in bytes, and the number of images."""
    tracemalloc.start()
    try:
        receipt = receive(lake, spec, source, run_id="run", progress=lambda _: None)
        return tracemalloc.get_traced_memory()[1], receipt["counts"]["images"]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_archive(
    folder_settings: Settings, spec: DatasetSpec, tmp_path: Path
) -> None:
    lake = Lake(folder_settings)
    peaks = {}
    for count in (100, 1000):
        many_images(tmp_path / "zip", count, 100_000)
        lake.write(f"inbox/pets/{count}.zip", tmp_path / "zip")
        peaks[count], images = peak_of_receiving(lake, spec, found(lake, f"{count}.zip"))
        assert images == count
    # 100 MB came in; what grows is one line about each file and the archive's own directory.
    assert peaks[1000] - peaks[100] < 5 << 20, peaks


def test_nothing_is_left_in_the_temporary_folder(
    lake: Lake, spec: DatasetSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setattr("mm_assets.uploads.deliver.IN_MEMORY", 500)
    contents = {name: content for name, (content, _, _) in FILES.items()}
    long = table("id,age,colour", *(f"{i},1,red" for i in range(200)))
    drop_zip(lake, "a.zip", {**contents, "long.csv": long})
    drop_folder(lake, "b", {**contents, "long.csv": long})
    lake.write("inbox/pets/bad.zip", corrupt_zip())
    for name in ("a.zip", "b", "bad.zip"):
        receipt = received(lake, spec, name)
        if name != "bad.zip":
            assert receipt["counts"]["rows"] == 203
        assert list(temporary.iterdir()) == []


def test_a_lake_that_breaks_while_receiving_publishes_nothing(
    lake: Lake, spec: DatasetSpec
) -> None:
    class Breaking(Lake):
        def write(self, key: str, data: bytes | Path) -> None:
            if "/raw_uploads" in key:
                raise LakeError(code="lake_unreachable", what="the cable was pulled")
            super().write(key, data)

    drop_zip(lake, "a.zip", {"1.png": PNG})
    source = found(lake, "a.zip")
    breaking = Breaking(lake.settings, lake._s3_client)
    with pytest.raises(LakeError):
        receive(breaking, spec, source, run_id="run", progress=lambda _: None)
    assert lake.read_json(f"datasets/pets/uploads/{source.upload}/raw_uploads.json") is None


# -- reading what was received --------------------------------------------------------------------


def test_images_are_read_by_their_sha256_and_others_are_not(
    lake: Lake, spec: DatasetSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mm_assets.uploads.image_file.ROW_GROUP_BYTES", 300)
    drop_zip(lake, "a.zip", {f"{number}.png": draw_image(number) for number in range(30)})
    receipt = received(lake, spec, "a.zip")
    rows = rows_of(lake, receipt, "images.parquet")
    wanted = {row["sha256"]: row["image"] for row in rows[5:25:3]}
    parts = list(read_images(lake, "pets", receipt["upload"], wanted.keys()))
    assert len(parts) > 1
    assert {sha: data for part in parts for sha, data in part.items()} == wanted
    with pytest.raises(LakeError) as caught:
        list(read_images(lake, "pets", receipt["upload"], {"f" * 64}))
    assert caught.value.code == "image_lost"


def test_a_sample_of_the_images_comes_with_their_ids(lake: Lake, spec: DatasetSpec) -> None:
    drop_zip(lake, "a.zip", {f"{number}.png": draw_image(number) for number in range(5)})
    receipt = received(lake, spec, "a.zip")
    assert [lines for _, lines in read_sample_images(lake, receipt, 3)] == [["0"], ["1"], ["2"]]
    drop_zip(lake, "none.zip", {"t.csv": GOOD_TABLE})
    assert read_sample_images(lake, received(lake, spec, "none.zip"), 3) == []


def test_an_announcement_counts_each_name_once() -> None:
    files = {"a": b"1", "b": b"22"}
    assert {name: size for name, (size, _) in announced_files(announcement(files)).items()} == {
        "a": 1, "b": 2,
    }  # fmt: skip


def test_the_receipt_says_how_often_each_code_was_given(lake: Lake, spec: DatasetSpec) -> None:
    drop_zip(lake, "a.zip", {name: content for name, (content, _, _) in FILES.items()})
    receipt = received(lake, spec, "a.zip")
    expected = Counter(code for _, _, code in FILES.values() if code)
    assert receipt["quarantined_by_code"] == dict(expected)
    assert read_parquet(lake, receipt, "files.parquet").num_rows == len(FILES)
