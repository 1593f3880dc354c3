"""Archives among the files of an upload, clutter and copies, through the whole way in."""

from __future__ import annotations

import gzip
import io
import random
import zipfile
from pathlib import Path
from typing import Any

import pytest

from mm_assets.contract.ends import End
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import inbox
from mm_assets.manifest.before import judge_rows
from mm_assets.predictions.receipt import build_receipt
from mm_assets.tables.open import open_store
from mm_assets.uploads.archives.rules import CAPS, Caps
from mm_assets.uploads.check import check, safe_name
from mm_assets.uploads.clutter import clutter
from mm_assets.uploads.copies import is_in_backup
from mm_assets.uploads.delivered import Delivered
from mm_assets.uploads.inside import archives_opened
from mm_assets.uploads.ledger import resolve
from mm_assets.uploads.read_as import in_words
from mm_assets.uploads.send import send
from mm_assets.uploads.take_in import take_in
from tests.make import (
    dataset,
    draw_image,
    drop_folder,
    drop_zip,
    found,
    processed,
    received,
    rows_of,
    table,
    zipped,
)
from tests.uploads.archives.made import PACKERS, sevened, tarred

SPEC = dataset(image_name="{id}")
TABLE = table("id,age,colour,label", "a,1,red,cat", "b,2,blue,dog")
IMAGES = {"a.png": draw_image(1), "b.png": draw_image(2)}
FILES = {"t.csv": TABLE, **IMAGES}
ARCHIVES = {
    "zip": (".zip", zipped), "tar": (".tar", tarred), "7z": (".7z", sevened),
    **{name: (suffix, lambda files, name=name: PACKERS[name](tarred(files)))
       for name, suffix in {"gzip": ".tar.gz", "bzip2": ".tar.bz2", "xz": ".tar.xz",
                            "zstd": ".tar.zst"}.items()},
}  # fmt: skip


@pytest.fixture
def lake(folder_settings: Settings) -> Lake:
    return Lake(folder_settings)


def whole(lake: Lake, name: str, settings: Settings) -> None:
    """Both records are there, each with its image."""
    document = processed(lake, open_store(settings), SPEC, name)
    rows = rows_of(lake, document, "manifest.parquet")
    assert [row["record_id"] for row in rows] == ["a", "b"]
    assert all(row["image_sha256"] for row in rows)
    assert document["counts"]["rejected"] == 0


# -- each kind of archive, all the way ------------------------------------------------------------


@pytest.mark.parametrize("kind", ARCHIVES)
def test_every_kind_of_archive_is_checked_sent_found_and_received(
    lake: Lake, folder_settings: Settings, tmp_path: Path, kind: str
) -> None:
    suffix, make = ARCHIVES[kind]
    path = tmp_path / f"my delivery{suffix}"
    path.write_bytes(make(FILES))
    report = check(path, SPEC, judge_rows=judge_rows)
    assert (report.ended.end, report.counts["records"]) == (End.USED, 2)
    sent = send(lake, path, "pets")
    assert (sent.name, sent.key) == ("my_delivery", f"inbox/pets/my_delivery{suffix}")
    assert send(lake, path, "pets").already_there
    source = found(lake, f"my_delivery{suffix}")
    assert source.kind == sent.kind == report.kind
    whole(lake, f"my_delivery{suffix}", folder_settings)
    receipt, stays = take_in(lake, SPEC, source, run_id="r", progress=lambda _: None)
    assert (receipt["refused"], stays) == (None, "")
    assert lake.stat(source.key) is None
    assert resolve(lake, "pets", source.upload) == source.upload
    assert send(lake, path, "pets").already_there  # where received uploads lie


def test_the_bytes_say_what_an_archive_is_and_not_its_name(
    lake: Lake, folder_settings: Settings, tmp_path: Path
) -> None:
    for number, (suffix, make) in enumerate(
        [(".zip", tarred), (".tar.gz", zipped), (".7z", ARCHIVES["xz"][1]), (".tgz", sevened)]
    ):
        name = f"u{number}{suffix}"
        lake.write(inbox("pets") + name, make(FILES))
        whole(lake, name, folder_settings)
    (tmp_path / "data.bin").write_bytes(gzip.compress(tarred(FILES)))
    assert send(lake, tmp_path / "data.bin", "pets", "x").key.endswith("/x.tar.gz")
    for one in ("t.csv.gz", "t.csv", "t.xlsx"):
        (tmp_path / one).write_bytes({"t.csv.gz": gzip.compress(TABLE), "t.csv": TABLE,
                                      "t.xlsx": zipped({"xl/workbook.xml": b""})}[one])  # fmt: skip
        assert check(tmp_path / one, SPEC).kind == "folder"  # of one file


def test_an_upload_is_named_without_the_ending_of_its_archive(tmp_path: Path) -> None:
    for name in ("a.b.tar.gz", "a.b.ZIP", "a.b.tzst", "a.b.7z", "a.b.tar"):
        (tmp_path / name).write_bytes(b"")
        assert safe_name(tmp_path / name) == "a.b"


# -- archives inside ------------------------------------------------------------------------------


@pytest.mark.parametrize("drop", [drop_zip, drop_folder])
@pytest.mark.parametrize("kind", ARCHIVES)
def test_an_archive_among_the_files_is_opened(
    lake: Lake, folder_settings: Settings, drop: Any, kind: str
) -> None:
    drop(lake, "u.zip", {"t.csv": TABLE, "in/images.bin": ARCHIVES[kind][1](IMAGES)})
    whole(lake, "u.zip", folder_settings)
    receipt = received(lake, SPEC, "u.zip")
    (opened,) = receipt["archives"]
    assert (opened["file"], opened["files"]) == ("in/images.bin", 2)
    files = [file["file"] for file in rows_of(lake, receipt, "files.parquet")]
    assert files == ["in/images.bin/a.png", "in/images.bin/b.png", "t.csv"]
    told = build_receipt(lake, open_store(folder_settings), SPEC, receipt["upload"])
    assert (told["archives"], told["counts"]["archives opened"]) == ([opened], 1)


def test_what_is_sent_from_a_folder_with_archives_is_what_was_checked(
    lake: Lake, folder_settings: Settings, tmp_path: Path
) -> None:
    folder = tmp_path / "delivery"
    folder.mkdir()
    (folder / "all.tar.gz").write_bytes(gzip.compress(tarred({"in.zip": zipped(IMAGES)})))
    (folder / "t.csv").write_bytes(TABLE)
    report = check(folder, SPEC, judge_rows=judge_rows)
    assert (report.ended.end, report.counts["images"]) == (End.USED, 2)
    send(lake, folder, "pets")
    whole(lake, "delivery", folder_settings)
    assert (folder / "all.tar.gz").is_file()


def opened(files: dict[str, bytes], folder: Path, caps: Caps = CAPS, **more: Any) -> Any:
    folder.mkdir(exist_ok=True)
    given = [Delivered(name, len(data), "", data) for name, data in files.items()]
    out = list(archives_opened(given, folder, caps=caps, **more))
    assert list(folder.iterdir()) == []
    return {file.name: file for file in out}


def test_deeper_than_one_archive_in_another_is_one_refused_file(tmp_path: Path) -> None:
    three = zipped({"2.zip": zipped({"3.zip": zipped({"x": b"1"}), "y": b"1"}), "z": b"2"})
    out = opened({"1.zip": three}, tmp_path / "w")
    assert out["1.zip/2.zip"].problem == "archive_nested"
    assert out.keys() == {"1.zip", "1.zip/2.zip", "1.zip/z"}
    # From an archive, the first of them is the second already.
    assert opened({"1.zip": three}, tmp_path / "w", archive_size=9)["1.zip"].problem


def test_of_a_refused_archive_nothing_is_handed_out(tmp_path: Path) -> None:
    broken = bytearray(zipped({"a": b"12345", "b": b"67890"}))
    broken[broken.index(b"67890")] ^= 1
    out = opened({"x.zip": bytes(broken), "y": b"1"}, tmp_path / "w")
    assert out.keys() == {"x.zip", "y"}
    assert out["x.zip"].problem == "archive_corrupt"
    assert "entry 'b'" in out["x.zip"].reason


def test_bombs_in_each_other_are_one_bomb(tmp_path: Path) -> None:
    """Each is within its limits; what they unpack into together is not."""
    buffer, noise = io.BytesIO(), random.Random(1).randbytes(16_000)
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(8):  # 8 MiB together, packed into a 60th
            archive.writestr(f"{number}", noise + bytes((1 << 20) - len(noise)))
    inner = buffer.getvalue()
    files = {f"{number}.zip": inner for number in range(12)}
    out = opened(files, tmp_path / "w", archive_size=len(inner))
    codes = [out[name].problem for name in files]
    assert codes[0] is None
    assert codes[-1] == "archive_bomb"
    assert sum(one.size for one in out.values() if "/" in one.name) <= 64 << 20
    # The same ones in a folder are no bomb: each was sent as it is.
    assert not any(one.problem for one in opened(files, tmp_path / "w").values())


def test_the_limits_hold_for_all_of_them_together(tmp_path: Path) -> None:
    files = {"1.zip": zipped({"a": b"123", "b": b"4"}), "2.tar": tarred({"c": b"567"})}
    for caps in (Caps(entries=2), Caps(total_bytes=6), Caps(entry_bytes=2)):
        out = opened(files, tmp_path / "w", caps)
        assert out["2.tar"].problem == "archive_too_large"
    assert len(opened(files, tmp_path / "w", Caps(entries=3, total_bytes=7))) == 5


def test_large_archives_and_files_in_them_go_through_the_disk_and_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mm_assets.uploads.delivered.IN_MEMORY", 8)
    folder = tmp_path / "w"
    folder.mkdir()
    outer = zipped({"in.zip": zipped({"big.csv": TABLE * 9})})
    given = [Delivered("u.zip", len(outer), "", outer)]
    *_, last = archives_opened(given, folder)
    assert isinstance(last.content, Path)
    assert last.content.read_bytes() == TABLE * 9
    assert [path.name for path in folder.iterdir()] == [last.content.name]


def test_documents_are_no_archives_and_other_archives_are_refused_files(
    lake: Lake, folder_settings: Settings
) -> None:
    drop_folder(lake, "u", {**FILES, "letter.docx": zipped({"word/document.xml": b""}),
                            "more.rar": b"Rar!\x1a\x07\1\0" + bytes(90)})  # fmt: skip
    whole(lake, "u", folder_settings)
    receipt = received(lake, SPEC, "u")
    assert receipt["quarantined_by_code"] == {"file_type": 2}
    assert receipt["archives"] == []
    reasons = {one["file"]: one["reason"] for one in rows_of(lake, receipt, "files.parquet")}
    assert "a RAR archive" in reasons["more.rar"]


# -- clutter --------------------------------------------------------------------------------------

CLUTTER = {
    "__MACOSX/._a.png": b"\0\5\x16\7\0\2\0\0", "._a.png": b"\0\5\x16\7\0\2\0\0", "._b.png": b"?",
    "x/.DS_Store": b"\0", "Thumbs.db": b"\xd0\xcf\x11\xe0", "x/desktop.ini": b"[.ShellClassInfo]",
    "~$t.xlsx": b"\5owner", ".~lock.t.csv#": b",me,pc,01.01.2026 10:00,file:///;",
    ".git/config": b"[core]\n", ".ipynb_checkpoints/t-checkpoint.csv": TABLE,
    "x/.idea/w.xml": b"<x/>", "@eaDir/a.png/SYNOPHOTO_THUMB_M.jpg": draw_image(3, "JPEG"),
    ".git/objects/old.zip": zipped(IMAGES),
}  # fmt: skip


@pytest.mark.parametrize("drop", [drop_zip, drop_folder])
def test_clutter_is_neither_data_nor_fault_counted_and_listed(
    lake: Lake, folder_settings: Settings, drop: Any
) -> None:
    drop(lake, "u.zip", {**CLUTTER, **FILES, "in.zip": zipped({"__MACOSX/._x": b"1"})})
    whole(lake, "u.zip", folder_settings)
    receipt = received(lake, SPEC, "u.zip")
    assert receipt["quarantined_by_code"] == {"system_file": len(CLUTTER) + 1}
    files = rows_of(lake, receipt, "files.parquet")
    listed = {file["file"]: file["reason"] for file in files if file["code"]}
    assert listed.keys() == {*CLUTTER, "in.zip/__MACOSX/._x"}
    assert all(listed.values())


def test_clutter_leaves_an_upload_used(tmp_path: Path) -> None:
    path = tmp_path / "u.zip"
    path.write_bytes(zipped({**CLUTTER, **FILES}))
    report = check(path, SPEC, judge_rows=judge_rows)
    assert (report.ended.end, report.ended.words) == (End.USED, "")
    assert sorted(report.left_out) == sorted(CLUTTER)
    folder = tmp_path / "f"
    for name, data in {**CLUTTER, **FILES}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    report = check(folder, SPEC, judge_rows=judge_rows)
    assert (report.ended.end, report.counts["files"]) == (End.USED, 3)


def test_the_icon_that_macos_gives_a_folder_is_clutter(tmp_path: Path) -> None:
    path = tmp_path / "u.zip"
    path.write_bytes(zipped({"Icon\r": b"", "__MACOSX/._Icon\r": b"\0\5\x16\7", **FILES}))
    report = check(path, SPEC, judge_rows=judge_rows)
    assert (report.ended.end, len(report.left_out)) == (End.USED, 2)
    (tmp_path / "f").mkdir()
    for name, data in {"Icon\r": b"", **FILES}.items():
        (tmp_path / "f" / name).write_bytes(data)
    report = check(tmp_path / "f", SPEC, judge_rows=judge_rows)
    assert (report.ended.end, report.left_out) == (End.USED, ["Icon\r"])


def test_what_only_looks_like_clutter_is_data() -> None:
    for name in ("t.csv", "~t.csv", "git/t.csv", "a.lock", "Thumbs/1.csv", ".hidden.csv"):
        assert clutter(name, TABLE) is None
    assert clutter("._1.png", draw_image(1)) is None  # by its bytes an image


# -- copies ---------------------------------------------------------------------------------------

NEW = table("id,age,colour,label", "a,1,red,cat", "b,2,blue,dog", "c,3,red,cat", "d,4,red,dog")
OLD = table("id,age,colour,label", "a,9,red,cat", "b,2,blue,dog", "c,3,red,cat", "e,5,red,dog")


@pytest.mark.parametrize(
    "name",
    ["backup/t.csv", "Old/t.csv", "a copy of t.csv", "an (1).csv", "a.csv.bak", "a - Copy.csv",
     "alt.backup.zip/a.csv", "a.csv~"],
)  # fmt: skip
def test_a_copy_never_wins_and_is_told(
    lake: Lake, folder_settings: Settings, tmp_path: Path, name: str
) -> None:
    files = {name: OLD, "t.csv": NEW}  # by its name alone, each copy but the last would be first
    drop_zip(lake, "u.zip", files)
    document = processed(lake, open_store(folder_settings), SPEC, "u.zip")
    rows = {row["record_id"]: row for row in rows_of(lake, document, "manifest.parquet")}
    assert rows.keys() == set("abcde")  # what only the copy has is not lost
    assert rows["a"]["features"]["age"] == 1
    rejects = rows_of(lake, document, "rejects.parquet")
    assert {(one["file"], one["record_id"], one["code"]) for one in rejects} == {
        (name, "a", "duplicate_id"), (name, "b", "duplicate_row"), (name, "c", "duplicate_row"),
    }  # fmt: skip
    told = {one["file"]: one for one in received(lake, SPEC, "u.zip")["tables"]}
    assert told[name]["copy_of"] == {"file": "t.csv", "same_rows": 2}
    assert "a copy of t.csv" in in_words(told[name])
    assert "copy_of" not in told["t.csv"]
    (tmp_path / "u.zip").write_bytes(zipped(files))
    report = check(tmp_path / "u.zip", SPEC, judge_rows=judge_rows)
    assert [one.get("copy_of", {}).get("file") for one in report.tables].count("t.csv") == 1


def test_tables_that_share_few_rows_or_another_header_are_no_copies(lake: Lake) -> None:
    other = table("id,age,colour,label", "a,1,red,cat", "x,2,blue,dog", "y,3,red,cat")
    wider = table("id,age,colour,label,more", "a,1,red,cat,1", "b,2,blue,dog,1")
    drop_zip(lake, "u.zip", {"old/1.csv": other, "old/2.csv": wider, "t.csv": NEW, "u.csv": NEW})
    assert not any("copy_of" in one for one in received(lake, SPEC, "u.zip")["tables"])


def test_words_that_only_contain_such_a_word_are_no_copies() -> None:
    for name in ("gold/t.csv", "folder/t.csv", "copyright.csv", "t(1)x.csv", "original/t.csv"):
        assert not is_in_backup(name)
