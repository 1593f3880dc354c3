"""The sending side: what it says beforehand, what it puts where, and how it resumes."""

from __future__ import annotations

import io
import os
import threading
import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mm_assets.dataset import DatasetSpec
from mm_assets.errors import MMError, UploadError
from mm_assets.lake import Lake, sha256_of
from mm_assets.settings import Settings
from mm_assets.uploads.find import announced_files, find_uploads
from mm_assets.uploads.receive import receive
from mm_assets.uploads.send import PART, check, safe_name, send

PREFIX = "inbox/pets/delivery/"


class CountingLake(Lake):
    """A lake that notes every key that is written, in order."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.written: list[str] = []
        self._turn = threading.Lock()

    def write(self, key: str, data: Any) -> None:
        super().write(key, data)
        with self._turn:
            self.written.append(key.removeprefix(PREFIX))

    def create_json(self, key: str, document: dict[str, Any]) -> bool:
        created = super().create_json(key, document)
        self.written.append(key.removeprefix(PREFIX))
        return created


@pytest.fixture
def counting(settings: Settings) -> CountingLake:
    return CountingLake(settings)


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


def jpeg(shade: int = 100) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), (shade, 90, 60)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty pictures and a table, as a person would have them."""
    folder = tmp_path / "delivery"
    (folder / "images").mkdir(parents=True)
    ids = [f"P{i:02d}" for i in range(20)]
    rows = "".join(f"{name},{i},yes\n" for i, name in enumerate(ids))
    (folder / "pets.csv").write_text("id,age,label\n" + rows)
    for i, name in enumerate(ids):
        (folder / "images" / f"{name}-1.jpg").write_bytes(jpeg(i * 10))
    return folder


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


class Stop(Exception):
    pass


def stop_after(count: int) -> Any:
    seen: list[str] = []

    def progress(_done: int, _total: int, file: str) -> None:
        seen.append(file)
        if len([name for name in seen if name]) >= count:
            raise Stop

    return progress


# -- sending a folder -----------------------------------------------------------------------------


def test_a_folder_arrives_whole_and_its_marker_is_written_last(
    counting: CountingLake, folder: Path
) -> None:
    told: list[tuple[int, int, str]] = []
    sent = send(counting, folder, "pets", progress=lambda *now: told.append(now))
    assert (sent.files, sent.files_sent, sent.already_there) == (21, 21, False)
    assert counting.written[-1] == "upload.json"
    assert counting.written.count("upload.json") == 1
    announced = announced_files(counting.read_json(PREFIX + "upload.json"))
    for name, (size, sha256) in announced.items():
        local = folder / name
        assert (size, sha256) == (local.stat().st_size, sha256_of(local))
        assert counting.read(PREFIX + name) == local.read_bytes()
    assert len(announced) == 21
    assert told[-1][0] == told[-1][1] == sent.bytes == sent.bytes_sent
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)


def test_the_receiving_side_takes_what_was_sent(
    counting: CountingLake, folder: Path, spec: DatasetSpec
) -> None:
    send(counting, folder, "pets")
    found = find_uploads(counting, "pets")
    assert len(found.finished) == 1
    assert not found.waiting
    receipt = receive(counting, spec, found.finished[0], run_id="r", progress=lambda _text: None)
    assert receipt["counts"] == check(folder, spec).counts
    assert receipt["counts"]["images"] == 20


def test_after_an_interruption_only_the_rest_is_sent(counting: CountingLake, folder: Path) -> None:
    with pytest.raises(Stop):
        send(counting, folder, "pets", progress=stop_after(3))
    first = list(counting.written)
    assert 3 <= len(first) < 21
    assert "upload.json" not in first
    assert not find_uploads(counting, "pets").finished

    counting.written.clear()
    sent = send(counting, folder, "pets")
    assert sorted(first + counting.written[:-1]) == sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )
    assert sent.files_sent == 21 - len(first)
    assert counting.written[-1] == "upload.json"
    assert len(find_uploads(counting, "pets").finished) == 1


def test_a_file_that_changed_since_the_interruption_is_sent_again(
    counting: CountingLake, folder: Path
) -> None:
    with pytest.raises(Stop):
        send(counting, folder, "pets", progress=stop_after(20))
    path = folder / counting.written[0]
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))  # the same size
    counting.written.clear()
    send(counting, folder, "pets")
    assert path.relative_to(folder).as_posix() in counting.written
    assert counting.read(PREFIX + path.relative_to(folder).as_posix()) == path.read_bytes()


def test_the_same_folder_sent_twice_is_one_delivery(counting: CountingLake, folder: Path) -> None:
    send(counting, folder, "pets")
    marker = counting.read(PREFIX + "upload.json")
    counting.written.clear()
    again = send(counting, folder, "pets")
    assert again.already_there
    assert again.files_sent == 0
    assert not counting.written
    assert counting.read(PREFIX + "upload.json") == marker


def test_a_finished_delivery_that_lost_a_file_gets_it_back(
    counting: CountingLake, folder: Path
) -> None:
    send(counting, folder, "pets")
    counting.delete(PREFIX + "pets.csv")
    assert not find_uploads(counting, "pets").finished
    counting.written.clear()
    sent = send(counting, folder, "pets")
    assert counting.written == ["pets.csv"]
    assert not sent.already_there
    assert len(find_uploads(counting, "pets").finished) == 1


def test_other_content_under_a_name_that_is_taken_is_refused_and_changes_nothing(
    counting: CountingLake, folder: Path
) -> None:
    send(counting, folder, "pets")
    before = {item.key: counting.read(item.key) for item in counting.list(PREFIX)}
    table = folder / "pets.csv"
    table.write_text(table.read_text().replace("P00,0,yes", "P00,0,no!"))  # the same size
    with pytest.raises(UploadError, match="--name") as error:
        send(counting, folder, "pets")
    assert error.value.code == "name_taken"
    (folder / "more.csv").write_text("id,age\n")
    with pytest.raises(UploadError) as error:
        send(counting, folder, "pets")
    assert error.value.code == "name_taken"
    assert {item.key: counting.read(item.key) for item in counting.list(PREFIX)} == before

    sent = send(counting, folder, "pets", name="delivery-2")
    assert sent.key == "inbox/pets/delivery-2/"
    assert len(find_uploads(counting, "pets").finished) == 2


def test_an_unfinished_delivery_of_somebody_else_is_not_mixed_with_ours(
    counting: CountingLake, folder: Path
) -> None:
    counting.write(PREFIX + "theirs.csv", b"id\n")
    counting.written.clear()
    with pytest.raises(UploadError, match=r"theirs\.csv") as error:
        send(counting, folder, "pets")
    assert error.value.code == "name_taken"
    assert not counting.written


def test_a_marker_that_appears_meanwhile_is_respected(counting: CountingLake, folder: Path) -> None:
    theirs = {"files": [{"name": "x.csv", "size": 3, "sha256": "0" * 64}]}

    def progress(done: int, total: int, _file: str) -> None:
        if done == total:
            Lake(counting.settings, counting._s3_client).create_json(PREFIX + "upload.json", theirs)

    with pytest.raises(UploadError) as error:
        send(counting, folder, "pets", progress=progress)
    assert error.value.code == "name_taken"
    assert counting.read_json(PREFIX + "upload.json") == theirs


def test_the_same_files_delivered_anew_are_another_upload(
    counting: CountingLake, folder: Path
) -> None:
    send(counting, folder, "pets")
    first = find_uploads(counting, "pets").finished[0].upload
    for item in list(counting.list(PREFIX)):
        counting.delete(item.key)
    send(counting, folder, "pets")
    assert find_uploads(counting, "pets").finished[0].upload != first


def test_large_files_travel_in_parts_and_are_recognised_again(
    counting: CountingLake, tmp_path: Path
) -> None:
    folder = tmp_path / "delivery"
    folder.mkdir()
    for name in ("a.bin", "b.bin"):
        (folder / name).write_bytes(os.urandom(PART * 2 + 12_345))
    told: list[int] = []
    with pytest.raises(Stop):
        send(counting, folder, "pets", progress=stop_after(1))
    assert len(counting.written) == 1
    counting.written.clear()
    sent = send(counting, folder, "pets", progress=lambda done, _total, _file: told.append(done))
    assert sent.files_sent == 1
    assert len(counting.written) == 2
    announced = announced_files(counting.read_json(PREFIX + "upload.json"))
    assert announced["a.bin"][1] == sha256_of(folder / "a.bin")
    assert announced["b.bin"][1] == sha256_of(folder / "b.bin")
    assert send(counting, folder, "pets").already_there


def test_hidden_and_system_files_stay_here_and_are_mentioned(
    counting: CountingLake, folder: Path, spec: DatasetSpec
) -> None:
    left_out = [".DS_Store", ".git/", "__MACOSX/", "images/Thumbs.db", "upload.json"]
    for name in left_out:
        if name.endswith("/"):
            (folder / name).mkdir()
            (folder / name / "config").write_text("x")
        else:
            (folder / name).write_text("x")
    assert send(counting, folder, "pets").left_out == left_out
    assert not {"upload.json", ".DS_Store"} & set(counting.written[:-1])
    report = check(folder, spec)
    assert report.left_out == left_out
    assert not report.problems
    assert report.refused is None


def test_a_symbolic_link_or_an_unsafe_name_is_refused_before_anything_is_sent(
    counting: CountingLake, folder: Path, spec: DatasetSpec
) -> None:
    (folder / "link.csv").symlink_to("/etc/passwd")
    (folder / "linked").symlink_to(folder / "images")
    (folder / "a\\b.jpg").write_bytes(jpeg())
    (folder / "line\nbreak.jpg").write_bytes(jpeg())
    (folder / "half#12").write_text("x")
    (folder / os.fsdecode(b"\xff.jpg")).write_bytes(jpeg())
    os.mkfifo(folder / "pipe")
    with pytest.raises(UploadError, match="symbolic link") as error:
        send(counting, folder, "pets")
    assert error.value.code == "unsafe_name"
    assert "7 of the files" in str(error.value)
    assert not counting.written
    report = check(folder, spec)
    assert report.refused is not None
    assert report.refused.code == "unsafe_name"
    assert report.problems_by_code == {"unsafe_name": 7}
    str(error.value).encode()


def test_strange_but_safe_names_arrive_as_they_are(counting: CountingLake, tmp_path: Path) -> None:
    folder = tmp_path / "delivery"
    folder.mkdir()
    names = [
        "a b.jpg", "100%20.jpg", "a#1.jpg", "~x.jpg", "ä€😀.jpg", " lead.jpg", "trail ", "a:b",
        "{x}^[`].jpg", "+&=;@,$.jpg", "?*|<>\".jpg",
    ]  # fmt: skip
    for name in names:
        (folder / name).write_bytes(name.encode())
    send(counting, folder, "pets")
    assert {item.key.removeprefix(PREFIX) for item in counting.list(PREFIX)} == {
        *names,
        "upload.json",
    }
    assert len(find_uploads(counting, "pets").finished) == 1
    assert send(counting, folder, "pets").already_there


@pytest.mark.parametrize("hidden", [[], [".DS_Store"]])
def test_an_empty_folder_is_refused(
    hidden: list[str], counting: CountingLake, tmp_path: Path, spec: DatasetSpec
) -> None:
    folder = tmp_path / "empty"
    (folder / "sub").mkdir(parents=True)
    for name in hidden:
        (folder / name).write_text("x")
    with pytest.raises(UploadError, match="no file") as error:
        send(counting, folder, "pets")
    assert error.value.code == "upload_empty"
    report = check(folder, spec)
    assert report.refused is not None
    assert report.refused.code == "upload_empty"


# -- sending a zip --------------------------------------------------------------------------------


def test_a_zip_arrives_in_one_object_and_is_recognised_again(
    counting: CountingLake, tmp_path: Path
) -> None:
    path = zipped(tmp_path / "My pets (2).zip", {"big.bin": os.urandom(PART + 99)})
    told: list[tuple[int, int, str]] = []
    sent = send(counting, path, "pets", progress=lambda *now: told.append(now))
    assert sent.key == "inbox/pets/My_pets_2.zip"
    assert counting.read(sent.key) == path.read_bytes()
    assert told[-1] == (sent.bytes, sent.bytes, path.name)
    assert [source.name for source in find_uploads(counting, "pets").finished] == ["My_pets_2.zip"]
    assert send(counting, path, "pets").already_there
    assert len(counting.written) == 1

    zipped(path, {"big.bin": os.urandom(PART + 99)})
    with pytest.raises(UploadError) as error:
        send(counting, path, "pets")
    assert error.value.code == "name_taken"
    assert send(counting, path, "pets", name="other.zip").key == "inbox/pets/other.zip"


def test_an_interrupted_zip_leaves_nothing_that_looks_finished(
    counting: CountingLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = zipped(tmp_path / "slow.zip", {"big.bin": os.urandom(4 * PART)})
    waiting = threading.Event()
    read = io.BufferedReader.read

    def slow_open(self: Path, mode: str = "r", **more: Any) -> Any:
        class Slow(io.BufferedReader):
            def read(self, size: int | None = -1, /) -> bytes:
                if self.tell() >= 2 * PART:
                    waiting.wait(5)
                return read(self, size)

        return Slow(io.FileIO(self))

    def progress(_done: int, _total: int, _file: str) -> None:
        threading.Timer(0.2, waiting.set).start()
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", slow_open)
        with pytest.raises(Stop):
            send(counting, path, "pets", progress=progress)
    assert not find_uploads(counting, "pets").finished
    assert not send(counting, path, "pets").already_there
    assert counting.read("inbox/pets/slow.zip") == path.read_bytes()


# -- names and kinds ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("autumn 2026", "autumn_2026"), ("Fotos (neu)!", "Fotos_neu"), ("..hidden", "hidden"),
        ("日本", "upload"), ("x" * 150, "x" * 100),
    ],
)  # fmt: skip
def test_a_name_is_made_safe(name: str, safe: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    assert safe_name(tmp_path / name) == safe


@pytest.mark.parametrize("name", ["a/b", "..", "", ".x", "a b", "x" * 101, "a\n"])
def test_a_given_name_that_is_not_safe_is_refused(
    name: str, folder: Path, folder_settings: Settings
) -> None:
    with pytest.raises(UploadError) as error:
        send(Lake(folder_settings), folder, "pets", name=name)
    assert error.value.code == "upload_name"


def test_a_file_that_cannot_be_read_is_an_error_in_words(
    folder: Path, spec: DatasetSpec, folder_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(MMError) as error:
        send(Lake(folder_settings), folder, "pets")
    assert error.value.code == "upload_unreadable"
    report = check(folder, spec)
    assert report.refused is not None
    assert report.refused.code == "upload_unreadable"
