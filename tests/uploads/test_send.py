"""The sending side: what it says beforehand, what it puts where, and how it resumes."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.errors import LakeError, MMError, UploadError
from mm_assets.contract.settings import Settings
from mm_assets.drafting.image_names import has_images_beside
from mm_assets.lake import s3 as lake_s3
from mm_assets.lake.lake import Lake
from mm_assets.lake.local import sha256_of
from mm_assets.uploads.check import list_folder
from mm_assets.uploads.find import announced_files, find_uploads
from mm_assets.uploads.receive import receive
from mm_assets.uploads.send import PART, check, safe_name, send
from tests.faults import (
    Fault,
    FaultyProxy,
    Forward,
    Request,
    answer,
    first,
    flip_sent_byte,
    is_,
    lose_answer,
    reset,
)
from tests.make import draw_image, plain_image

PREFIX = "inbox/pets/delivery/"
HASTY = lake_s3.Patience(
    attempts=3, retrying=3.0, connecting=1.0, silence=2.0, pause=0.01, longest_pause=0.05
)


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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty images and a table, as a person would have them."""
    folder = tmp_path / "delivery"
    (folder / "images").mkdir(parents=True)
    ids = [f"P{i:02d}" for i in range(20)]
    rows = "".join(f"{name},{i},yes\n" for i, name in enumerate(ids))
    (folder / "pets.csv").write_text("id,age,label\n" + rows)
    for i, name in enumerate(ids):
        image = plain_image((i * 10, 90, 60), kind="JPEG")
        (folder / "images" / f"{name}-1.jpg").write_bytes(image)
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


def test_a_table_alone_is_an_upload(
    counting: CountingLake, folder: Path, spec: DatasetSpec, tmp_path: Path
) -> None:
    table = next(folder.rglob("*.csv"))
    sent = send(counting, table, "pets")
    assert (sent.kind, sent.name, sent.files) == ("folder", table.name, 1)
    assert send(counting, table, "pets").already_there
    source = find_uploads(counting, "pets").finished[0]
    receipt = receive(counting, spec, source, run_id="r", progress=lambda _text: None)
    assert receipt["counts"] == check(table, spec).counts
    assert receipt["counts"]["rows"] > 0
    (tmp_path / "a#1").write_bytes(table.read_bytes())
    with pytest.raises(UploadError, match="ends in # and digits"):
        send(counting, tmp_path / "a#1", "pets")


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


def test_what_the_project_keeps_for_itself_is_not_sent_with_its_whole_folder(
    folder: Path, spec: DatasetSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MM_ROOT", str(folder))
    for name in ("MM_LAKE", "MM_TABLE", "MM_DATA", "MM_DEFS", "DAGSTER_HOME"):
        monkeypatch.delenv(name, raising=False)
    before = [file.name for file in list_folder(folder)[0]]
    for name in (
        "data/lake/x.csv", "data/monitoring/pets/a.png", "data/dagster/x.db",
        "data/predictions.duckdb", "data/cache/m.json", "defs/pets/defs.yaml",
    ):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    (folder / "data/mine.png").write_bytes(draw_image(1))
    files, left_out, _ = list_folder(folder)
    assert [file.name for file in files] == sorted([*before, "data/mine.png"])
    assert left_out == [
        "data/cache/", "data/dagster/", "data/lake/", "data/monitoring/", "data/predictions.duckdb",
        "defs/",
    ]  # fmt: skip
    assert has_images_beside(folder / "x.csv")
    (folder / "data/mine.png").unlink()
    for file in before:
        (folder / file).unlink()
    assert not has_images_beside(folder / "x.csv")


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
    (folder / "a\\b.jpg").write_bytes(plain_image((100, 90, 60), kind="JPEG"))
    (folder / "line\nbreak.jpg").write_bytes(plain_image((100, 90, 60), kind="JPEG"))
    (folder / "half#12").write_text("x")
    (folder / os.fsdecode(b"\xff.jpg")).write_bytes(plain_image((100, 90, 60), kind="JPEG"))
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


# -- interrupted ----------------------------------------------------------------------------------


@pytest.fixture
def proxy(s3_endpoint: str) -> Iterator[FaultyProxy]:
    with FaultyProxy(s3_endpoint) as proxy:
        yield proxy


@pytest.fixture
def hasty(s3_settings: Settings, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """A lake on S3 through the proxy; what fails, fails soon."""
    monkeypatch.setattr(lake_s3, "PATIENCE", HASTY)
    s3_settings.aws_endpoint_url = proxy.url
    return Lake(s3_settings)


def assert_arrived(lake: Lake, folder: Path) -> None:
    """The inbox holds one finished upload, with exactly the files that are in the folder."""
    announced = announced_files(lake.read_json(PREFIX + "upload.json"))
    local = {
        path.relative_to(folder).as_posix(): (path.stat().st_size, sha256_of(path))
        for path in folder.rglob("*")
        if path.is_file()
    }
    assert announced == local
    for name, (_, sha256) in announced.items():
        assert hashlib.sha256(lake.read(PREFIX + name)).hexdigest() == sha256
    assert len(find_uploads(lake, "pets").finished) == 1


def test_faults_that_pass_are_not_noticed_by_the_sender(
    hasty: Lake, proxy: FaultyProxy, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lake_s3, "PATIENCE", replace(HASTY, attempts=8))  # all may meet one file
    (folder / "large.csv").write_bytes(os.urandom(PART + 99))
    busy = answer(503, b"<Error><Code>SlowDown</Code></Error>")
    for skip, fault in enumerate((reset(), busy, lose_answer(), busy, reset(), lose_answer())):
        proxy.add(fault, is_("PUT"), skip=4 * skip)
    proxy.add(lose_answer(), is_("PUT", "upload.json"))
    sent = send(hasty, folder, "pets")
    assert proxy.faults == 7
    assert (sent.files_sent, sent.already_there) == (22, False)
    assert_arrived(hasty, folder)


@pytest.mark.parametrize("fault", [reset(), lose_answer()], ids=["not done", "done, not told"])
def test_a_sending_that_breaks_off_at_any_request_is_never_finished_by_halves_and_resumes(
    hasty: Lake, proxy: FaultyProxy, tmp_path: Path, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lake_s3, "PATIENCE", replace(HASTY, attempts=1))
    lake = Lake(hasty.settings)
    folder = tmp_path / "delivery"
    folder.mkdir()
    for name in ("a.csv", "b.csv", "c.csv"):
        (folder / name).write_bytes(name.encode())
    (folder / "large.csv").write_bytes(os.urandom(PART + 99))
    for number in range(30):
        for item in list(lake.list("inbox/")):
            lake.delete(item.key)
        proxy.clear()
        proxy.add(fault, skip=number)
        proxy.add(reset(), skip=number, times=None)
        stopped = False
        try:
            send(lake, folder, "pets")
        except LakeError:
            stopped = True
        proxy.clear()
        if find_uploads(lake, "pets").finished:
            assert_arrived(lake, folder)
        send(lake, folder, "pets")
        assert_arrived(lake, folder)
        assert send(lake, folder, "pets").already_there
        if not stopped:
            break
    assert 6 < number < 30


KILLED = """
import os, signal, sys
from pathlib import Path
from mm_assets.lake.lake import Lake
from mm_assets.contract.settings import Settings
from mm_assets.uploads.send import send
names = []
def progress(done, total, file):
    names.append(file)
    if len([name for name in names if name]) >= int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
send(Lake(Settings.from_environment()), Path(sys.argv[1]), "pets", progress=progress)
"""


def start_sending(folder: Path, stop_after: int = 1000) -> subprocess.Popen[bytes]:
    """Send from a process of its own, which kills itself after so many files."""
    repository = str(Path(__file__).parents[2])
    return subprocess.Popen(
        [sys.executable, "-c", KILLED, str(folder), str(stop_after)],
        env={**os.environ, "PYTHONPATH": repository},
    )


@pytest.mark.parametrize("files", [1, 12])
def test_a_sender_that_is_killed_goes_on_where_it_was(
    settings: Settings, folder: Path, files: int
) -> None:
    assert start_sending(folder, files).wait(60) == -signal.SIGKILL
    lake = Lake(settings)
    assert not find_uploads(lake, "pets").finished
    there = sum(1 for _ in lake.list(PREFIX))
    assert files <= there < 22
    assert send(lake, folder, "pets").files_sent == 21 - there
    assert_arrived(lake, folder)


@pytest.mark.parametrize("done", [False, True])
def test_a_sender_that_is_killed_at_its_marker_is_finished_or_goes_on(
    hasty: Lake, proxy: FaultyProxy, folder: Path, monkeypatch: pytest.MonkeyPatch, done: bool
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    sending: list[subprocess.Popen[bytes]] = []

    def kill(request: Request, forward: Forward) -> None:
        if done:
            forward(request)
        sending[0].kill()

    proxy.add(kill, is_("PUT", "upload.json"))
    sending.append(start_sending(folder))
    assert sending[0].wait(60) == -signal.SIGKILL
    assert len(find_uploads(hasty, "pets").finished) == int(done)
    sent = send(hasty, folder, "pets")
    assert (sent.already_there, sent.files_sent) == (done, 0)
    assert_arrived(hasty, folder)


def test_bytes_that_change_on_their_way_are_noticed_and_sent_again(
    hasty: Lake, proxy: FaultyProxy, folder: Path, spec: DatasetSpec
) -> None:
    """S3 itself refuses them by their sha256; the test server does not look."""
    proxy.add(flip_sent_byte(3), is_("PUT", "P07-1.jpg"))
    send(hasty, folder, "pets")
    source = find_uploads(hasty, "pets").finished[0]
    receipt = receive(hasty, spec, source, run_id="r", progress=lambda _: None)
    assert receipt["quarantined_by_code"] == {"checksum_differs": 1}
    sent = send(hasty, folder, "pets")
    assert (sent.files_sent, sent.already_there) == (1, False)
    assert_arrived(hasty, folder)


def test_a_file_that_changes_while_it_is_sent_is_announced_as_it_was_sent(
    hasty: Lake, proxy: FaultyProxy, tmp_path: Path
) -> None:
    folder = tmp_path / "delivery"
    folder.mkdir()
    for name in ("a.bin", "b.bin"):
        (folder / name).write_bytes(os.urandom(PART * 3))

    def grow() -> None:
        with (folder / "a.bin").open("ab") as file:
            file.write(b"more")

    proxy.add(first(grow), is_("PUT", "a.bin"))
    send(hasty, folder, "pets")
    announced = announced_files(hasty.read_json(PREFIX + "upload.json"))
    stored = hasty.read(PREFIX + "a.bin")
    assert announced["a.bin"] == (len(stored), hashlib.sha256(stored).hexdigest())
