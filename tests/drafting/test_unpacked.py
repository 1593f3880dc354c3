"""`mm init` on archives says of them what it says of the folder that was packed."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import pytest

import mm_assets as mm
from mm_assets.contract.ends import End
from mm_assets.contract.errors import SpecError
from mm_assets.drafting import unpacked as module
from mm_assets.drafting.drafted import Drafted
from mm_assets.drafting.unpacked import holds_archives
from tests.make import draw_image, zipped
from tests.uploads.archives.made import sevened, tarred

ROWS = "\n".join(f"P{n:03},{20 + n},{'yes' if n % 2 else 'no'}" for n in range(60))
FILES = {
    "data/t.csv": f"patient_id,age,label\n{ROWS}\n".encode(),
    **{f"data/photos/P{n:03}.png": draw_image(n) for n in range(40)},
}


def drafted(path: Path, monkeypatch: pytest.MonkeyPatch, **named: str) -> Drafted:
    monkeypatch.setenv("MM_ROOT", str(path.parent / "project"))
    monkeypatch.chdir(path.parent)
    made = mm.draft(str(path), replace=True, say=lambda _: None, **named).drafted
    assert made is not None
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, data in FILES.items():
        path = tmp_path / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "folder"


def test_an_archive_and_its_folder_are_the_same(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = drafted(folder, monkeypatch)
    assert not holds_archives(folder)
    assert plain.tried == "tried on the first 60 rows and 40 images"
    packed = {
        "a.zip": zipped(FILES), "a.tar": tarred(FILES), "a.tgz": gzip.compress(tarred(FILES)),
        "a.7z": sevened(FILES),
    }  # fmt: skip
    for name, data in packed.items():
        (tmp_path / name).write_bytes(data)
        made = drafted(tmp_path / name, monkeypatch)
        assert (made.text, made.notes, made.tried) == (plain.text, plain.notes, plain.tried), name


def test_an_archive_in_a_folder_is_looked_into(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = drafted(folder, monkeypatch)
    beside = tmp_path / "beside"
    beside.mkdir()
    (beside / "t.csv").write_bytes(FILES["data/t.csv"])
    images = {name: data for name, data in FILES.items() if name.endswith(".png")}
    (beside / "images.zip").write_bytes(zipped(images))
    made = drafted(beside, monkeypatch)
    assert (made.text, made.notes, made.tried) == (plain.text, plain.notes, plain.tried)
    assert (beside / "t.csv").read_bytes() == FILES["data/t.csv"]


def test_images_beyond_what_is_looked_at_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.zip").write_bytes(zipped(FILES))
    monkeypatch.setattr(module, "IMAGE_BYTES", sum(len(draw_image(n)) for n in range(5)))
    made = drafted(tmp_path / "a.zip", monkeypatch)
    assert made.tried.startswith("tried on the first 60 rows and ")
    assert "40 of 40 images" in " ".join(made.notes)
    assert made.ended is not None
    assert made.ended.end is End.USED


def test_classes_in_folders_may_be_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {f"set/{'cats' if n % 2 else 'dogs'}/{n}.png": draw_image(n) for n in range(20)}
    (tmp_path / "a.zip").write_bytes(zipped(files))
    made = drafted(tmp_path / "a.zip", monkeypatch)
    assert "image_name: '{label}/{id}'" in made.text
    assert made.dataset == "a"


def test_a_webdataset_is_drafted_from_its_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files: dict[str, bytes] = {}
    for n in range(60):
        files[f"{n:04}.jpg"] = draw_image(n, "JPEG")
        files[f"{n:04}.cls"] = b"cat" if n % 2 else b"dog"
        files[f"{n:04}.json"] = b'{"age": %d.5}' % n
    (tmp_path / "pets.tar").write_bytes(tarred(files))
    made = drafted(tmp_path / "pets.tar", monkeypatch, name="pets")
    assert "id_column: __key__" in made.text
    assert "label_column: cls" in made.text
    assert "age: number" in made.text
    assert made.tried == "tried on the first 60 rows and 60 images"


def test_shards_in_a_folder_are_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pets").mkdir()
    for shard in range(3):
        files: dict[str, bytes] = {}
        for n in range(20 * shard, 20 * shard + 20):
            files[f"{n:04}.png"] = draw_image(n)
            files[f"{n:04}.cls"] = b"cat" if n % 2 else b"dog"
        (tmp_path / "pets" / f"train-{shard:04}.tar").write_bytes(tarred(files))
    made = drafted(tmp_path / "pets", monkeypatch)
    assert made.dataset == "pets"
    assert made.tried == "tried on the first 60 rows and 60 images"


def test_what_is_to_be_done_names_the_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "my data.zip"
    path.write_bytes(zipped({"t.csv": b"id,a,b\n" + b"".join(b"%d,1,2\n" % n for n in range(9))}))
    with pytest.raises(SpecError) as caught:
        drafted(path, monkeypatch)
    assert caught.value.code == "init_unclear"
    assert caught.value.todo.startswith(f"Say it: mm init '{path}' --id id --label ")
    path.write_bytes(zipped({"t.csv": b"id,label\n", "u.csv": b"id,label\n"}))
    with pytest.raises(SpecError, match=r"t\.csv, u\.csv") as caught:
        drafted(path, monkeypatch)
    assert caught.value.where == str(path)
    assert caught.value.todo.startswith("Unpack it, and name the table")


def test_a_hostile_archive_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.zip"
    for name in ("../../out.csv", "/etc/x.csv", "a\\..\\b.csv"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(zipfile.ZipInfo(name), "id,label\n")
        with pytest.raises(SpecError) as caught:
            drafted(path, monkeypatch)
        assert caught.value.code == "archive_unsafe_name"
    path.write_bytes(zipped(FILES)[:-200])
    with pytest.raises(SpecError) as caught:
        drafted(path, monkeypatch)
    assert caught.value.code == "archive_unreadable"
    assert caught.value.todo
    assert not list(tmp_path.rglob("out.csv"))
